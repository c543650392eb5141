"""Jars: what is counted adds up, names alone decide nothing, and who finds food takes over from who does not."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from fairyring.core.errors import EcologyError
from fairyring.ecology.analysis.competition import (
    Controls,
    Pair,
    contests,
    log_odds,
    standing,
    unsaturated,
    within_reach,
)
from fairyring.ecology.analysis.yields import relative_yield_total
from fairyring.ecology.dynamics.cycles import cyclic_test
from fairyring.ecology.lab.coculture import (
    STOPS,
    Coculture,
    Mix,
    Population,
    coculture,
    cocultures,
    niche_bins,
    scaled,
)
from fairyring.ecology.world.settings import World1, World2

pytestmark = pytest.mark.optimised

WORLD = World1(width=32, capacity=128, sources=2, food_influx=2.0, minimum=8, founders=40)
RUN: dict[str, Any] = {"founders": 40, "steps": 500}


def climber(*, tumbling: tuple[float, float, float] = (0.5, 0.1, 0.02)) -> np.ndarray:
    """A table that tumbles while food falls."""
    p = np.array(tumbling)
    table = np.zeros((3, 3, 2), np.float32)
    table[:, :, 1] = np.log(p / (1 - p)) / WORLD.beta
    return table.reshape(1, -1)


CLIMBER = Population("climber", climber())
TUMBLER = Population(
    "tumbler", climber(tumbling=(0.99, 0.99, 0.99))
)  # feels what it likes, and stays where it is


@pytest.fixture(scope="module")
def made() -> dict[str, Coculture]:
    even, rare = (0.5, 0.5), (0.05, 0.95)
    a, b = CLIMBER, TUMBLER
    mixes = [
        Mix("even", (a, b), even),
        Mix("a rare", (a, b), rare),
        Mix("b rare", (b, a), rare),
        *(Mix(f"{one.name} even", (one, one), even) for one in (a, b)),
        *(Mix(f"{one.name} rare", (one, one), rare) for one in (a, b)),
        *(Mix(f"{one.name} alone", (one,), (1.0,)) for one in (a, b)),
    ]
    return {one.name: one for one in cocultures(WORLD, mixes, replicates=12, **RUN)}


@pytest.fixture(scope="module")
def controls(made: dict[str, Coculture]) -> dict[str, Controls]:
    return {
        one.name: Controls(*(made[f"{one.name} {kind}"] for kind in ("alone", "even", "rare")))
        for one in (CLIMBER, TUMBLER)
    }


def test_labels_add_up_to_the_worlds_own_count_at_every_step() -> None:
    mix = Mix("three", (CLIMBER, TUMBLER, CLIMBER), (0.5, 0.3, 0.2))
    one = cocultures(WORLD, [mix], replicates=2, every=1, **RUN)[0]
    assert one.counts.shape == (2, 3, 501)
    assert one.steps.tolist() == list(range(501))
    assert one.counts[0, :, 0].tolist() == [20, 12, 8]
    np.testing.assert_array_equal(one.counts.sum(1), one.population)
    assert (one.population != 40).any()
    at = [round(stop * 500) for stop in STOPS]
    np.testing.assert_array_equal(
        one.use.sum(2), one.counts[:, :, at].sum(2)
    )  # each was somewhere at each stop
    assert one.use.shape == (2, 3, len(niche_bins(WORLD)))


def test_a_replicate_is_the_same_alone_and_among_others(made: dict[str, Coculture]) -> None:
    alone = coculture(WORLD, (CLIMBER, TUMBLER), (0.5, 0.5), name="even", replicates=1, cores=1, **RUN)
    third = cocultures(WORLD, [Mix("even", (CLIMBER, TUMBLER), (0.5, 0.5))], replicates=[3], **RUN)[0]
    for i, one in ((0, alone), (3, third)):
        np.testing.assert_array_equal(one.counts[0], made["even"].counts[i])
        np.testing.assert_array_equal(one.use[0], made["even"].use[i])
    other = coculture(WORLD, (CLIMBER, TUMBLER), (0.5, 0.5), name="even", replicates=1, seed=1, **RUN)
    assert (other.counts != alone.counts).any()
    assert (made["even"].counts[0] != made["even"].counts[1]).any()


def test_nothing_mutates_and_no_genes_pass_unless_asked(made: dict[str, Coculture]) -> None:
    wild = dataclasses.replace(WORLD, mutation_rate=1.0, mutation_scale=5.0, conjugation=1.0)
    ask: dict[str, Any] = {"name": "even", "replicates": 1, **RUN}
    still = coculture(wild, (CLIMBER, TUMBLER), (0.5, 0.5), **ask)
    np.testing.assert_array_equal(still.counts[0], made["even"].counts[0])
    for what in ("mutation", "conjugation"):
        more: dict[str, Any] = {what: True}
        asked = coculture(wild, (CLIMBER, TUMBLER), (0.5, 0.5), **ask, **more)
        assert (asked.counts != still.counts).any()


def test_who_climbs_excludes_who_does_not(made: dict[str, Coculture], controls: dict[str, Controls]) -> None:
    pair = Pair(made["even"], made["a rare"], made["b rare"])
    found = contests({("climber", "tumbler"): pair}, controls)[0]
    assert found.verdict == "climber excludes tumbler"
    assert found.first_gains.mean > 0.8
    assert found.first_gains.holm < 0.01
    assert found.first_invades.mean > 0.2
    assert found.second_invades.p > 0.5
    assert found.second_declines.holm < 0.05 < found.first_declines.p
    assert found.overlap is not None
    assert found.overlap.overlap < found.overlap.expected
    turned = Pair(
        dataclasses.replace(made["even"], counts=made["even"].counts[:, ::-1]), made["b rare"], made["a rare"]
    )
    other = contests({("tumbler", "climber"): turned}, controls)[0]
    assert other.verdict == found.verdict
    assert (other.second_gains.holm, other.first_gains.p) == (found.first_gains.holm, found.second_gains.p)
    assert other.first_gone == found.second_gone


def test_names_alone_decide_nothing(made: dict[str, Coculture], controls: dict[str, Controls]) -> None:
    """A population under two labels against its own drift: the same kind of jars, other replicates."""
    a = Mix("again", (CLIMBER, CLIMBER), (0.5, 0.5))
    rare = [Mix(f"again {i}", (CLIMBER, CLIMBER), (0.05, 0.95)) for i in range(2)]
    even, first, second = cocultures(WORLD, [a, *rare], replicates=24, seed=2, **RUN)
    found = contests({("climber", "climber"): Pair(even, first, second)}, controls)[0]
    assert found.verdict == "undecided"
    share = even.shares()
    assert 0.02 < share.std() < 0.3  # it drifts
    assert binomtest(int((share > 0.5).sum()), 24).pvalue > 0.005
    assert abs(share.mean() - 0.5) < 3 * share.std() / np.sqrt(24)
    assert first.shares().mean() == pytest.approx(0.05, abs=0.04)
    assert found.relative_yield is not None
    assert found.relative_yield.holds(1.0)
    assert found.relative_yield.estimate == pytest.approx(1.0, abs=0.1)
    # p values of parts of the neutral jars against the rest are neither all small nor all large.
    p = []
    for i in range(8):
        part = np.arange(24) % 8 == i
        cut = dataclasses.replace(even, counts=even.counts[part])
        rest = dataclasses.replace(even, counts=even.counts[~part])
        own = Controls(controls["climber"].alone, rest, first)
        one = contests({("climber", "climber"): Pair(cut, first, second)}, {"climber": own})[0]
        p.append(one.first_gains.p)
    assert min(p) > 0.001
    assert 0.25 < np.mean(p) < 0.75


def planted(name: str, labels: tuple[str, ...], counts: np.ndarray) -> Coculture:
    """`[jars, labels]` that stay as they are."""
    every = np.repeat(counts[:, :, None], 4, 2).astype(np.int32)
    return Coculture(
        name, labels, np.arange(4) * 10, every, every.sum(1), counts[:, :, None].astype(np.int64)
    )


def drawn(
    rng: np.random.Generator,
    start: float,
    rate: float = 0.0,
    *,
    rest: float | None = None,
    jars: int = 20,
    size: int = 200,
    generations: int = 9,
) -> Coculture:
    """Wright-Fisher jars of two labels: log odds of the first grow by `rate` a generation, times its share's way to `rest`."""
    share = np.full(jars, start)
    shares = [share]
    for _ in range(generations):
        grown = rate if rest is None else rate * (rest - share)
        odds = np.exp(grown) * share / np.maximum(1 - share, 1e-12)
        share = rng.binomial(size, np.where(share < 1, odds / (1 + odds), 1.0)) / size
        shares.append(share)
    first = np.round(200 * np.stack(shares, 1)).astype(np.int32)
    counts = np.stack([first, 200 - first], 1)
    return Coculture(
        "ab", ("a", "b"), np.arange(generations + 1), counts, counts.sum(1), np.ones((jars, 2, 2), np.int64)
    )


