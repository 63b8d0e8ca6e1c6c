r"""What LaTeX arithmetic is spelled with, as patterns. Digits are ASCII digits only."""

from __future__ import annotations

import re

SPACE = re.compile(r"(?:\s|\\[,;:! ]|~|\\q?quad(?![A-Za-z]))*")

_TAIL = r"(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3}(?![0-9]))?"


def _grouped(separator: str) -> re.Pattern[str]:
    """A number with its digits in groups of three, the same separator throughout."""
    return re.compile(rf"[1-9][0-9]{{0,2}}({separator})[0-9]{{3}}(?:\1[0-9]{{3}})*(?![0-9]){_TAIL}")


GROUPED = _grouped(r"(?:\{,\}|,)\\!|\{,\}|\\[,;: ]|~|\\?_")
COMMAS = _grouped(",")
PLAIN = re.compile(rf"[0-9]+{_TAIL}|\.[0-9]+")
SEPARATOR = re.compile(r"[^0-9.eE+-]")
DIGITS = re.compile("[0-9]+")
DIGIT = re.compile("[0-9]")

SIGN = re.compile("[+-]")
TIMES = re.compile(r"\*(?!\*)|\\(?:cdot|times|ast)(?![A-Za-z])")
OVER = re.compile(r"/|\\div(?![A-Za-z])")
IMPLICIT = re.compile(r"[(\[]|\\(?:sqrt|[dt]?binom)(?![A-Za-z])")
POWER = re.compile(r"\^|\*\*")
FACTORIAL = re.compile("!(?!!)")
FUNCTION = re.compile(r"\\(?:[dtc]?(frac)|[dt]?(binom)|(sqrt))(?![A-Za-z])")
OPEN = re.compile(r"[(\[]")
CLOSE = {"(": re.compile(r"\)"), "[": re.compile(r"\]")}
BRACE, END_BRACE = re.compile(r"\{"), re.compile(r"\}")
WRAPPER = re.compile(
    r"\\(?:boxed|fbox|mbox|text(?:rm|bf|it|tt)?|math(?:rm|bf|it|sf)|underline|boldsymbol)\s*(?=\{)"
)

_WORDS = r"\\(?:text(?:rm|bf|it)?|math(?:rm|it)|mbox)\s*\{([^{}0-9]*)\}"
UNIT = re.compile(
    rf"\^\s*(?:\\circ(?![A-Za-z])|\{{\s*\\circ\s*\}}|\{{\s*{_WORDS}\s*\}}|{_WORDS})"
    rf"|\\degree(?![A-Za-z])|°|\\?%|{_WORDS}(?:\^(?:[0-9]|\{{[0-9]\}}))?"
)
NOT_A_UNIT = re.compile(
    r"\b(?:or|and|to|not|nor|mod|modulo|plus|minus|times|base|dozen|hundred|thousand|million"
    r"|billion|trillion|squared|cubed|factorial)\b",
    re.IGNORECASE,
)
