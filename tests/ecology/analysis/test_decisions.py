"""Decisions: null worlds pass at most at the stated rate, planted chemotaxis is found, each criterion can refuse."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fairyring.core.errors import EcologyError, StatisticsError
from fairyring.ecology.analysis.decisions import (
    WorldAssay,
    chemotaxis_in_configuration,
    chemotaxis_in_world,
    control_limit,
    error_rate,
)
from fairyring.ecology.analysis.rewards import reward_table
from fairyring.ecology.analysis.viability import viability


def world(
    rng: np.random.Generator, index: float, contrast: float, *, blind: float = 1.0, count: int = 40
) -> WorldAssay:
    """Individuals that differ about their world's means."""
    return WorldAssay(
        rng.gamma(9.0, index / 9.0, count),
        np.clip(rng.normal(contrast, 0.15, count), -1, 1),
        rng.gamma(40.0, blind / 40.0, count),
    )


def scrambled(rng: np.random.Generator, count: int, *, contrast: float | None = None) -> list[WorldAssay]:
    """Control worlds as the prototype's: means 1.1 to 1.6, contrasts 0 to .1, or one that hides no index."""
    return [
        world(rng, rng.uniform(1.1, 1.6), rng.uniform(0, 0.1) if contrast is None else contrast)
        for _ in range(count)
    ]


def plain(means: np.ndarray) -> list[WorldAssay]:
    return [WorldAssay(np.array([m]), np.array([0.5]), np.array([1.0])) for m in means]


def test_scrambled_worlds_pass_at_most_at_the_stated_rate() -> None:
    """Also where their contrast would let them: then the index alone decides."""
    rng, passed = np.random.default_rng(0), {None: 0, 0.3: 0}
    for contrast in passed:
        for i in range(100):
            *controls, new = scrambled(rng, 17, contrast=contrast)
            decision = chemotaxis_in_world(new, controls, seed=i, resamples=299)
            assert decision.stated_error == 1 / 17
            passed[contrast] += decision.verdict
    assert passed[None] == 0
    assert passed[0.3] <= 100 / 17 + 3 * math.sqrt(100 * 16 / 17**2)


def test_one_more_world_is_above_the_limit_as_often_as_stated() -> None:
    """The order statistic asks for no shape; an interpolated percentile errs more."""
    rng = np.random.default_rng(1)
    draws = rng.gamma(1.5, size=(2000, 17))
    limits = np.array([control_limit(plain(row[:16]))[0] for row in draws])
    rate = (draws[:, 16] > limits).mean()
    assert rate == pytest.approx(1 / 17, abs=3.5 * math.sqrt(16 / 17**2 / 2000))
    assert (draws[:, 16] > np.percentile(draws[:, :16], 99, axis=1)).mean() > rate


@pytest.mark.parametrize(("count", "rank"), [(3, 3), (16, 16), (98, 98), (99, 99), (199, 198), (299, 297)])
def test_the_limit_is_the_percentile_once_there_are_worlds_enough(count: int, rank: int) -> None:
    limit, error = control_limit(plain(np.random.default_rng(0).permutation(np.arange(1.0, count + 1))))
    assert limit == rank
    assert error == (count + 1 - rank) / (count + 1)
    assert (error <= 0.01) == (count >= 99)


def test_planted_chemotaxis_is_found() -> None:
    rng = np.random.default_rng(2)
    controls = scrambled(rng, 16)
    evolved = [world(rng, rng.uniform(2.4, 3.7), rng.uniform(0.22, 0.36)) for _ in range(40)]
    decisions = [chemotaxis_in_world(one, controls, resamples=499) for one in evolved]
    assert sum(decision.verdict for decision in decisions) >= 39
    found = chemotaxis_in_configuration(evolved[:16], controls)
    assert found.verdict
    assert found.stated_error == 0.001


