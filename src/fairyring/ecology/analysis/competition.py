"""Competition in co-culture: which population takes over, compared with drift between two labels of one population.

A pair of populations is put together at even shares, and with each of them rare. All three are compared with a control: one
population under two labels, drawn and run in the same way. Its shares drift too, and a share that drift reaches as easily shows
nothing. The control of a pair combines those of its two populations.

A verdict needs something that was shown; a test without a result is no evidence of the contrary. To exclude another, a population
must be seen to grow, and the other must be seen to decline when rare.
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
from fairyring.ecology.lab import Coculture
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
# Log odds can be interpreted while both labels have this many individuals in this share of the jars.
_FEW, _SHARE = 5, 0.95


@dataclass(frozen=True, eq=False)
class Pair:
    """The co-cultures of two populations.

    Attributes:
        even: at even shares, the first population first.
        first_rare: the first population rare among the second; its label is the first.
        second_rare: the second population rare among the first; its label is the first there.
        blind: as `even`, with all individuals blind; None if it was not run.
    """

    even: Coculture
    first_rare: Coculture
    second_rare: Coculture
    blind: Coculture | None = None


@dataclass(frozen=True, eq=False)
class Controls:
    """The co-cultures of one population with itself.

    Attributes:
        alone: in monoculture.
        even: under two labels at even shares.
        rare: under two labels, the first of which is as rare as in an invasion.
    """

    alone: Coculture
    even: Coculture
    rare: Coculture


@dataclass(frozen=True)
class Comparison:
    """A one-sided comparison with drift.

    Attributes:
        mean: of the share over surviving jars; NaN if there are none.
        drift: the same for the control.
        p: exact, that shares are above the control's, or below them for a decline (Mann-Whitney); 1 without jars or controls.
        holm: p adjusted for the family of tests; equal to `p` until it is adjusted.
        jars, controls: numbers of surviving jars.
        least: what `p` would be if the share were 1 (0 for a decline) in every jar.
        in_reach: whether `holm` could then reach `LEVEL`, with all other tests as they are.
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
        """Whether it is beyond drift, after adjustment."""
        return self.holm <= LEVEL


@dataclass(frozen=True)
class Contest:
    """The conclusions about a pair of populations, as plain numbers.

    Gains and invasions compare shares at the end. A decline compares shares over the last third of the steps, since by the end
    drift has lost many of the rare as well.

    Attributes:
        first, second: names of the populations.
        first_gains, second_gains: from even shares; `holm` is over both sides of all pairs.
        first_invades, second_invades: from rarity; likewise.
        first_declines, second_declines: from rarity; likewise.
        first_gone, second_gone: share of the even jars in which this population alone died out.
        verdict: the first of these that holds.
            "coexist": each invades the other.
            "A excludes B": A gains, A invades, and B declines when rare.
            "A outgrows B": A gains and invades; for B when rare neither growth nor decline was shown, so it may be excluded or
            stay at a small share.
            "neither lives": nobody lived at the end of any of their jars.
            "cannot be shown with N jars and M controls": none of the above was in reach with so few.
            "undecided": anything else; single tests may show something.
        relative_yield: see `relative_yield_total`; None if one population does not survive in monoculture.
        overlap: of niches at even shares, see `niche_overlap`; None with fewer than two jars that held both.
        overlap_jars: number of jars for `overlap`.
        blind: mean final share of the first population when all are blind; None if it was not run or no jar survived.
        blind_jars: number of surviving jars for `blind`.
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

    "Excludes" is about the direction of change beyond drift. It does not mean that the last individual has died
    (`first_gone` measures that), nor that the loser could not persist at a share below the one at which it was introduced.

    p-values are adjusted (Holm 1979) over all pairs and both sides. Gains, invasions and declines are one family each, in which
    the probability of any false result is at most `LEVEL`. Every verdict needs an invasion. So where only drift is at work, the
    probability of any verdict is at most `LEVEL`, and so is that of a "coexist" for two that do not both invade.

    Args:
        pairs: by the names of their two populations.
        controls: by the name of the population.
        seed: of bootstraps and permutations.

    Raises:
        EcologyError: a population without controls.
    """
    for name in sorted({name for pair in pairs for name in pair} - set(controls)):
        raise EcologyError(
            f"controls of {name!r}", given="none", expected="its monoculture and drift jars", do="Run them."
        )
    gains, invasions, declines = [], [], []
    for (first, second), pair in pairs.items():
        # The order of a control's labels is arbitrary. One population contributes its first label and the other its second,
        # so that a pair in reverse order is judged alike.
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
    rows = []
    for i, ((first, second), pair) in enumerate(pairs.items()):
        gain, invade, decline = (family[2 * i : 2 * i + 2] for family in families)
        use, blind = _shared(pair.even), None if pair.blind is None else pair.blind.shares()
        surviving = 0 if blind is None else int(np.isfinite(blind).sum())
        final = pair.even.shares()
        rows.append(
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
                blind=float(np.nanmean(blind)) if blind is not None and surviving else None,
                blind_jars=surviving,
            )
        )
    return rows


