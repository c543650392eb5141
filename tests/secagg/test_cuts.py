"""What a server can do by naming who vanished: the bound of the docs, against every way to cut a small ring."""

import itertools
import math
import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fairyring.core.errors import PlanError
from fairyring.secagg import Terms, complete_graph, graph_parameters, session_graph
from fairyring.secagg._committee import Committee, smallest_committee
from fairyring.secagg.graph import COMPLETE_UP_TO, _uncut, session_committee

# -- a ring, place by place: in the island, outside, adversary, key revealed, gone before it shared anything ----------

ISLAND, OUTSIDE, ADVERSARY, REVEALED, GONE = "CO*KG"


def near(at: int, half: int, around: int) -> list[int]:
    return [(at + step) % around for step in range(-half, half + 1) if step]


def cuts(ring: str, half: int, threshold: int) -> bool:
    """Whether a server learns the sum of the island's vectors alone, where the ring is as it likes it.

    All but the gone and the revealed are in the one set it tells. It withholds the shares of those outside from the
    island's devices, so that these have no mask with them: a device that misses one of the set signs nothing, but may
    still be unmasked. Adversaries sign, answer and give all they hold.
    """
    around = len(ring)
    beside = [near(at, half, around) for at in range(around)]

    def count(at: int, kinds: str) -> int:
        return sum(ring[other] in kinds for other in beside[at])

    places = {kind: [at for at in range(around) if ring[at] == kind] for kind in set(ring)}
    island, outside = places.get(ISLAND, []), places.get(OUTSIDE, [])
    if not island or not outside or any(count(at, "C*K") < threshold for at in island):
        return False
    adversaries = set(places.get(ADVERSARY, []))
    signed = adversaries | {at for at in island if not count(at, OUTSIDE) and count(at, "C*") >= threshold}
    signed |= {at for at in outside if count(at, "CO*") >= threshold}
    answered = adversaries | {at for at in signed if sum(o in signed for o in beside[at]) >= threshold}
    needed = island + [at for at in places.get(REVEALED, []) if count(at, ISLAND)]
    return all(sum(other in answered for other in beside[at]) >= threshold for at in needed)


def secret(ring: str, half: int, threshold: int) -> bool:
    """Whether no neighbourhood holds so many adversaries that both secrets of a device could come out."""
    return all(
        2 * threshold > 2 * half + sum(ring[other] == ADVERSARY for other in near(at, half, len(ring)))
        for at in range(len(ring))
        if ring[at] != ADVERSARY
    )


def stretches(ring: str, half: int) -> int:
    """The most `x` such that two stretches of `half` places, apart, hold `x` adversaries each."""
    around = len(ring)
    held = [sum(ring[(at + i) % around] == ADVERSARY for i in range(half)) for at in range(around)]
    pairs = itertools.combinations(range(around), 2)
    return max(min(held[a], held[b]) for a, b in pairs if half <= b - a <= around - half)


@pytest.mark.parametrize(("half", "threshold", "zone"), [(2, 3, 5), (2, 4, 5), (3, 4, 5), (3, 5, 5)])
def test_every_cut_of_a_small_ring_needs_two_stretches_of_adversaries(
    half: int, threshold: int, zone: int
) -> None:
    seen = []
    for between in itertools.product(set("CO*KG"), repeat=zone):
        border = "".join(between)
        ring = ISLAND * (2 * half) + border + OUTSIDE * (2 * half) + border[::-1]
        if secret(ring, half, threshold) and cuts(ring, half, threshold):
            seen.append(stretches(ring, half))
    assert min(seen) >= threshold - half - 1
    assert min(seen) == threshold - half  # so many are enough, and the bound is at most one too careful