def tournament(
    rng: np.random.Generator, rate: float, *, rest: float | None = None, jars: int = 20, size: int = 200
) -> tuple[dict[tuple[str, str], Pair], Mapping[str, Controls]]:
    """Three populations, each of which outgrows all after it by the same rate."""
    ask: dict[str, Any] = {"jars": jars, "size": size}
    alone = planted("x", ("x",), np.full((jars, 1), 200))
    controls = {x: Controls(alone, drawn(rng, 0.5, **ask), drawn(rng, 0.05, **ask)) for x in "abc"}
    other, back = (-rate, None) if rest is None else (rate, 1 - rest)
    pairs = {}
    for a, b in itertools.combinations("abc", 2):
        even, strong = (drawn(rng, start, rate, rest=rest, **ask) for start in (0.5, 0.05))
        pairs[a, b] = Pair(even, strong, drawn(rng, 0.05, other, rest=back, **ask))
    return pairs, controls


def test_who_grows_when_rare_is_not_excluded() -> None:
    """They rest at 85 to 15, so the weaker grows from 5 %; no jars of ours may call that an exclusion."""
    found: Counter[str] = Counter()
    for seed in range(3):
        pairs, controls = tournament(np.random.default_rng(seed), 0.6, rest=0.85)
        found.update(one.verdict.split()[1 if " " in one.verdict else 0] for one in contests(pairs, controls))
    assert set(found) <= {"outgrows", "coexist"}
    assert sum(found.values()) == 9


