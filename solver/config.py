"""The resolved configuration of a run: frozen values, checked together, saved with every run.

Durations are seconds, lengths are tokens. Presets, files and `--set` are read in solver/runs/settings.py.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sandbox.limits import Limits
from solver.types import Check


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )


class ModelConfig(_Frozen):
    """Which model is sampled, and how it is talked to."""

    path: str = Field(
        "embedded", description="model folder or GGUF file, or 'embedded' for the shipped model"
    )
    engine: Literal["transformers", "vllm"] = Field(
        "transformers", description="in this process, or a vLLM server"
    )
    dialect: Literal["fenced", "harmony"] = Field("fenced", description="conversation format")
    prompt: str = Field("bare", description="template in prompts/ that renders a problem")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto",
        description="bfloat16 on CUDA; on an x86 CPU int8 for models of more than 200 million parameters,"
        " else float32. int8: linear layers in 8 bits, in process on a CPU",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; default: all cores")
    context_length: int | None = Field(None, ge=16, description="tokens; default: the model's own")
    max_cached_tokens: int | None = Field(
        None,
        ge=16,
        description="tokens in the KV cache of the in-process engine, paused ones too; default: by memory",
    )

    @model_validator(mode="after")
    def _engine_has_dtype(self) -> Self:
        if self.dtype == "int8" and self.engine == "vllm":
            raise ValueError("dtype int8 is the in-process engine's: choose bfloat16 for vllm")
        return self


class VllmConfig(_Frozen):
    """The vLLM engine: the server that is started, or those that already run."""

    servers: tuple[str, ...] = Field(
        (), description="URLs of running servers; none: one is started on this machine"
    )
    args: tuple[str, ...] = Field(
        (), description="further flags of the server, passed on as they are"
    )
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="share of each GPU's memory; lowered once if it does not fit"
    )
    max_num_seqs: int = Field(
        64, ge=1, description="sequences a step; halved once if out of memory"
    )
    start_limit_s: float = Field(1800.0, gt=0, description="most that a start may take")
    silence_s: float = Field(
        60.0, gt=0, description="without a token for so long, a stream's server is probed"
    )
    probe_s: float = Field(10.0, gt=0, description="most that a probe of a silent server may take")
    max_restarts: int = Field(
        5, ge=0, description="starts in a row without a token between them before it is given up"
    )


class HarmonyConfig(_Frozen):
    """The harmony dialect of gpt-oss."""

    reasoning_effort: Literal["low", "medium", "high"] = Field(
        "high", description="how long it thinks"
    )
    tool_description: str | None = Field(
        None,
        description="what the model is told of its python tool; default: prompts/python_tool.md",
    )
    vocabulary: str | None = Field(
        None,
        description="o200k_base.tiktoken or its folder; default: searched for, see docs/vllm.md",
    )


class SamplingConfig(_Frozen):
    """How every trajectory is sampled, and where it ends."""

    temperature: float = Field(1.0, ge=0, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="1 is off")
    top_k: int = Field(0, ge=0, description="0 is off")
    min_p: float = Field(0.0, ge=0, le=1, description="0 is off")
    max_tokens: int = Field(512, ge=1, description="sampled tokens a trajectory")
    max_turns: int = Field(16, ge=1, description="tool calls a trajectory")


class PruneConfig(_Frozen):
    """Launch `launch` trajectories, and at each of `checks` keep the best ones by `scorer`.

    `mark` and `keep` are one check, `stages` are several. With stages, `mark` is that of the first and
    `keep` that of the last; giving others besides is refused.
    """

    launch: int = Field(24, ge=1, description="trajectories a problem")
    keep: int = Field(8, ge=1, description="how many of those at the mark go on")
    mark: int = Field(32, ge=1, description="sampled tokens before the check")
    stages: tuple[Check, ...] | None = Field(
        None, description="several checks, each [mark, keep]: [[32, 16], [64, 8]]; default: one"
    )
    scorer: str = Field("confidence", description="what judges the prefixes at the mark")
    adapter: str | None = Field(
        None,
        description="STOP adapter folder; default: the one shipped for the model, if there is one",
    )
    reward_model: str | None = Field(
        None, description="folder of a reward model; default: the embedded model's verifier"
    )

    @property
    def checks(self) -> tuple[Check, ...]:
        """Where prefixes are judged and how many go on: marks rise, keeps fall."""
        return self.stages or (Check(self.mark, self.keep),)

    @model_validator(mode="before")
    @classmethod
    def _read_stages(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or fields.get("stages") is None:
            return fields
        stages = stages_of(fields["stages"])
        follow = {"mark": stages[0].mark, "keep": stages[-1].keep}
        for key, value in follow.items():
            if fields.get(key, value) != value:
                raise ValueError(
                    f"prune.{key} is {fields[key]}, and {value} by prune.stages: leave one out"
                )
        return {**fields, **follow, "stages": stages}

    @model_validator(mode="after")
    def _keep_fits(self) -> Self:
        most = self.checks[0].keep
        if most > self.launch:
            raise ValueError(f"keep ({most}) is larger than launch ({self.launch})")
        return self


def stages_of(given: object) -> tuple[Check, ...]:
    """Checks whose marks rise and whose keeps fall. Raises ValueError."""
    pairs = given if isinstance(given, list | tuple) else ()
    if not pairs or not all(map(_is_pair, pairs)):
        raise ValueError(
            f"prune.stages = {repr(given)[:60]}: write [mark, keep] for each check, whole numbers from 1 on,"
            " such as [[32, 16], [64, 8]]"
        )
    stages = tuple(Check(*pair) for pair in pairs)
    for one, following in pairwise(stages):
        if following.mark <= one.mark:
            raise ValueError(
                f"prune.stages: marks must rise, but {following.mark} follows {one.mark}"
            )
        if following.keep >= one.keep:
            raise ValueError(
                f"prune.stages: keeps must fall, but {following.keep} follows {one.keep}"
            )
    return stages


def _is_pair(stage: object) -> bool:
    return (
        isinstance(stage, list | tuple)
        and len(stage) == 2
        and all(type(number) is int and number > 0 for number in stage)
    )


VoteRule = Literal["majority", "weighted", "confidence", "entropy", "verified"]


class VoteConfig(_Frozen):
    """What a ballot counts, and when the vote may end before every survivor has voted."""

    rule: VoteRule = Field(
        "majority",
        description="what a ballot counts: 1; weighted: its chance to be right, by prune.scorer; confidence: "
        "the mean confidence of its tokens; entropy: 1 / the entropy of its tail; verified: its chance to be "
        "right, by the last check",
    )
    adapter: str | None = Field(
        None,
        description="STOP adapter folder of the last check; none is shipped yet, so verified needs one",
    )
    stop: Literal["posterior", "certain", "off"] = Field(
        "posterior", description="rule that ends a vote early: see docs/architecture.md"
    )
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="P(leader stays ahead) that is enough"
    )


class AnswerConfig(_Frozen):
    """Which integers are answers. Out of range is no answer, never clamped."""

    minimum: int = Field(0, description="smallest integer that is an answer")
    maximum: int = Field(99_999, description="largest integer that is an answer")
    modulus: int | None = Field(None, ge=1, description="answers are taken modulo this, if given")
    fallback: int | None = Field(None, description="written when nothing else is known")
    ask: bool = Field(
        True, description="ask once for the answer of a trajectory that ended its turn without one"
    )

    @model_validator(mode="after")
    def _range_holds(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"the answer range {self.minimum}:{self.maximum} is empty")
        if not self.minimum <= self.fallback_answer <= self.maximum:
            raise ValueError(
                f"the fallback answer {self.fallback} is outside {self.minimum}:{self.maximum}"
            )
        return self

    @property
    def fallback_answer(self) -> int:
        """What is written when nothing else is known: `fallback`, or what is nearest to 0 in range."""
        return min(max(0, self.minimum), self.maximum) if self.fallback is None else self.fallback


class BudgetConfig(_Frozen):
    """How the time limit is shared out. Shares are of the even share: time left / problems left."""

    problems_at_once: int = Field(
        1, ge=1, description="solved side by side: fills the engine; more are when time is short"
    )
    time_limit_s: float | None = Field(None, gt=0, description="whole run, start-up included")
    problem_limit_s: float | None = Field(None, gt=0, description="most a problem may ever take")
    cap: float = Field(2.5, ge=1, description="most even shares that one problem may take")
    floor: float = Field(
        0.5, ge=0, le=1, description="share of the first even share kept for each problem left"
    )
    answer_share: float = Field(
        0.15, gt=0, lt=1, description="share of a problem's time kept for forced answers"
    )
    answer_reserve_s: float = Field(10.0, gt=0, description="most time kept for forced answers")
    closing_s: float = Field(
        0.5, ge=0, description="kept at the end for writing, until the run has measured it"
    )


class PaceConfig(_Frozen):
    """What problems are expected to take, until the run has measured it; only a time limit asks for it."""

    step_s: float | None = Field(
        None, gt=0, description="seconds of a step of the engine; default: not known"
    )
    stream_s: float = Field(0.0, ge=0, description="seconds more for each trajectory in the step")
    tokens: int | None = Field(
        None, ge=1, description="sampled tokens of a whole trajectory; default: not known"
    )
    tool_s: float = Field(0.0, ge=0, description="seconds of a trajectory's tool calls")
    check_s: float = Field(0.0, ge=0, description="seconds of the check for one prefix")


class SolverConfig(_Frozen):
    """Everything that decides a run."""

    seed: int = Field(0, ge=0, description="of every random draw")
    model: ModelConfig = ModelConfig()
    vllm: VllmConfig = VllmConfig()
    harmony: HarmonyConfig = HarmonyConfig()
    sampling: SamplingConfig = SamplingConfig()
    prune: PruneConfig = PruneConfig()
    vote: VoteConfig = VoteConfig()
    answer: AnswerConfig = AnswerConfig()
    budget: BudgetConfig = BudgetConfig()
    pace: PaceConfig = PaceConfig()
    sandbox: Limits = Limits()
    record: Literal["run", "full"] = Field(
        "run", description="full: finish all trajectories and keep all scores, for solver.replay"
    )
    record_marks: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="further marks at which a full recording keeps the learned scores"
    )

    @model_validator(mode="after")
    def _mark_fits(self) -> Self:
        last = self.prune.checks[-1].mark
        if last > self.sampling.max_tokens:
            raise ValueError(
                f"the mark ({last}) is larger than max_tokens ({self.sampling.max_tokens})"
            )
        if self.record_marks and self.record != "full":
            raise ValueError("record_marks are for full recordings: add record=full")
        return self
