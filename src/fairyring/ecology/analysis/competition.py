"""What jars say: who takes over from whom, beside what drift does to two names of one population.

A pair of populations is put together at even shares, and each of them rare among the other. All three are held against the
control that is one population under two labels, drawn and run alike: its shares wander too, and a share that wanders as far by
chance shows nothing. A pair's control is that of its two populations together.

Only what was shown makes a verdict. That a test shows nothing is no evidence of the contrary: who excludes must be seen to grow, and
who is excluded must be seen to decline when it is rare.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.ecology.analysis.niches import Overlap, niche_overlap
from fairyring.ecology.analysis.yields import relative_yield_total
from fairyring.ecology.dynamics import CyclicShare, cyclic_test
from fairyring.ecology.lab import Jar
from fairyring.statistics import Interval, holm, mann_whitney

__all__ = [
    "LEVEL",
    "VERDICTS",
    "Comparison",
    "Contest",
    "Controls",
    "Pair",
    "Standing",
    "contests",
    "log_odds",
    "relative_yield_total",
    "standing",
    "unsaturated",
    "within_reach",
]

LEVEL = 0.05
VERDICTS = ("excludes", "outgrows", "coexist", "undecided", "cannot be shown", "neither lives")
_FEW, _MOST = 5, 0.95  # a label of so few bends the log odds; a pair's jars without such a one


@dataclass(frozen=True, eq=False)
class Pair:
    """The jars of two populations.

    Attributes:
        even: both at even shares, the first population first.
        first_rare: the first population rare among the second; its label is the first.
        second_rare: the second population rare among the first; its label is the first of that jar.
        blind: as `even`, with nobody feeling what is where it is; None if it was not run.
    """

    even: Jar
    first_rare: Jar
    second_rare: Jar
    blind: Jar | None = None


@dataclass(frozen=True, eq=False)
class Controls:
    """The jars of one population.

    Attributes:
        alone: by itself.
        even: under two labels at even shares.
        rare: under two labels, the first of which is as rare as in an invasion.
    """

    alone: Jar
    even: Jar
    rare: Jar


@dataclass(frozen=True)
class Comparison:
    """A one-sided comparison with drift.

    Attributes:
        mean: of the share over jars in which anybody lived; NaN where there was none.
        drift: the same of the control.
        p: exact, of shares above the control's, or below them for a decline (Mann-Whitney); 1 without jars or controls.
        holm: the same, adjusted for all that was asked with it; equal to `p` until it is.
        jars, controls: how many there were.
        least: what `p` would be had the share been 1 (0 for a decline) in every jar.
        in_reach: whether `holm` could have come to `LEVEL` then, all other tests being what they are.
    """

    mean: float
    drift: float
    p: float
    holm: float
    jars: int
    controls: int
    least: float
    in_reach: bool = True

    @property
    def shown(self) -> bool:
        """Whether it is beyond drift, with all that was asked with it."""
        return self.holm <= LEVEL


@dataclass(frozen=True)
class Contest:
    """What the jars of a pair say, as plain numbers.

    Gains and invasions compare shares at the end. A decline compares shares over the last third of the steps: at the end drift too has
    lost many of the rare.

    Attributes:
        first, second: names of the populations.
        first_gains, second_gains: from even shares; `holm` is over both sides of all pairs.
        first_invades, second_invades: from rarity; likewise.
        first_declines, second_declines: from rarity; likewise.
        first_gone, second_gone: share of the even jars in which it had died out while the other had not.
        verdict: the first of these that holds.
            "coexist": each invades the other.
            "A excludes B": A gains, A invades, and B declines when rare.
            "A outgrows B": A gains and invades; of B when rare neither was shown, so it may be excluded or stay at a small share.
            "neither lives": nobody lived at the end of any of their jars.
            "cannot be shown with N jars and M controls": none of the above was in reach with so few.
            "undecided": something else; single tests may show something.
        relative_yield: total of yields together over yields alone, see `relative_yield_total`; None where one of them
            does not live alone.
        overlap: of niches at even shares, see `niche_overlap`; None with fewer than two jars that held both.
        overlap_jars: in how many jars that was looked at.
        blind: mean final share of the first when all are blind; None if it was not run or nobody lived.
        blind_jars: in how many jars anybody lived then.
    """

    first: str
    second: str
    first_gains: Comparison
    second_gains: Comparison
    first_invades: Comparison
    second_invades: Comparison
    first_declines: Comparison
    second_declines: Comparison
    first_gone: float
    second_gone: float
    verdict: str
    relative_yield: Interval | None
    overlap: Overlap | None
    overlap_jars: int
    blind: float | None = None
    blind_jars: int = 0


def contests(
    pairs: Mapping[tuple[str, str], Pair], controls: Mapping[str, Controls], *, seed: int = 0
) -> list[Contest]:
    """Judge all pairs together.

    "Excludes" says where shares go from what they were, beside drift: not that the last one has died (`first_gone` says
    that), nor that the loser could not stay at a share below the one that it was rare at.
    p-values are adjusted (Holm 1979) over all pairs and both sides; gains, invasions and declines are a family each, in which
    anything is shown wrongly with chance `LEVEL` at most. Every verdict needs an invasion, so with that chance at most there
    is any where nothing but drift is at work, or a "coexist" of two that do not both invade.

    Args:
        pairs: by the names of their two populations.
        controls: by name.
        seed: of bootstraps and permutations.

    Raises:
        EcologyError: a population without controls.
    """
    for name in sorted({name for pair in pairs for name in pair} - set(controls)):
        raise EcologyError(
            f"controls of {name!r}", given="none", expected="jars of it by itself", do="Run them."
        )
    gains, invasions, declines = [], [], []
    for (first, second), pair in pairs.items():
        # Which label of a control is the first means nothing, so one population lends its first and the other its
        # second: then a pair turned round is judged alike.
        even = np.concatenate([controls[first].even.shares(), 1 - controls[second].even.shares()])
        final = pair.even.shares()
        gains += [_test(final, even), _test(1 - final, 1 - even)]
        own = [controls[name].rare for name in (first, second)]
        both = pair.first_rare, pair.second_rare
        ends, late = (
            np.concatenate(each) for each in ([c.shares() for c in own], [c.late_shares() for c in own])
        )
        invasions += [_test(jar.shares(), ends) for jar in both]
        declines += [_test(jar.late_shares(), late, below=True) for jar in both]
    families = [_adjusted(tests) for tests in (gains, invasions, declines)]
    found = []
    for i, ((first, second), pair) in enumerate(pairs.items()):
        gain, invade, decline = (family[2 * i : 2 * i + 2] for family in families)
        use, blind = _shared(pair.even), None if pair.blind is None else pair.blind.shares()
        lived = 0 if blind is None else int(np.isfinite(blind).sum())
        final = pair.even.shares()
        found.append(
            Contest(
                first,
                second,
                *gain,
                *invade,
                *decline,
                first_gone=float((final == 0).mean()),
                second_gone=float((final == 1).mean()),
                verdict=_verdict(first, second, gain, invade, decline),
                relative_yield=relative_yield_total(
                    pair.even, controls[first].alone, controls[second].alone, seed=seed
                ),
                overlap=niche_overlap(use[:, 0], use[:, 1], seed=seed) if len(use) >= 2 else None,
                overlap_jars=len(use),
                blind=float(np.nanmean(blind)) if blind is not None and lived else None,
                blind_jars=lived,
            )
        )
    return found


def within_reach(p: Sequence[float], least: Sequence[float]) -> list[bool]:
    """Of each test of a family, whether its adjusted p (Holm) could have come to `LEVEL`, the others being what they are.

    Args:
        p: of the tests.
        least: what each could have been with its number of replicates.
    """
    tried = ([*p[:i], min(one, p[i]), *p[i + 1 :]] for i, one in enumerate(least))
    return [holm(each)[i] <= LEVEL for i, each in enumerate(tried)]


def log_odds(
    names: Sequence[str], pairs: Mapping[tuple[str, str], Pair], *, step: int | None = None
) -> list[list[list[float]]]:
    """By how much each beats each, `[populations][populations][jars]`, for `cyclic_test`: log odds in the even jars.

    Args:
        names: of the populations, in order.
        pairs: as of `contests`.
        step: when; at the end by default. Log odds grow while the stronger outgrows the weaker, and stop where one has
            nearly died out: then even a ranking is bent at its ends, which is not additive, and what is not additive
            counts as cyclic. `unsaturated` says until when they can be read.

    Returns:
        Upper triangle only (below it, nothing); NaN of a jar in which nobody lived.

    Raises:
        EcologyError: a pair is missing.
    """
    table: list[list[list[float]]] = [[[] for _ in names] for _ in names]
    for i, j in itertools.combinations(range(len(names)), 2):
        a, b = names[i], names[j]
        if (a, b) not in pairs and (b, a) not in pairs:
            raise EcologyError(
                "pairs", given=f"none of {a!r} and {b!r}", expected="all pairs", do="Run it too."
            )
        turned = (a, b) not in pairs
        even = pairs[(b, a) if turned else (a, b)].even
        odds = even.log_odds(-1 if step is None else even.index(step))
        table[i][j] = (-odds if turned else odds).tolist()
    return table


def unsaturated(pairs: Mapping[tuple[str, str], Pair]) -> int:
    """The last step at which the log odds of all even jars can be read as differences of one number each.

    Up to it, in every pair, both populations number 5 or more in 95 % of the jars in which anybody lives. It is one step for
    all pairs, as log odds of other times are other numbers; the stronger they differ, the sooner it is. In Wright-Fisher
    jars of additive rankings `cyclic_test` keeps its level there, which it does neither at the end nor at a set step.

    Args:
        pairs: as of `contests`.

    Returns:
        A step that was counted; 0 where it was never so.
    """
    ends = []
    for pair in pairs.values():
        fewest = pair.even.counts.min(1)
        lived = pair.even.counts.sum(1) > 0
        many = ((fewest >= _FEW) & lived).sum(0) >= _MOST * lived.sum(0)
        ends.append(int(pair.even.steps[max(0, int(np.argmin(many)) - 1) if not many.all() else -1]))
    return min(ends)


@dataclass(frozen=True)
class Standing:
    """Whether the pairs make a ranking.

    Attributes:
        order: names, the strongest of the fitted ranking first.
        cycles: triples of which each beats the next, by the sign of the mean log odds.
        triples: how many there are.
        sure_cycles: cycles each of whose three steps is a gain beside drift (adjusted p at most `LEVEL`); None where
            contests were not given. Unlike the share, it does not depend on how log odds grow.
        hodge: share of the log odds that no ranking explains, with its null. Its p holds for log odds up to `unsaturated`.
    """

    order: tuple[str, ...]
    cycles: int
    triples: int
    sure_cycles: int | None
    hodge: CyclicShare


def standing(
    names: Sequence[str],
    outcomes: Sequence[Sequence[Sequence[float]]],
    found: Sequence[Contest] | None = None,
    *,
    seed: int = 0,
    resamples: int = 9999,
) -> Standing:
    """Who beats whom, as a ranking and as what no ranking explains.

    Args:
        names: of the populations.
        outcomes: as `log_odds` gives them.
        found: the contests, for `sure_cycles`.
        seed: of the null's resampling.
        resamples: of it.

    Raises:
        EcologyError: fewer than three populations, or a pair with fewer than two jars in which anybody lived.
    """
    hodge = cyclic_test(outcomes, seed=seed, resamples=resamples)
    beats = np.zeros((len(names), len(names)), bool)
    for i, j in itertools.combinations(range(len(names)), 2):
        mean = np.nanmean(outcomes[i][j])
        beats[i, j], beats[j, i] = mean > 0, mean < 0
    sure = None
    if found is not None:
        place, sure = {name: i for i, name in enumerate(names)}, np.zeros_like(beats)
        for one in found:
            i, j = place[one.first], place[one.second]
            sure[i, j], sure[j, i] = one.first_gains.shown, one.second_gains.shown
    return Standing(
        order=tuple(str(names[i]) for i in np.argsort(-np.array(hodge.potentials), kind="stable")),
        cycles=_cycles(beats),
        triples=len(names) * (len(names) - 1) * (len(names) - 2) // 6,
        sure_cycles=None if sure is None else _cycles(sure),
        hodge=hodge,
    )


def _cycles(beats: np.ndarray) -> int:
    """Triples that go round: each is seen from its three corners."""
    step = beats.astype(int)
    return int(np.trace(step @ step @ step)) // 3


def _test(share: np.ndarray, drift: np.ndarray, *, below: bool = False) -> Comparison:
    # Rounded, so that a share and what another leaves of 1 tie where they are the same.
    share, drift = (np.round(rows[np.isfinite(rows)], 12) for rows in (share, drift))
    if not len(share) or not len(drift):
        mean, of_drift = (float(rows.mean()) if len(rows) else np.nan for rows in (share, drift))
        return Comparison(mean, of_drift, 1.0, 1.0, len(share), len(drift), 1.0)
    ours, theirs = (1 - share, 1 - drift) if below else (share, drift)
    p, least = (mann_whitney(rows, theirs).p for rows in (ours, np.ones(len(ours))))
    return Comparison(float(share.mean()), float(drift.mean()), p, p, len(share), len(drift), least)


def _adjusted(tests: Sequence[Comparison]) -> list[Comparison]:
    p = [test.p for test in tests]
    reach = within_reach(p, [test.least for test in tests])
    return [
        dataclasses.replace(test, holm=adjusted, in_reach=could)
        for test, adjusted, could in zip(tests, holm(p), reach, strict=True)
    ]


def _verdict(
    first: str,
    second: str,
    gain: Sequence[Comparison],
    invade: Sequence[Comparison],
    decline: Sequence[Comparison],
) -> str:
    if all(one.shown for one in invade):
        return "coexist"
    for winner, loser, names in ((0, 1, (first, second)), (1, 0, (second, first))):
        if gain[winner].shown and invade[winner].shown:
            return f"{names[0]} {'excludes' if decline[loser].shown else 'outgrows'} {names[1]}"
    asked = [*gain, *invade]
    if not any(one.jars for one in asked):
        return "neither lives"
    if not all(one.in_reach for one in invade) and not any(
        one.in_reach and other.in_reach for one, other in zip(gain, invade, strict=True)
    ):
        fewest = min(asked, key=lambda one: (one.jars, one.controls))
        return f"cannot be shown with {fewest.jars} jars and {fewest.controls} controls"
    return "undecided"


def _shared(jar: Jar) -> np.ndarray:
    """Use of niches `[jars, labels, bins]` of those jars in which every label was seen."""
    return jar.use[(jar.use.sum(2) > 0).all(1)]