@pytest.mark.parametrize(("rate", "size"), [(0.3, 200), (0.8, 60)])
def test_who_is_excluded_is_called_so_with_twenty_cocultures(rate: float, size: int) -> None:
    """Also where drift is as strong as in our jars, and loses most of the rare itself."""
    pairs, controls = tournament(np.random.default_rng(5), rate, size=size)
    assert [one.verdict for one in contests(pairs, controls)] == [
        "a excludes b",
        "a excludes c",
        "b excludes c",
    ]


def test_drift_alone_declines_as_often_as_chance_has_it() -> None:
    p, shown = [], 0
    for seed in range(8):
        found = contests(*tournament(np.random.default_rng(seed), 0.0))
        p += [test.p for one in found for test in (one.first_declines, one.second_declines)]
        shown += any(test.shown for one in found for test in (one.first_declines, one.second_declines))
        assert {one.verdict for one in found} == {"undecided"}
    assert 0.4 < np.mean(p) < 0.6
    assert shown <= 2


def test_what_so_few_jars_cannot_show_is_not_called_undecided() -> None:
    pairs, controls = tournament(np.random.default_rng(0), 3.0, jars=3)
    found = contests(pairs, controls)
    # Of 3 jars and 6 of drift the least p is 1 of 84; of six tests that is .07.
    assert {one.verdict for one in found} == {"cannot be shown with 3 jars and 6 controls"}
    assert found[0].first_gains.least == pytest.approx(1 / 84)
    assert not found[0].first_gains.in_reach
    only = contests({("a", "b"): pairs["a", "b"]}, controls)
    assert only[0].verdict == "a outgrows b"
    assert not only[0].second_declines.in_reach  # drift alone loses some of the rare
    assert within_reach([0.5, 0.9], [0.03, 0.02]) == [False, True]
    assert within_reach([0.01, 0.9], [0.01, 0.04]) == [True, True]  # the other is shown already