def within_reach(p: Sequence[float], least: Sequence[float]) -> list[bool]:
    """For each test of a family, whether its adjusted p (Holm) could reach `LEVEL` with the other tests as they are.

    Args:
        p: of the tests.
        least: the smallest possible p of each test with its number of replicates.
    """
    tried = ([*p[:i], min(one, p[i]), *p[i + 1 :]] for i, one in enumerate(least))
    return [holm(each)[i] <= LEVEL for i, each in enumerate(tried)]


def log_odds(
    names: Sequence[str], pairs: Mapping[tuple[str, str], Pair], *, step: int | None = None
) -> list[list[list[float]]]:
    """How strongly each population beats each other one: log odds in the even jars, for `cyclic_test`.

    Args:
        names: of the populations, in order.
        pairs: as in `contests`.
        step: at which; the last by default. Log odds grow while the stronger outgrows the weaker, and saturate when one has
            nearly died out. Then even a ranking is no longer additive, and what is not additive counts as cyclic.
            `unsaturated` gives the last step before that.

    Returns:
        `[populations][populations][jars]`, with empty lists except in the upper triangle; NaN for an extinct jar.

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
    """The last step at which the log odds of all even jars are still additive under a ranking.

    Up to this step, in every pair, both populations have 5 or more individuals in 95 % of the surviving jars. It is the same
    step for all pairs, since log odds at different times are not comparable. The stronger the differences, the earlier it is.
    In Wright-Fisher simulations of additive rankings `cyclic_test` keeps its level at this step, but neither at the end nor at
    a fixed step.

    Args:
        pairs: as in `contests`.

    Returns:
        A step that was counted; 0 if there is none.
    """
    ends = []
    for pair in pairs.values():
        fewest = pair.even.counts.min(1)
        surviving = pair.even.counts.sum(1) > 0
        enough = ((fewest >= _FEW) & surviving).sum(0) >= _SHARE * surviving.sum(0)
        ends.append(int(pair.even.steps[max(0, int(np.argmin(enough)) - 1) if not enough.all() else -1]))
    return min(ends)


@dataclass(frozen=True)
class Standing:
    """How far the pairs make a ranking.

    Attributes:
        order: names in the order of the fitted ranking, the strongest first.
        cycles: triples in which each beats the next, by the sign of the mean log odds.
        triples: number of triples.
        sure_cycles: cycles in which each of the three steps is a gain beyond drift (adjusted p at most `LEVEL`); None if no
            contests were given. Unlike the share, it does not depend on how log odds grow.
        hodge: the share of the log odds that no ranking explains, with its null. Its p is valid up to `unsaturated`.
    """

    order: tuple[str, ...]
    cycles: int
    triples: int
    sure_cycles: int | None
    hodge: CyclicShare


def standing(
    names: Sequence[str],
    outcomes: Sequence[Sequence[Sequence[float]]],
    rows: Sequence[Contest] | None = None,
    *,
    seed: int = 0,
    resamples: int = 9999,
) -> Standing:
    """Split who beats whom into a ranking and what no ranking explains.

    Args:
        names: of the populations.
        outcomes: as `log_odds` gives them.
        rows: the contests, for `sure_cycles`.
        seed: of the resampling under the null.
        resamples: how many.

    Raises:
        EcologyError: fewer than three populations, or a pair with fewer than two jars in which anybody lived.
    """
    hodge = cyclic_test(outcomes, seed=seed, resamples=resamples)
    beats = np.zeros((len(names), len(names)), bool)
    for i, j in itertools.combinations(range(len(names)), 2):
        mean = np.nanmean(outcomes[i][j])
        beats[i, j], beats[j, i] = mean > 0, mean < 0
    sure = None
    if rows is not None:
        place, sure = {name: i for i, name in enumerate(names)}, np.zeros_like(beats)
        for one in rows:
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
    """Number of cyclic triples; the trace counts each from its three corners."""
    step = beats.astype(int)
    return int(np.trace(step @ step @ step)) // 3


def _test(share: np.ndarray, drift: np.ndarray, *, below: bool = False) -> Comparison:
    # Rounded, so that a share and its complement tie where they are equal.
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


def _shared(jar: Coculture) -> np.ndarray:
    """Use of niches `[jars, labels, bins]` in the jars in which every label was seen."""
    return jar.use[(jar.use.sum(2) > 0).all(1)]