def test_no_ring_at_random_is_cut_with_fewer() -> None:
    dice, seen = random.Random(0), 0
    for _ in range(6000):
        half = dice.choice((2, 3))
        threshold = half + dice.choice((1, 2))
        size, border = dice.randint(2, 8), dice.randint(half, 2 * half)
        weights = [dice.random() ** 2 for _ in range(5)]
        zones = ["".join(dice.choices("CO*KG", weights, k=border)) for _ in range(2)]
        ring = ISLAND * size + zones[0] + OUTSIDE * dice.randint(2, 8) + zones[1]
        if len(ring) > 2 * half + 1 and secret(ring, half, threshold) and cuts(ring, half, threshold):
            seen += 1
            assert stretches(ring, half) >= threshold - half - 1, ring
    assert seen > 20


# -- chances ---------------------------------------------------------------------------------------------------------


def chance(n: int, marked: int, draws: int, least: int, maximum: int | None = None) -> Fraction:
    """That from `least` to `maximum` of those drawn without replacement are marked, exactly."""
    top = min(draws, marked) if maximum is None else maximum
    ways = (
        math.comb(marked, x) * math.comb(n - marked, draws - x)
        for x in range(max(least, 0, draws - (n - marked)), top + 1)
    )
    return Fraction(sum(ways), math.comb(n, draws))


SLACK = 1 + Fraction(1, 10**6)  # for the floats of the search
RATES = st.integers(0, 40).map(lambda part: part / 100)


def meets(n: int, adversaries: int, staying: int, degree: int, threshold: int) -> bool:
    """Whether a sparse ring keeps each of the three promises, exactly."""
    half = degree // 2
    beyond = n * chance(n, adversaries, degree, 2 * threshold - degree)
    pairs = Fraction(n * (n - degree + 1), 2)
    cut = pairs * chance(n, adversaries, half, threshold - half - 1) ** 2
    lost = n * chance(n, staying, degree, 0, threshold - 1)
    return (
        beyond <= Fraction(1, 2**41) * SLACK
        and cut <= Fraction(1, 2**42) * SLACK
        and lost <= Fraction(1, 2**21) * SLACK
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(COMPLETE_UP_TO + 1, 260), RATES, RATES)
def test_what_a_session_gets_meets_every_bound_and_nothing_smaller_does(
    n: int, adversarial: float, dropout: float
) -> None:
    try:
        degree, threshold = session_graph(n, adversarial, dropout, "semi_malicious")
    except PlanError:
        with pytest.raises(PlanError):
            complete_graph(n, adversarial, dropout, "semi_malicious")
        return
    adversaries, staying = math.floor(adversarial * n + 1e-9), n - math.floor(dropout * n + 1e-9)
    committee = session_committee(n, adversarial, dropout, "semi_malicious")
    if degree == n - 1:
        assert (degree, threshold) == complete_graph(n, adversarial, dropout, "semi_malicious")
        assert committee == (0, 0)
        return
    assert degree % 2 == 0
    assert meets(n, adversaries, staying, degree, threshold)
    assert not any(meets(n, adversaries, staying, degree - 2, t) for t in range(1, degree - 1))
    size, enough = committee
    assert chance(n, adversaries, size, 2 * enough - size) <= Fraction(1, 2**42) * SLACK
    assert chance(n, staying, size, 0, enough - 1) <= Fraction(1, 2**21) * SLACK


