"""What the fence reader adds to a sampled token: the whole reader beside the detokenizer that it needs.

    python -m benchmarks.fences

Both sides are timed in the same process, in turns; the ratio is what matters.
"""

from __future__ import annotations

import time

from transformers import AutoTokenizer

from sandbox.limits import Limits
from solver.dialects.detokenize import Detokenizer
from solver.dialects.fenced import FencedDialect
from solver.embedded.paths import WEIGHTS

TEXT = (
    "We try small cases, since the sum of $a_k$ is known:\n\n- first `n = 1`, then\n- $n = 2$.\n\n"
    "```text\nfor n = 3 we get 12\n```\nHence \\boxed{12} is likely. > 3 is not.\n"
) * 20
ROUNDS = 7


def main() -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(WEIGHTS), local_files_only=True)
    dialect = FencedDialect(tokenizer, "bare", Limits())
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    text_s, reader_s = [], []
    for _ in range(ROUNDS):
        start = time.process_time()
        feed = Detokenizer(dialect.text).feed
        for token_id in ids:
            feed(token_id)
        middle = time.process_time()
        dialect.reader(ids)
        text_s.append(middle - start)
        reader_s.append(time.process_time() - middle)
    text_us, reader_us = (min(s) / len(ids) * 1e6 for s in (text_s, reader_s))
    print(f"detokenizer {text_us:.1f} us a token | reader {reader_us:.1f} us a token")
    print(f"ratio {reader_us / text_us:.3f} over {len(ids)} tokens, best of {ROUNDS}")


if __name__ == "__main__":
    main()
