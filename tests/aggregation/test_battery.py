"""Every stage and every chain, through every check."""

from collections.abc import Callable

import pytest

import fairyring.aggregation as room
from tests.aggregation.battery import CHECKS, Case
from tests.aggregation.cases import CASES


@pytest.mark.dealt(3, "case")
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_battery(case: Case, check: Callable[[Case], None]) -> None:
    check(case)


def test_every_public_stage_is_in_the_battery() -> None:
    makers = {name for name in room.__all__ if name[0].islower()} - {"chain", "complete"}
    tried = {case.stage.name.partition("(")[0] for case in CASES}
    assert makers <= tried
