"""Ways to judge a prefix at the mark. `NAMES` is what `--scorer` takes."""

NAMES = ("confidence", "random", "none")
