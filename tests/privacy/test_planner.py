"""The cost of a budget, against the accountants it stands on."""

import dataclasses
import itertools
import math
import time
from typing import Any

import pytest

from fairyring.cli import _privacy
from fairyring.core.errors import PlanError
from fairyring.privacy import planner
from fairyring.privacy.accounting import Accountant, calibrate
from fairyring.privacy.correlated import choose_bands, noise_error, sensitivity
from fairyring.privacy.participation import AtMost, FixedSize, PoissonSampled
from fairyring.privacy.planner import WAYS, Cost, clients_needed, cost, participation_of, plan_table
from fairyring.privacy.release import Release
from tests.cli.documented import FIELDS

USUAL: dict[str, Any] = {
    "population": 1000,
    "cohort": 50,
    "rounds": 200,
    "epsilon": 4.0,
    "delta": 1e-5,
    "dimension": 10_000,
}


def usual(change: dict[str, Any]) -> dict[str, Any]:
    return USUAL | change


def test_the_ways_to_take_part() -> None:
    assert participation_of("poisson", 1000, 50, 200) == PoissonSampled(0.05)
    assert participation_of("fixed_size", 1000, 50, 200) == FixedSize(50, 1000)
    assert participation_of("in_turn", 1000, 50, 200) == AtMost(10, 20)
    assert participation_of("in_turn_correlated", 1000, 30, 201) == AtMost(7, 33)
    assert participation_of("anybody", 1000, 50, 200) == AtMost(200, 1)


