"""A program for tests: runs vLLM in this process on several models in turn, by a file of jobs.

    python tests/vllm/offline.py JOBS.json RESULTS.json

A job has `options` (of `vllm.LLM`) and `prompts`, each with `ids` and `params` (of `SamplingParams`). All
prompts of a job are given to the engine at once, so that its steps are the same in every run. The
result has for each prompt the sampled `ids` and, for each of them, log-probabilities by id (`top`); or
it is the `error` with which the engine was refused.
"""

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}


def run(job: dict[str, Any]) -> Any:
    from vllm import LLM, SamplingParams

    try:
        model = LLM(block_size=32, max_num_batched_tokens=16384, **job["options"])
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    outputs = model.generate(
        [{"prompt_token_ids": prompt["ids"]} for prompt in job["prompts"]],
        [SamplingParams(**sampling(prompt["params"])) for prompt in job["prompts"]],
        use_tqdm=False,
    )
    return [completion(output.outputs[0]) for output in outputs]


def sampling(params: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no numbers as keys."""
    bias = {int(token): value for token, value in params.get("logit_bias", {}).items()}
    return params | {"logit_bias": bias or None}


def completion(output: Any) -> dict[str, Any]:
    top = [{token: entry.logprob for token, entry in step.items()} for step in output.logprobs]
    return {"ids": list(output.token_ids), "top": top}


def main() -> None:
    from vllm.distributed import cleanup_dist_env_and_memory

    jobs, results = json.loads(Path(sys.argv[1]).read_text()), []
    for job in jobs:
        results.append(run(job))
        gc.collect()
        cleanup_dist_env_and_memory()
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
