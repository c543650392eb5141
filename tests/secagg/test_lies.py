"""A server that names who vanished once it has seen the ring, and one that names others to others."""

import pytest

from fairyring.secagg import GraphParameters
from fairyring.secagg._committee import smallest_committee
from tests.secagg.lying import Lies, forced
from tests.secagg.test_cuts import ADVERSARY, OUTSIDE, cuts
from tests.secagg.test_cuts import ISLAND as ISLE


def arc(first: int, last: int, around: int) -> list[int]:
    """Places from `first` to `last`, both in it, around the ring."""
    return [place % around for place in range(first, last + 1)]


AROUND = 36
ISLAND = arc(0, 9, AROUND)
# On either side of the island four places: two of the adversary, two that are called vanished.
GUARDS, VANISHED = [10, 11, 34, 35], [12, 13, 32, 33]


def cut(threshold: int, patch: pytest.MonkeyPatch) -> Lies:
    forced(patch, GraphParameters(8, threshold))
    story = sorted(set(range(AROUND)) - set(VANISHED))
    return Lies(AROUND, 30, GUARDS).telling({place: story for place in story if place not in GUARDS})


def test_two_stretches_with_too_many_adversaries_cut_the_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of 8 neighbours 6: each stretch of 4 places holds 6 - 4 adversaries. Everyone is told the same 32 of 36.
    lies = cut(6, monkeypatch)
    assert not lies.left
    assert lies.learned(ISLAND) == lies.plain(ISLAND)
    assert lies.learned(ISLAND[:-1]) is None  # and no part of it


def test_a_higher_threshold_needs_more_adversaries_in_a_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    lies = cut(7, monkeypatch)
    assert {0, 9} <= set(lies.left)
    assert "6 surviving neighbours; expected at least 7" in lies.left[9]
    assert lies.learned(ISLAND) is None


def test_shares_that_are_held_back_cut_it_with_nobody_vanished(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of 6 neighbours 5, and 5 - 3 adversaries in each stretch of 3. An island's device has no mask with those outside.
    ring = "CCCCCCCC**OOOOOOOO**CC"
    assert cuts(ring, 3, 5)
    island, outside, guards = (
        [place for place, kind in enumerate(ring) if kind == which] for which in (ISLE, OUTSIDE, ADVERSARY)
    )
    forced(monkeypatch, GraphParameters(6, 5))
    lies = Lies(
        len(ring), len(ring), guards, lambda holder, owner: holder in island and owner in outside
    ).telling({place: range(len(ring)) for place in (*island, *outside)})
    assert lies.learned(island) == lies.plain(island)
    # Those at its ends miss somebody who is said to have stayed, and sign nothing; the others are enough.
    assert set(lies.left) == {7, 20}
    assert "a survivor that never sent its shares" in lies.left[7]


ALL = 60
LEFT, RIGHT = arc(0, 29, ALL), arc(30, 59, ALL)
# Called vanished, far from the border; those beside it hear that all of the other half stayed.
THINNED = {"left": [11, 14, 17], "right": [41, 44, 47]}
TWO_STORIES = {
    **{
        place: sorted(set(range(ALL)) - set(THINNED["left"]))
        for place in LEFT
        if place not in THINNED["left"]
    },
    **{
        place: sorted(set(range(ALL)) - set(THINNED["right"]))
        for place in RIGHT
        if place not in THINNED["right"]
    },
}
SUMMED = sorted(TWO_STORIES)
MINIMUM_COHORT = 57


def test_two_halves_are_told_of_enough_and_fewer_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    # No adversary but the server. Each device is told of 57 survivors, its least.
    forced(monkeypatch, GraphParameters(12, 8))
    lies = Lies(ALL, MINIMUM_COHORT).telling(TWO_STORIES)
    assert {len(story) for story in TWO_STORIES.values()} == {MINIMUM_COHORT}
    assert len(SUMMED) == 54
    assert lies.learned(SUMMED) == lies.plain(SUMMED)


def test_a_committee_signs_one_story(monkeypatch: pytest.MonkeyPatch) -> None:
    committee = smallest_committee(ALL, 0, ALL - 6, 2.0**-42, 2.0**-21)
    assert committee is not None
    forced(monkeypatch, GraphParameters(12, 8), committee)
    lies = Lies(ALL, MINIMUM_COHORT).telling(TWO_STORIES)
    assert lies.learned(SUMMED) is None
    answered = {tuple(TWO_STORIES[place]) for place in lies.answers}
    assert len(answered) <= 1
    refused = [
        why for why in lies.left.values() if "members of the committee that signed the same set" in why
    ]
    assert refused
    # One story, told to all of both halves: then they answer.
    full = Lies(ALL, MINIMUM_COHORT).telling({place: range(ALL) for place in range(ALL)})
    assert not full.left
    assert full.learned(range(ALL)) == full.plain(range(ALL))