def test_each_criterion_alone_turns_the_verdict() -> None:
    rng = np.random.default_rng(3)
    controls, good = scrambled(rng, 16), world(rng, 2.6, 0.3)
    high = [*controls, world(rng, 4.0, 0.0)]
    weak = [replace(one, index=one.index * 0.5) for one in controls]
    yes = chemotaxis_in_world(good, controls)
    assert yes.verdict
    assert [c.met for c in yes.criteria] == [True] * 4
    assert yes.why.startswith("Yes: ")
    for at, decision in [
        (0, chemotaxis_in_world(good, high)),
        (1, chemotaxis_in_world(replace(good, index=good.index * 0.45), weak)),
        (2, chemotaxis_in_world(replace(good, contrast=good.contrast - 0.18), controls)),
        (
            3,
            chemotaxis_in_world(
                replace(good, index_without_sensor=good.index_without_sensor * 1.3), controls
            ),
        ),
        (
            3,
            chemotaxis_in_world(
                replace(good, index_without_sensor=good.index_without_sensor * 0.8), controls
            ),
        ),
    ]:
        assert [c.met for c in decision.criteria] == [i != at for i in range(4)]
        assert not decision.verdict
        assert str(decision.criteria[at]) in decision.why
        assert decision.why.count("(") == 1  # only what failed


def test_numbers_stand_beside_their_thresholds() -> None:
    rng = np.random.default_rng(4)
    controls, good = scrambled(rng, 16), world(rng, 3.0, 0.3)
    beside, least, contrast, blind = chemotaxis_in_world(good, controls).criteria
    assert beside.least == max(one.mean_index for one in controls)
    assert (least.least, contrast.least, blind.least, blind.most) == (1.25, 0.1, 0.9, 1.1)
    assert least.estimate == pytest.approx(good.index.mean())
    normal = good.index.mean() - 2.326 * good.index.std(ddof=1) / math.sqrt(40)
    assert beside.compared == least.compared == pytest.approx(normal, abs=0.06)
    assert contrast.compared < contrast.estimate == pytest.approx(good.contrast.mean())
    assert blind.compared == blind.estimate == pytest.approx(good.index_without_sensor.mean())


def test_too_few_to_bound_is_not_chemotactic() -> None:
    rng = np.random.default_rng(5)
    two = WorldAssay(np.array([3.0, 3.1]), np.array([0.5, 0.5]), np.array([1.0, 1.0]))
    decision = chemotaxis_in_world(two, scrambled(rng, 16))
    assert not decision.verdict
    assert decision.criteria[1].compared == -math.inf


def test_an_individual_that_never_rose_shows_no_contrast() -> None:
    shown = WorldAssay(np.ones(4), np.array([0.4, np.nan, 0.4, np.nan]), np.ones(4))
    assert shown.contrast.tolist() == [0.4, 0.0, 0.4, 0.0]


def test_configurations_are_compared_by_world() -> None:
    rng = np.random.default_rng(6)
    few = chemotaxis_in_configuration(plain(np.full(6, 3.0)), plain(np.arange(6) / 9))
    assert not few.verdict  # 1 in 924, however clear
    assert not few.decidable
    assert few.why.startswith("Undecided: 6 against 6 are too few")
    assert chemotaxis_in_configuration(plain(np.full(7, 3.0)), plain(np.arange(7) / 9)).verdict
    mixed = chemotaxis_in_configuration(
        plain(np.r_[np.full(30, 2.0), np.ones(10)]), plain(rng.random(40) + 0.9)
    )
    assert [c.met for c in mixed.criteria] == [True, False]
    null = rng.normal(1.3, 0.1, (200, 20))
    assert not any(chemotaxis_in_configuration(plain(row[:10]), plain(row[10:])).verdict for row in null)


def test_controls_are_judged_by_each_other() -> None:
    rng = np.random.default_rng(7)
    none = error_rate(scrambled(rng, 12), resamples=299)
    assert (none.passed, none.worlds, none.rate, none.stated) == (0, 12, 0.0, 1 / 12)
    assert none.upper == pytest.approx(1 - 0.05 ** (1 / 12))
    one = error_rate([*scrambled(rng, 11), world(rng, 3.0, 0.4)], resamples=299)
    assert (one.passed, one.rate) == (1, 1 / 12)
    assert one.upper > 2 * none.stated


