r"""A reader of LaTeX arithmetic: recursive descent over bounded text with bounded values.

The grammar, spaces and sizing commands aside:

    sum       = [sign] product { ("+" | "-") product }
    product   = power { (operator [sign] | nothing, before a bracket, root or binomial) power }
    power     = atom ["!"] ["^" exponent]
    atom      = number | "(" sum ")" | "\{" sum "\}" | "{" sum [unit] "}" | wrapper "{" statement "}"
              | \frac | \sqrt | \binom
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from solver.policy import exact, lexicon
from solver.policy.braces import closing_braces
from solver.policy.exact import Unreadable

_MAX_DEPTH = 24


class Reader:
    """Reads `text` from left to right; its methods raise `Unreadable`.

    `depth` is how deep in the whole expression the text stands, and `statement` reads the content
    of a wrapper such as `\\text{}`, given its depth.
    """

    def __init__(self, text: str, depth: int, statement: Callable[[str, int], Fraction]) -> None:
        self._text = text
        self._depth = depth
        self._statement = statement
        self._at = 0
        self._brackets = 0
        self._closing = closing_braces(text)

    def whole(self) -> Fraction:
        """The value of all of the text; a unit behind it is passed over."""
        value = self._sum()
        self._units()
        if self._at < len(self._text):
            raise Unreadable
        return value

    def _sum(self) -> Fraction:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Unreadable
        value = self._product()
        while sign := self._take(lexicon.SIGN):
            # No second sign here: `3--4` is a range in TeX.
            if self._peek(lexicon.SIGN):
                raise Unreadable
            term = self._product()
            value = exact.bounded(value + term if sign[0] == "+" else value - term)
        self._depth -= 1
        return value

    def _product(self) -> Fraction:
        value = self._signed_power()
        while True:
            if self._take(lexicon.TIMES):
                value = exact.bounded(value * self._signed_power())
            elif self._take(lexicon.OVER):
                value = exact.quotient(value, self._signed_power())
            elif self._peek(lexicon.IMPLICIT):
                value = exact.bounded(value * self._power())
            else:
                return value

    def _signed_power(self) -> Fraction:
        sign = self._take(lexicon.SIGN)
        value = self._power()
        return -value if sign and sign[0] == "-" else value

    def _power(self) -> Fraction:
        value = self._atom()
        if self._take(lexicon.FACTORIAL):
            value = exact.factorial(value)
        if self._peek(lexicon.UNIT) or not self._take(lexicon.POWER):
            return value
        value = exact.power(value, self._exponent())
        if self._peek(lexicon.POWER) or self._peek(lexicon.FACTORIAL):  # which one comes first?
            raise Unreadable
        return value

    def _exponent(self) -> Fraction:
        if self._peek(lexicon.BRACE) or self._peek(lexicon.OPEN):
            return self._atom()
        sign = self._take(lexicon.SIGN)
        # 2^10 is meant as 2^{10}, whatever TeX makes of it.
        exponent = Fraction(self._required(lexicon.DIGITS)[0])
        return -exponent if sign and sign[0] == "-" else exponent

    def _atom(self) -> Fraction:
        if function := self._take(lexicon.FUNCTION):
            return self._function(function.lastindex or 0)
        if opening := self._take(lexicon.OPEN):
            self._brackets += 1
            value = self._sum()
            self._required(lexicon.CLOSE[opening[0]])
            self._brackets -= 1
            return value
        if self._take(lexicon.WRAPPER):
            return self._wrapped()
        if self._take(lexicon.BRACE):
            value = self._sum()
            self._units()
            self._required(lexicon.END_BRACE)
            return value
        return self._number()

    def _function(self, which: int) -> Fraction:
        argument = self._argument()
        if which == 3:
            return exact.square_root(argument)
        second = self._argument()
        return exact.quotient(argument, second) if which == 1 else exact.binomial(argument, second)

    def _argument(self) -> Fraction:
        if self._peek(lexicon.BRACE):
            return self._atom()
        return Fraction(int(self._required(lexicon.DIGIT)[0]))  # \frac12 is one half

    def _wrapped(self) -> Fraction:
        start = self._at
        end = self._closing.get(start)
        if end is None or self._depth >= _MAX_DEPTH:
            raise Unreadable
        self._at = end + 1
        return self._statement(self._text[start + 1 : end], self._depth)

    def _number(self) -> Fraction:
        number = self._take(lexicon.GROUPED)
        if number is None and not self._brackets:  # (1,234) is a pair
            number = self._take(lexicon.COMMAS)
        if number is None:
            number = self._required(lexicon.PLAIN)
        return exact.bounded(Fraction(lexicon.SEPARATOR.sub("", number[0])))

    def _units(self) -> None:
        while unit := self._take(lexicon.UNIT):
            for words in filter(None, unit.groups()):
                if lexicon.NOT_A_UNIT.search(words) or lexicon.SYMBOL.fullmatch(words):
                    raise Unreadable

    def _required(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = self._take(pattern)
        if match is None:
            raise Unreadable
        return match

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = self._peek(pattern)
        if match:
            self._at = match.end()
            self._skip_space()
        return match

    def _peek(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self._skip_space()
        return pattern.match(self._text, self._at)

    def _skip_space(self) -> None:
        space = lexicon.SPACE.match(self._text, self._at)
        if space:
            self._at = space.end()