def test_a_pair_that_dies_out_is_told_and_the_rest_is_judged() -> None:
    pairs, controls = tournament(np.random.default_rng(1), 0.4)
    dead = planted("ab", ("a", "b"), np.zeros((20, 2), int))
    pairs["a", "b"] = Pair(dead, dead, dead, dead)
    found = contests(pairs, controls)
    assert [one.verdict for one in found] == ["neither lives", "a excludes c", "b excludes c"]
    assert (found[0].first_gains.p, found[0].second_invades.holm, found[0].first_declines.jars) == (1, 1, 0)
    assert np.isnan(found[0].first_gains.mean)
    assert (found[0].first_gone, found[0].blind, found[0].overlap) == (0, None, None)
    pairs["a", "c"] = dataclasses.replace(pairs["a", "c"], even=dead, second_rare=dead)
    assert contests(pairs, controls)[1].verdict == "cannot be shown with 0 jars and 40 controls"
    nobody = planted("x", ("x",), np.zeros((20, 1), int))
    gone = dict.fromkeys("abc", Controls(nobody, dead, dead))
    assert contests({("a", "b"): pairs["a", "b"]}, gone)[0].verdict == "neither lives"


def test_a_ranking_is_no_cycle_until_saturation_bends_it() -> None:
    """Additive rankings, some of large differences: at the end of jars most look cyclic, before they are bent none does."""
    rng, late, early, turning = np.random.default_rng(4), 0, 0, 0
    for seed in range(8):
        strength = rng.normal(size=6) * 0.4
        for cycle in (False, True):
            pairs = {}
            for i, j in itertools.combinations(range(6), 2):
                extra = 0.3 * (-1) ** (i + j) if cycle else 0.0
                even = drawn(rng, 0.5, strength[i] - strength[j] + extra, generations=40)
                pairs[str(i), str(j)] = Pair(even, even, even)
            names = [str(i) for i in range(6)]
            step = unsaturated(pairs)
            assert 0 < step < 40
            p = cyclic_test(log_odds(names, pairs, step=step), seed=seed, resamples=299).p
            assert p is not None
            if cycle:
                turning += p < 0.05
                continue
            early += p < 0.05
            end = cyclic_test(log_odds(names, pairs), seed=seed, resamples=299).p
            late += end is not None and end < 0.05
    assert late >= 7
    assert early <= 2
    assert turning >= 7


def test_log_odds_are_read_while_hardly_any_label_runs_out() -> None:
    counts = np.full((20, 2, 5), 50)
    counts[0, 0, 2:] = 0  # one jar of twenty may
    counts[1, 0, 4:] = 3
    even = Coculture(
        "ab", ("a", "b"), np.arange(5) * 10, counts, counts.sum(1), np.zeros((20, 2, 1), np.int64)
    )
    pairs = {("a", "b"): Pair(even, even, even)}
    assert unsaturated(pairs) == 30
    few = dataclasses.replace(even, counts=counts[:10])
    assert unsaturated({**pairs, ("a", "c"): Pair(few, few, few)}) == 10
    assert (
        unsaturated(
            {("a", "b"): dataclasses.replace(pairs["a", "b"], even=planted("ab", ("a", "b"), counts[..., 0]))}
        )
        == 30
    )
    assert unsaturated({("a", "b"): Pair(planted("ab", ("a", "b"), np.full((4, 2), 4)), few, few)}) == 0


def test_one_sample_of_jars_alone_is_drawn_once() -> None:
    """Of one population under two labels the total is that of one label: the same jars alone must not be drawn twice."""
    rng = np.random.default_rng(3)
    mixed, single = rng.integers(20, 60, (20, 2)), rng.integers(60, 100, (20, 1))
    alone = planted("a", ("a",), single)
    two = relative_yield_total(planted("aa", ("a", "a"), mixed), alone, alone)
    one = relative_yield_total(planted("a", ("a",), mixed.sum(1, keepdims=True)), alone)
    assert one is not None
    assert two is not None
    assert (two.estimate, two.low, two.high) == pytest.approx((one.estimate, one.low, one.high))
    apart = relative_yield_total(planted("aa", ("a", "a"), mixed), alone, planted("a", ("a",), single))
    assert apart is not None
    assert apart.high - apart.low < 0.95 * (two.high - two.low)