def test_what_was_published_does_not_keep_the_ring_whole_and_sessions_do() -> None:
    assert [tuple(graph_parameters(n, 0.1, 0.1, "semi_malicious")) for n in (100, 500, 1000, 10_000)] == [
        (32, 22), (82, 57), (96, 67), (122, 85)
    ]  # fmt: skip
    assert [tuple(session_graph(n, 0.1, 0.1, "semi_malicious")) for n in (100, 500, 1000, 10_000)] == [
        (44, 34), (96, 69), (112, 80), (140, 99)
    ]  # fmt: skip
    for n, maximum in ((100, -3), (500, -23), (1000, -27), (10_000, -29)):
        degree, threshold = graph_parameters(n, 0.1, 0.1, "semi_malicious")
        half = degree // 2
        pairs = Fraction(n * (n - degree + 1), 2) * chance(n, n // 10, half, threshold - half - 1) ** 2
        assert maximum < math.log2(pairs) < maximum + 2
        assert not meets(n, n // 10, n - n // 10, degree, threshold)


def test_a_trusted_server_gets_the_published_graph_and_no_committee() -> None:
    for n in (61, 100, 1000):
        assert session_graph(n, 0.1, 0.1, "semi_honest") == graph_parameters(n, 0.1, 0.1, "semi_honest")
        assert session_committee(n, 0.1, 0.1, "semi_honest") == (0, 0)
        assert session_committee(n, 0.1, 0.1, "semi_malicious").size > 0
    assert session_committee(COMPLETE_UP_TO, 0.1, 0.1, "semi_malicious") == (0, 0)


@pytest.mark.parametrize(("n", "adversaries", "half"), [(12, 4, 3), (14, 4, 4)])
def test_the_bound_on_a_pair_of_stretches_is_above_every_ring_counted(
    n: int, adversaries: int, half: int
) -> None:
    # Every placing of the adversaries on a small ring, where chances are large enough to compare.
    rings = np.zeros((math.comb(n, adversaries), n), np.int64)
    for row, held in enumerate(itertools.combinations(range(n), adversaries)):
        rings[row, list(held)] = 1
    counts = np.sum([np.roll(rings, -step, axis=1) for step in range(half)], axis=0)
    for least in range(1, half + 1):
        cut = np.zeros(len(rings), bool)
        for a in range(n):
            for b in range(a + half, min(n, a + n - half + 1)):
                cut |= (counts[:, a] >= least) & (counts[:, b] >= least)
        bound = Fraction(n * (n - 2 * half + 1), 2) * chance(n, adversaries, half, least) ** 2
        assert Fraction(int(cut.sum()), len(rings)) <= bound
        # And the counts of two stretches apart are no likelier both large than if they knew nothing of each other.
        both = ((counts[:, 0] >= least) & (counts[:, half] >= least)).sum()
        assert Fraction(int(both), len(rings)) <= chance(n, adversaries, half, least) ** 2


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 400), st.data())
def test_the_threshold_against_cuts_is_the_least_that_will_do(n: int, data: st.DataObject) -> None:
    adversaries = data.draw(st.integers(0, n // 3))
    half = data.draw(st.integers(1, (n - 2) // 2))
    result = _uncut(n, adversaries, 2 * half, 0)
    pairs = Fraction(n * (n - 2 * half + 1), 2)

    def likely(threshold: int) -> Fraction:
        return pairs * chance(n, adversaries, half, threshold - half - 1) ** 2

    assert result >= half + 2  # at one above half of the degree no adversary is needed
    assert likely(result) <= Fraction(1, 2**42) * SLACK
    assert likely(result - 1) > Fraction(1, 2**42) / SLACK


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 200), st.data())
def test_no_two_sets_get_a_committees_signatures(n: int, data: st.DataObject) -> None:
    adversaries = data.draw(st.integers(0, n // 3))
    staying = data.draw(st.integers(n - n // 4, n))
    result = smallest_committee(n, adversaries, staying, 2.0**-42, 2.0**-21)
    assume(result is not None)
    assert isinstance(result, Committee)
    likely = [
        a for a in range(result.size + 1) if chance(n, adversaries, result.size, a) > Fraction(1, 2**42)
    ]
    assert 2 * result.threshold > result.size + max(
        likely, default=0
    )  # honest members sign once, adversaries twice


def test_terms_say_how_many_adverts_a_roster_may_hold() -> None:
    for threat, maximum in (("semi_honest", 400), ("semi_malicious", 400), ("semi_malicious", 50)):
        terms = Terms(bytes(32), 4, 32, 3, maximum, threat)  # type: ignore[arg-type]
        for devices in range(maximum // 2, maximum + 1, 7):
            assert terms.graph(devices).degree + terms.committee(devices).size <= terms.maximum_adverts


def test_settings_that_make_no_sense_are_refused_of_any_size() -> None:
    bad: Any = "malicious"
    for n in (10, 100):
        with pytest.raises(PlanError):
            session_graph(n, 0.1, 0.1, bad)
        with pytest.raises(PlanError):
            session_committee(n, 0.1, 1.0, "semi_malicious")
