"""Bounds rounded to a few digits are still bounds."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairyring.core.rounding import at_most


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2.9432, "2.944"),
        (0.1, "0.1"),
        (7.87, "7.87"),
        (8, "8"),
        (0.0, "0"),
        (9.9999, "10"),
        (123456.7, "123500"),
        (float("inf"), "inf"),
    ],
)
def test_it_is_rounded_up_and_only_where_it_must(value: float, words: str) -> None:
    assert at_most(value) == words


@given(st.floats(1e-6, 1e6), st.integers(1, 6))
def test_it_is_never_below_and_less_than_a_digit_above(value: float, digits: int) -> None:
    written, exact = Decimal(at_most(value, digits)), Decimal(repr(value))
    assert exact <= written < exact * (1 + Decimal(10) ** (1 - digits))
