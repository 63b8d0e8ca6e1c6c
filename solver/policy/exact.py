"""Exact arithmetic on small rationals: sizes are estimated first, nothing large is ever computed."""

from __future__ import annotations

import math
from fractions import Fraction

MAX_BITS = 1024  # of a numerator or denominator; 170! still fits
_MAX_FACTORIAL = 170


class Unreadable(Exception):
    """No value that we would compute."""


def bounded(value: Fraction) -> Fraction:
    """`value` itself, or `Unreadable` if it has more than `MAX_BITS` bits."""
    if _bits(value) > MAX_BITS:
        raise Unreadable
    return value


def quotient(dividend: Fraction, divisor: Fraction) -> Fraction:
    """`dividend / divisor`; `Unreadable` for a division by zero."""
    if divisor == 0:
        raise Unreadable
    return bounded(dividend / divisor)


def power(base: Fraction, exponent: Fraction) -> Fraction:
    """`base ** exponent` for whole exponents; `Unreadable` for 0 to the power of 0 or less."""
    times = _whole(exponent)
    if base == 0:
        if times <= 0:
            raise Unreadable
        return base
    if abs(base) == 1:
        return base if times % 2 else Fraction(1)
    if (_bits(base) - 1) * abs(times) > MAX_BITS:  # a lower bound of the result's bits
        raise Unreadable
    return bounded(base**times)


def square_root(value: Fraction) -> Fraction:
    """The root, if it is rational."""
    if value < 0:
        raise Unreadable
    root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
    if root * root != value:
        raise Unreadable
    return root


def factorial(value: Fraction) -> Fraction:
    """`value!`, up to 170!."""
    number = _whole(value)
    if not 0 <= number <= _MAX_FACTORIAL:
        raise Unreadable
    return Fraction(math.factorial(number))


def binomial(upper: Fraction, lower: Fraction) -> Fraction:
    """`upper` choose `lower`, both whole and not negative; 0 if `lower` is the larger."""
    n, k = _whole(upper), _whole(lower)
    if n < 0 or k < 0:
        raise Unreadable
    k = min(k, n - k)
    if k < 0:
        return Fraction(0)
    # With k <= n / 2 the result is at least (n / k)**k and at least 2**k.
    least_bits = k * max(1, n.bit_length() - 1 - k.bit_length())
    if least_bits > MAX_BITS:
        raise Unreadable
    return bounded(Fraction(math.comb(n, k)))


def _whole(value: Fraction) -> int:
    if value.denominator != 1:
        raise Unreadable
    return value.numerator


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())