def test_relative_yields_of_what_is_known() -> None:
    rng = np.random.default_rng(0)
    mixed = rng.integers(20, 60, (8, 2))
    together, total = planted("ab", ("a", "b"), mixed), planted("a", ("a",), mixed.sum(1, keepdims=True))
    one = relative_yield_total(together, total, total)
    assert one is not None
    assert one.estimate == pytest.approx(1.0)
    assert one.low < 1 < one.high
    apart = relative_yield_total(
        together, *(planted("x", ("x",), mixed[:, i : i + 1]) for i in range(2))
    )  # each as if the other were not there
    assert apart is not None
    assert apart.estimate == pytest.approx(2.0)
    assert apart.low > 1.3
    nobody = planted("a", ("a",), np.zeros((8, 1)))
    assert relative_yield_total(together, nobody, total) is None
    with pytest.raises(EcologyError, match="one for each label"):
        relative_yield_total(together, total)


@pytest.mark.parametrize("cycle", [True, False])
def test_rock_paper_scissors_is_found_and_a_ranking_is_not_taken_for_it(cycle: bool) -> None:
    rng, names = np.random.default_rng(1), ("rock", "paper", "scissors")
    alone = planted("x", ("x",), rng.integers(90, 110, (20, 1)))
    split = rng.integers(40, 60, (20, 1))
    drift = planted("xx", ("x", "x"), np.concatenate([split, 100 - split], 1))
    few = rng.integers(2, 8, (20, 1))
    rare = planted("xx", ("x", "x"), np.concatenate([few, 100 - few], 1))
    winners = {
        ("rock", "paper"): 0.2,
        ("paper", "scissors"): 0.2,
        ("rock", "scissors"): 0.8 if cycle else 0.06,
    }
    pairs = {}
    for (a, b), share in winners.items():
        n = rng.binomial(100, share, (20, 1))
        even = planted(a + b, (a, b), np.concatenate([n, 100 - n], 1))
        pairs[a, b] = Pair(even, rare, rare)
    own = dict.fromkeys(names, Controls(alone, drift, rare))
    found = standing(names, log_odds(names, pairs), contests(pairs, own), resamples=999)
    if cycle:
        assert (found.cycles, found.sure_cycles, found.triples) == (1, 1, 1)
        assert found.hodge.share > 0.95
        assert found.hodge.p == 1 / 1000
    else:
        assert (found.cycles, found.sure_cycles) == (0, 0)
        assert found.order == ("scissors", "paper", "rock")
        assert found.hodge.share < 0.02
    turned = {(b, a): p for (a, b), p in pairs.items()}
    flipped = log_odds(names, turned)
    assert flipped[0][1] == [-x for x in log_odds(names, pairs)[0][1]]


def test_a_smaller_world_has_the_same_densities() -> None:
    for world in (World1(), World2()):
        half = scaled(world, 0.5)
        assert half.rho == pytest.approx(world.rho)
        assert (half.width, half.capacity, half.founders, half.minimum) == (64, 512, 100, 16)
        assert scaled(world, 1.0) == world
    assert len(niche_bins(World2())) == 15


@pytest.mark.parametrize(
    ("mixes", "asked", "message"),
    [
        ([Mix("a", (CLIMBER,), (1.0,))] * 2, {}, "different names"),
        ([Mix("a", (CLIMBER,), (0.5, 0.5))], {}, "one above 0 for each"),
        ([Mix("a", (CLIMBER, TUMBLER), (1.0, 0.0))], {}, "one above 0 for each"),
        ([Mix("a", (Population("x", np.zeros((3, 4))),), (1.0,))], {}, r"\[1 or more, 18\]"),
        ([Mix("a", (CLIMBER,), (1.0,))], {"steps": 505}, "Take 500"),
        ([Mix("a", (CLIMBER,), (1.0,))], {"replicates": [1, 1]}, "different numbers"),
        ([Mix("a", (CLIMBER,), (1.0,))], {"founders": 0}, "at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(mixes: list[Mix], asked: dict[str, Any], message: str) -> None:
    with pytest.raises(EcologyError, match=message):
        cocultures(WORLD, mixes, **{**RUN, **asked})


def test_pairs_need_controls(made: dict[str, Coculture]) -> None:
    pair = Pair(made["even"], made["a rare"], made["b rare"])
    with pytest.raises(EcologyError, match="tumbler"):
        contests({("climber", "tumbler"): pair}, {"climber": Controls(*[made["climber alone"]] * 3)})
    with pytest.raises(EcologyError, match="all pairs"):
        log_odds(("climber", "tumbler", "third"), {("climber", "tumbler"): pair})