@pytest.mark.parametrize(
    ("population", "cohort", "rounds"), [(10, 3, 20), (7, 7, 5), (100, 1, 250), (9, 4, 17)]
)
def test_devices_that_come_in_turn_keep_to_it(population: int, cohort: int, rounds: int) -> None:
    """Devices in a ring, the next `cohort` of them in each round: no device comes more often or sooner."""
    seen: dict[int, list[int]] = {}
    for place in range(cohort * rounds):
        seen.setdefault(place % population, []).append(place // cohort)
    allowed = participation_of("in_turn", population, cohort, rounds)
    assert isinstance(allowed, AtMost)
    assert max(len(rounds_of) for rounds_of in seen.values()) == allowed.times
    apart = [b - a for rounds_of in seen.values() for a, b in itertools.pairwise(rounds_of)]
    assert min(apart) >= allowed.separation


@pytest.mark.parametrize("way", WAYS)
def test_a_cost_fits_the_budget_and_hardly_less_does_not(way: str) -> None:
    result = cost(way, **USUAL)
    accountant = Accountant(result.participation, USUAL["delta"])
    mechanism = "correlated" if result.bands else "gaussian"
    assert accountant.fits({Release(mechanism, result.multiplier, result.bands): 200}, 4.0)
    assert not accountant.fits({Release(mechanism, result.multiplier * 0.99, result.bands): 200}, 4.0)
    assert result.noise == pytest.approx(result.effective / 50)
    assert result.signal_to_noise == pytest.approx(1 / (result.noise * 100))
    assert cost(way, **USUAL, norm=0.25).signal_to_noise == pytest.approx(result.signal_to_noise / 4)


def test_correlated_noise_is_compared_by_the_error_of_the_model() -> None:
    independent, correlated = cost("in_turn", **USUAL), cost("in_turn_correlated", **USUAL)
    bands = choose_bands(200, 10, 20)
    assert correlated.bands == bands > 1
    assert correlated.multiplier > independent.multiplier  # of one release: it takes more
    gain = noise_error(200, bands) * sensitivity(200, bands, 10, 20)
    without = noise_error(200, 1) * sensitivity(200, 1, 10, 20)
    assert correlated.effective / independent.effective == pytest.approx(gain / without, rel=2e-3)


def test_no_assumption_is_free() -> None:
    result = {way: cost(way, **USUAL).effective for way in WAYS}
    assert result["poisson"] < result["in_turn"] < result["anybody"]
    assert result["in_turn_correlated"] < result["in_turn"]
    assert result["fixed_size"] < result["anybody"]


def test_the_table_is_of_cohorts_around_the_given() -> None:
    table = plan_table(**USUAL, ways=("in_turn", "anybody"))
    assert [(row.cohort, row.way) for row in table] == [
        (size, way) for size in (25, 50, 100, 500) for way in ("in_turn", "anybody")
    ]
    assert table[2] == cost("in_turn", **USUAL)
    assert {row.cohort for row in plan_table(**usual({"cohort": 1, "population": 9}), ways=["anybody"])} == {
        1,
        2,
    }


def test_devices_needed_are_enough_and_one_in_a_hundred_fewer_are_not() -> None:
    for way in ("poisson", "in_turn", "in_turn_correlated"):
        result = cost(way, **USUAL)
        needed = clients_needed(result, 2.0)
        assert needed is not None
        # A whole number of devices a round: the ratio of population to cohort stays 20.
        cohort = math.ceil(needed / 20)
        reached = cost(way, **usual({"population": 20 * cohort, "cohort": cohort}))
        assert reached.signal_to_noise * 1.001 >= 2.0
        fewer = cost(way, **(USUAL | {"population": 20 * (cohort - 20), "cohort": cohort - 20}))
        assert fewer.signal_to_noise < 2.0
    assert clients_needed(result, 4.0) == pytest.approx(2 * needed, abs=2)


def test_a_rough_multiplier_is_never_less_than_the_exact_one() -> None:
    for cohort, budget in ((5, 0.5), (100, 2.0)):
        result = cost("poisson", **usual({"cohort": cohort, "epsilon": budget}))
        exact = calibrate(epsilon=budget, delta=1e-5, rounds=200, participation=result.participation)
        assert exact * (1 - 1e-4) <= result.multiplier <= exact * 1.01


def test_a_budget_that_no_noise_keeps_is_told_not_raised() -> None:
    result = cost("poisson", **usual({"epsilon": 1e-12, "delta": 1e-12}))
    assert math.isnan(result.multiplier)
    assert "at least" in result.refused
    assert clients_needed(result) is None


def test_refusals() -> None:
    for change, what in (
        ({"cohort": 2000}, "cohort"),
        ({"population": 0}, "population"),
        ({"rounds": 0}, "rounds"),
        ({"dimension": 0}, "dimension"),
        ({"delta": 1.0}, "delta"),
        ({"epsilon": 0.0}, "epsilon"),
    ):
        for way in ("poisson", "in_turn"):
            with pytest.raises(PlanError, match=what):
                cost(way, **usual(change))
        with pytest.raises(PlanError, match=what):
            plan_table(**usual(change))
    with pytest.raises(PlanError, match="norm"):
        cost("poisson", **USUAL, norm=0.0)
    with pytest.raises(PlanError, match="one of poisson"):
        cost("often", **USUAL)
    with pytest.raises(PlanError, match="target"):
        clients_needed(cost("anybody", **USUAL), 0.0)


def test_the_printed_plan_reads_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    started = time.process_time()
    planned = _privacy.plan(1000, 50, 200, 4.0, 1e-5, 10_000)
    planned.show()
    assert time.process_time() - started < 30  # of a processor shared with others; 10 by itself
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert "\x1b" not in printed
    assert all(len(line.rstrip()) <= 80 for line in lines[2:24])
    assert "1,000 devices, 200 rounds, epsilon 4 at delta 1e-05 for one device, 10,000 parameters." in lines
    assert "exposed" not in printed
    result = cost("anybody", **USUAL)
    row = next(
        line
        for line in lines[lines.index(next(x for x in lines if x.strip().startswith("50 "))) :]
        if "arbitrary" in line
    )
    assert row.split()[-4:] == [
        f"{result.effective:.3g}",
        f"{result.noise:.3g}",
        f"{result.signal_to_noise:.3g}",
        f"{clients_needed(result):,}",
    ]
    assert set(planned.found) == FIELDS["privacy plan"]
    way = next(
        one for one in planned.found["ways"] if one["cohort"] == 50 and one["participation"] == "anybody"
    )
    assert way["multiplier"] == pytest.approx(result.effective, rel=1e-3)


def test_the_printed_plan_says_when_delta_or_budget_are_no_good(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(**_: object) -> tuple[Cost, ...]:
        kept = cost("anybody", **USUAL)
        nan = math.nan
        return (
            dataclasses.replace(
                kept, multiplier=nan, effective=nan, noise=nan, signal_to_noise=nan, refused="Why"
            ),
        )

    monkeypatch.setattr(planner, "plan_table", none)
    _privacy.plan(1000, 50, 200, 4.0, 1e-5, 10_000).show()
    printed = capsys.readouterr().out
    assert "none: Why." in printed
    assert "nan" not in printed
    assert "exposed whole" not in printed
    _privacy.plan(1000, 50, 200, 4.0, 1e-3, 10_000).show()
    assert "exposed whole" in capsys.readouterr().out
