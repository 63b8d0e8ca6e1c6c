"""How much a forced answer may sample."""

ANSWER_TOKENS = 16  # enough for any integer answer and its closing brace
