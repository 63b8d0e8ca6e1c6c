"""Opening the engine: on a server of its own or on others, and what happens when one comes back changed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any

import pytest

from solver.config import SolverConfig
from solver.embedded.paths import WEIGHTS
from solver.engines.vllm import open as module
from solver.engines.vllm import supervised
from solver.engines.vllm.attached import Attached
from solver.engines.vllm.engine import VllmEngine
from solver.engines.vllm.handshake import Expected
from solver.engines.vllm.open import open_vllm
from solver.engines.vllm.verified import VerifiedHost
from solver.errors import ConfigError, EngineError, ModelError
from solver.scorers.stop import StopScorer
from solver.types import Trajectory
from tests.engines.vllm_hosts import fake_process
from tests.engines.vllm_hosts.conftest import Told, flags, num_starts, pids, runs
from tests.engines.vllm_hosts.fake_process import Play
from tests.support.fake_vllm import InThread

ADAPTER = WEIGHTS.parent / "stop"
LOGIT = -0.4935  # of the prefix stored with it
FITS = Play(logit=LOGIT)

Open = Callable[..., Awaitable[VllmEngine]]


@pytest.fixture
def opens(told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens engines on the embedded model, where the fake is installed as vLLM."""
    monkeypatch.setattr(module, "PROGRAM", (sys.executable, "-I", fake_process.__file__))
    monkeypatch.setattr(module, "find_spec", lambda name: object())

    async def opened(
        *servers: str, play: Play = FITS, adapter: Path | None = ADAPTER, **settings: Any
    ) -> VllmEngine:
        play.folder = str(tmp_path)
        monkeypatch.setenv("FAKE_PLAY", json.dumps(asdict(play)))
        vllm = {"servers": servers, "start_limit_s": 60.0}
        config = SolverConfig.model_validate(
            {"model": {"engine": "vllm", "device": "cpu"}, "vllm": vllm, **settings}
        )
        return await open_vllm(
            config,
            WEIGHTS,
            adapter,
            candidates=False,
            log_folder=tmp_path,
            say=told.said.append,
            on_incident=told.incidents.append,
        )

    return opened


async def test_a_server_of_its_own_is_started_with_the_adapter_and_ends_with_the_engine(
    opens: Open, tmp_path: Path
) -> None:
    async with await opens() as engine:
        capabilities = engine.capabilities
        assert (capabilities.context_length, capabilities.vocab_size) == (512, 1024)
        assert capabilities.dtype == "float32"
        assert await engine.stop_logits([("a", [1, 2])]) == [pytest.approx(LOGIT)]
    given = flags(tmp_path, 1)
    assert fake_process.value(given, "--model") == str(WEIGHTS)
    assert "StopLlamaForCausalLM" in str(fake_process.value(given, "--hf-overrides"))
    assert not any(runs(pid) for pid in pids(tmp_path))


async def test_without_an_adapter_nothing_of_the_plugin_is_asked_for(
    opens: Open, tmp_path: Path
) -> None:
    async with await opens(adapter=None, play=Play(logit=None)) as engine:
        with pytest.raises(EngineError, match="without an adapter"):
            await engine.stop_logits([("a", [1, 2])])
    assert "--hf-overrides" not in flags(tmp_path, 1)


async def test_running_servers_are_used_and_left_alone(
    opens: Open, in_thread: Callable[..., InThread], tmp_path: Path
) -> None:
    servers = [in_thread(logit=LOGIT, context_length=length) for length in (512, 256)]
    async with await opens(*(f"{server.url}/v1" for server in servers)) as engine:
        assert engine.capabilities.context_length == 256
        assert engine.capabilities.dtype == "unknown"
    assert not num_starts(tmp_path) and not (tmp_path / "vllm.log").exists()
    async with await opens(servers[1].url):
        pass


def another_prefix(folder: Path) -> Path:
    """The adapter as if it had been saved with another score."""
    shutil.copytree(ADAPTER, folder)
    path = folder / "stop.json"
    spec = json.loads(path.read_text())
    spec["handshake"]["logit"] += 1
    path.write_text(json.dumps(spec))
    return folder


async def test_the_scorer_does_not_repeat_the_handshake_that_the_servers_have_shaken(
    opens: Open, in_thread: Callable[..., InThread], tmp_path: Path
) -> None:
    fake = in_thread(logit=LOGIT)

    async def scorer(engine: VllmEngine, adapter: Path) -> StopScorer:
        return await StopScorer.open(
            engine, adapter, WEIGHTS, marks=[32], dialect="fenced", prompt="bare"
        )

    async with await opens(fake.url) as engine:
        asked = fake.server.asked
        made = await scorer(engine, ADAPTER)
        assert fake.server.asked == asked
        assert await made.score([Trajectory("p", 0, 0, (1, 2))], inf) == [pytest.approx(LOGIT)]
        with pytest.raises(
            ModelError, match="when it was saved"
        ):  # of another adapter they know none
            await scorer(engine, another_prefix(tmp_path / "other"))
    async with await opens(fake.url, adapter=None) as engine:
        with pytest.raises(EngineError, match="without an adapter"):
            await scorer(engine, ADAPTER)


async def test_one_server_that_does_not_fit_is_enough_to_refuse_all(
    opens: Open, in_thread: Callable[..., InThread]
) -> None:
    good, bad = in_thread(logit=LOGIT), in_thread(logit=None)
    with pytest.raises(ModelError, match=r"serves no STOP adapter.*stop_adapter") as caught:
        await opens(good.url, bad.url)
    assert bad.url in str(caught.value)
    with pytest.raises(ConfigError, match="given twice"):
        await opens(good.url, f"{good.url}/v1")


async def test_a_server_of_its_own_that_does_not_fit_is_ended(opens: Open, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="scores the adapter's stored prefix"):
        await opens(play=Play(logit=LOGIT + 1))
    assert pids(tmp_path) and not any(runs(pid) for pid in pids(tmp_path))


async def test_without_vllm_it_is_said_where_there_is_one(
    opens: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"vLLM is not installed here: .* -m pip install"):
        await opens()


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:99"])
async def test_a_device_that_is_not_there_is_refused(opens: Open, device: str) -> None:
    with pytest.raises(ModelError, match=r"device"):
        await opens(model={"engine": "vllm", "device": device})


async def test_another_mark_is_refused_before_anything_is_started(
    opens: Open, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="trained for mark 32"):
        await opens(prune={"mark": 33})
    assert not num_starts(tmp_path)


async def test_a_server_that_dies_at_its_first_requests_is_started_again(
    opens: Open, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervised, "_FIRST_WAIT_S", 0.01)
    with pytest.raises(EngineError, match="given up after 5 restarts in a row"):
        await opens(play=Play(logit=LOGIT, requests=3))
    assert "CUDA error: an illegal memory access" in told.incidents[0]


async def test_a_server_that_comes_back_as_another_one_does_not_serve(
    in_thread: Callable[..., InThread], told: Told
) -> None:
    fake = in_thread()
    config = SolverConfig().vllm
    host = VerifiedHost(
        Attached(fake.url, config, say=told.said.append, on_incident=told.incidents.append),
        Expected(vocab_size=1024, limit_s=60.0, dtype="float32"),
        told.said.append,
    )
    await host.start()
    await host.recover()
    fake.server.context_length = 256  # shorter than what the run began with
    with pytest.raises(
        EngineError, match=r"it is different after its restart: .* context of 256 tokens"
    ):
        await host.recover()