def test_rewards_are_read_over_worlds() -> None:
    rng = np.random.default_rng(8)
    names = ["eat", "hungry", "dummy", "encounter", "emitted"]
    r = rng.normal([2.0, -1.5, 0.0, 0.1, -1.5], 0.7, (24, 5))
    r[0] *= 1e4  # one world's scale says nothing
    expected = {"eat": 1, "hungry": 1, "encounter": 1}
    rows = {row.name: row for row in reward_table(r, names, "dummy", expected_sign=expected)}
    assert list(rows) == names
    unit = r / np.linalg.norm(r, axis=1, keepdims=True)
    assert [row.mean.estimate for row in rows.values()] == pytest.approx(unit.mean(axis=0))
    assert [row.agreement for row in rows.values()] == ["agrees", "disagrees", None, "undecided", None]
    assert [row.null_holds for row in rows.values()] == [None, None, True, None, None]
    assert rows["dummy"].p_holm == rows["dummy"].signs.p
    assert rows["eat"].p_holm == pytest.approx(4 * rows["eat"].signs.p)  # four events: the dummy is none
    biased = reward_table(r + np.array([0, 0, 3, 0, 0]), names, "dummy")
    assert biased[2].null_holds is False


def test_signs_of_no_selection_are_seldom_called_decided() -> None:
    rng, called, names = np.random.default_rng(9), 0, ["a", "b", "c", "d", "dummy"]
    for _ in range(60):
        rows = reward_table(
            rng.normal(size=(16, 5)), names, "dummy", expected_sign=dict.fromkeys(names[:4], 1), resamples=199
        )
        called += any(row.agreement != "undecided" for row in rows[:4])
    assert called <= 9  # Holm promises 3 of 60 at most; binomial, once in 1000


@pytest.mark.parametrize(
    ("last_immigrant", "persisted", "overflow", "extinct", "expected"),
    [
        (199, 10, 0, False, "viable"),
        (199, 9, 0, False, "viable"),
        (199, 8, 0, False, "propped"),
        (200, 10, 0, False, "propped"),
        (399, 10, 0, False, "propped"),
        (199, 10, 1, False, "capacity-limited"),
        (399, 0, 3, False, "capacity-limited"),
        (399, 0, 3, True, "extinct"),
    ],
)
def test_viability(last_immigrant: int, persisted: int, overflow: int, extinct: bool, expected: str) -> None:
    """Generations of 10 steps: the last 20 of them begin at step 200 of 400."""
    immigrants = np.zeros(400, int)
    immigrants[[0, last_immigrant]] = 3
    restarts = [True] * persisted + [False] * (10 - persisted)
    assert viability(immigrants, 10.0, restarts, overflow=overflow, extinct=extinct) == expected


def test_refusals() -> None:
    rng = np.random.default_rng(10)
    controls, ok = scrambled(rng, 4), [True] * 10
    names = ["eat", "dummy"]
    for call, named in [
        (lambda: WorldAssay(np.ones(3), np.zeros(3), np.ones(2)), "individuals"),
        (lambda: WorldAssay(np.ones(0), np.zeros(0), np.ones(0)), "extinct"),
        (lambda: WorldAssay(np.ones(3), np.full(3, 1.5), np.ones(3)), "two probabilities"),
        (lambda: WorldAssay(np.array([np.nan]), np.zeros(1), np.ones(1)), "index"),
        (lambda: WorldAssay(-np.ones(1), np.zeros(1), np.ones(1)), "numbers from 0"),
        (lambda: chemotaxis_in_world(controls[0], controls[1:3]), "controls"),
        (lambda: chemotaxis_in_world(controls[0], controls), "in question"),
        (lambda: error_rate(controls[:3]), "4 or more"),
        (lambda: viability(np.zeros(199), 10.0, ok), "20 generations"),
        (lambda: viability(np.zeros(200), 10.0, ok[:9]), "persisted"),
        (lambda: viability(np.zeros(200), 0.0, ok), "generation_length"),
        (lambda: viability(np.zeros(200), 10.0, ok, overflow=-1), "overflow"),
        (lambda: reward_table(np.ones((4, 2)), ["eat"], "eat"), "names"),
        (lambda: reward_table(np.ones((4, 2)), names, "null"), "event"),
        (lambda: reward_table(np.ones((4, 2)), names, "dummy", expected_sign={"eat": 0}), "expected_sign"),
        (lambda: reward_table(np.zeros((4, 2)), names, "dummy"), "without any reward"),
    ]:
        with pytest.raises((EcologyError, StatisticsError), match=named):
            call()
