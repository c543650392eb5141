"""Plain arguments are checked in one way, and the errors say what was given."""

import numpy as np
import pytest

from fairyring.core.checks import callable_or_none, number_in, whole_number
from fairyring.core.errors import PlanError


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers_are_pythons_or_numpys(value):
    assert whole_number("Plan rounds", value) == 3
    assert type(whole_number("Plan rounds", value)) is int


@pytest.mark.parametrize("value", [0, -1, 1.0, np.float32(2), True, np.bool_(True), None, "3", 11])
def test_what_is_none_is_refused(value):
    with pytest.raises(
        PlanError, match=r"Plan rounds: given .*expected a whole number from 1 to 10\. Set rounds=1 or more."
    ):
        whole_number("Plan rounds", value, most=10)


def test_numbers_in_a_range():
    wanted = {"expected": "a share", "do": "Give one."}
    assert number_in("dropout", np.float32(0.5), 0, 1, **wanted) == 0.5
    for value in (1.0, -0.1, float("nan"), {}, "0.1", True):
        with pytest.raises(PlanError, match=r"dropout: given .*expected a share\. Give one\."):
            number_in("dropout", value, 0, 1, **wanted)


def test_callables():
    callable_or_none("on_round", None, expected="a function")
    callable_or_none("on_round", print, expected="a function")
    with pytest.raises(PlanError, match="on_round: given 5; expected a function"):
        callable_or_none("on_round", 5, expected="a function")
