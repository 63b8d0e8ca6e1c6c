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
OPEN = re.compile(r"[(\[]|\\\{")
CLOSE = {"(": re.compile(r"\)"), "[": re.compile(r"\]"), r"\{": re.compile(r"\\\}")}
BRACE, END_BRACE = re.compile(r"\{"), re.compile(r"\}")
_FACES = r"text(?:rm|bf|it|tt|sf|sl|sc|up|normal)?|math(?:rm|bf|it|tt|sf|normal)|mbox|emph|bm|pmb"
WRAPPER = re.compile(rf"\\(?:boxed|fbox|{_FACES}|underline|boldsymbol)\s*(?=\{{)")

_WORDS = rf"\\(?:{_FACES})\s*\{{([^{{}}0-9]*)\}}"
_SQUARE = r"(?:\s*\^\s*(?:[0-9]|\{[0-9]\}))?"
_DEGREE = r"\\circ(?![A-Za-z])|\\degree(?![A-Za-z])"
# Words outside of \text{}: units that are known, or words too long to be products of unknowns.
_SHORT = (
    "mm|cm|dm|km|nm|in|ft|yd|mi|mg|kg|lbs?|oz|m[lL]|c[lL]|d[lL]|sq|hrs?|mins?|secs?|ms|[mk]ph|rpm"
    "|k?W|[kM]?Hz|Pa|rad|deg|pts?|USD|EUR|GBP|men|days?|cups?"
)
_BARE = rf"((?:(?:{_SHORT})(?![A-Za-z])|(?<![0-9])[A-Za-z]{{4,}})(?:[ ./-]+[A-Za-z]+)*\.?)"
UNIT = re.compile(
    rf"(?:\^\s*(?:{_DEGREE}|o(?![A-Za-z])|\{{\s*(?:{_DEGREE}|o)\s*\}})|{_DEGREE}|°)"
    rf"(?:\s*[CFK](?![A-Za-z]))?|\^\s*(?:\{{\s*{_WORDS}\s*\}}|{_WORDS})"
    rf"|\\?%|(?:{_WORDS}|{_BARE}){_SQUARE}"
)
NOT_A_UNIT = re.compile(
    r"\b(?:or|and|to|not|nor|mod|modulo|plus|minus|times|base|dozen|hundred|thousand|million"
    r"|billion|trillion|squared|cubed|factorial|infinity|half|halves|thirds|fourths|fifths|tenths"
    r"|hundredths|thousandths|pi|alpha|beta|gamma|delta|theta|lambda|sigma|omega|sqrt|root)\b"
    r"|[!=<>^_|+*]",
    re.IGNORECASE,
)
# A letter alone is a symbol, not a unit, unless it is one of the units that have one letter.
SYMBOL = re.compile(r"[^A-Za-z]*(?![mgshlLNJWVKCF])[A-Za-z][^A-Za-z]*")
