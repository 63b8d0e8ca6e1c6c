"""Ways to judge a prefix at the mark. `NAMES` is what `--scorer` takes."""

NAMES = (
    "stop",
    "stop+confidence",
    "confidence",
    "entropy",
    "deepconf",
    "similarity",
    "reward",
    "random",
    "none",
)
READS_STOP = frozenset({"stop", "stop+confidence"})  # those that need an adapter in the engine
READS_CANDIDATES = frozenset({"entropy", "deepconf"})  # those that need the best ids of each draw
GIVES_CHANCES = READS_STOP | {"reward"}  # those whose scores are logits of "this will end right"
