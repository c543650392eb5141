"""What jars say: who takes over from whom, beside what drift does to two names of one population.

A pair of populations is put together at even shares, and each of them rare among the other. All three are held against the
control that is one population under two labels, drawn and run alike: its shares wander too, and a share that wanders as far by
chance shows nothing. A pair's control is that of its two populations together.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.ecology.jars import Jar
from fairyring.ecology.rotation import CyclicShare, cyclic_test
from fairyring.ecology.statistics import Interval, Overlap, holm, mann_whitney, niche_overlap

LEVEL = 0.05


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
        mean: of the final share over jars in which anybody lived.
        drift: the same of the control.
        p: exact, of shares above the control's (Mann-Whitney).
        holm: the same, adjusted for all pairs that were asked; equal to `p` until they are.
        jars, controls: how many there were.
    """

    mean: float
    drift: float
    p: float
    holm: float
    jars: int
    controls: int


@dataclass(frozen=True)
class Contest:
    """What the jars of a pair say, as plain numbers.

    Attributes:
        first, second: names of the populations.
        first_gains, second_gains: from even shares; `holm` is over both sides of all pairs.
        first_invades, second_invades: from rarity; `holm` is over both sides of all pairs.
        first_gone, second_gone: share of the even jars in which it had died out while the other had not.
        verdict: "A excludes B": A gains and invades and B does not invade; "coexist": both invade; else "undecided".
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

    "Excludes" says where shares go, beside drift, and not that the last one has died: `first_gone` says that.
    p-values are adjusted (Holm 1979) over all pairs and both sides, gains and invasions each as one family, so a verdict
    is wrong anywhere with chance `LEVEL` at most where nothing but drift is at work.

    Args:
        pairs: by the names of their two populations.
        controls: by name.
        seed: of bootstraps and permutations.

    Raises:
        EcologyError: a population without controls, or a pair in whose jars nobody lived.
    """
    for name in sorted({name for pair in pairs for name in pair} - set(controls)):
        raise EcologyError(
            f"controls of {name!r}", given="none", expected="jars of it by itself", do="Run them."
        )
    gains, invasions = [], []
    for (first, second), pair in pairs.items():
        # Which label of a control is the first means nothing, so one population lends its first and the other its
        # second: then a pair turned round is judged alike.
        even = np.concatenate([controls[first].even.shares(), 1 - controls[second].even.shares()])
        rare = np.concatenate([controls[name].rare.shares() for name in (first, second)])
        final = pair.even.shares()
        gains += [_test(final, even), _test(1 - final, 1 - even)]
        invasions += [_test(pair.first_rare.shares(), rare), _test(pair.second_rare.shares(), rare)]
    gains, invasions = _adjusted(gains), _adjusted(invasions)
    found = []
    for i, ((first, second), pair) in enumerate(pairs.items()):
        gain, invade = gains[2 * i : 2 * i + 2], invasions[2 * i : 2 * i + 2]
        use, blind = _shared(pair.even), None if pair.blind is None else pair.blind.shares()
        lived = 0 if blind is None else int(np.isfinite(blind).sum())
        final = pair.even.shares()
        found.append(
            Contest(
                first,
                second,
                *gain,
                *invade,
                first_gone=float((final == 0).mean()),
                second_gone=float((final == 1).mean()),
                verdict=_verdict(first, second, gain, invade),
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


def relative_yield_total(
    together: Jar, *alone: Jar, confidence: float = 0.95, seed: int = 0, resamples: int = 1999
) -> Interval | None:
    """Relative yield total (de Wit 1960): the sum over labels of the mean yield together over the mean yield alone.

    1 where labels share one resource by replacing each other; above, they use what the other leaves; below, they harm each
    other. The interval is a BCa bootstrap over jars, of those together and of each of those alone.

    Args:
        together: of some labels.
        alone: of each of these, in order, by itself.
        confidence: of the interval.
        seed: of the resampling.
        resamples: how many.

    Returns:
        The interval, or None where some label has no yield alone.

    Raises:
        EcologyError: not one jar alone for each label.
    """
    from scipy.stats import bootstrap

    if len(alone) != len(together.labels):
        raise EcologyError(
            "jars alone", given=len(alone), expected=f"{len(together.labels)}, one a label", do="Pass them."
        )
    mixed, single = together.yields(), [one.yields().sum(1) for one in alone]
    if min(float(one.mean()) for one in single) <= 0:
        return None

    def total(rows: np.ndarray, *each: np.ndarray, axis: int = -1) -> np.ndarray:
        # Rows of a jar are drawn by number, so that its labels stay together.
        yields = mixed[rows.astype(int)].mean(axis=axis - 1)  # the labels' axis comes last
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.sum([yields[..., i] / one.mean(axis=axis) for i, one in enumerate(each)], axis=0)

    estimate = float(total(np.arange(len(mixed)), *single))
    size = len(mixed)
    if min(size, *map(len, single)) < 3:
        return Interval(estimate, -np.inf, np.inf, confidence, size, "too few")
    result = bootstrap(
        (np.arange(size), *single),
        total,
        confidence_level=confidence,
        n_resamples=resamples,
        vectorized=True,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    low, high = (float(end) for end in result.confidence_interval)
    if np.isfinite([low, high]).all():
        return Interval(estimate, low, high, confidence, size, "BCa")
    drawn = result.bootstrap_distribution
    tail = (1 - confidence) / 2
    low, high = (float(end) for end in np.quantile(drawn[np.isfinite(drawn)], [tail, 1 - tail]))
    return Interval(estimate, low, high, confidence, size, "percentile")


def log_odds(
    names: Sequence[str], pairs: Mapping[tuple[str, str], Pair], *, step: int | None = None
) -> list[list[list[float]]]:
    """By how much each beats each, `[populations][populations][jars]`, for `cyclic_test`: log odds in the even jars.

    Args:
        names: of the populations, in order.
        pairs: as of `contests`.
        step: when; at the end by default. Log odds grow by a constant rate while the stronger only outgrows the weaker,
            and stop where one has died out: late ones show a ranking bent at its ends, which is not additive, and
            what is not additive counts as cyclic. So early ones belong beside them.

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


@dataclass(frozen=True)
class Standing:
    """Whether the pairs make a ranking.

    Attributes:
        order: names, the strongest of the fitted ranking first.
        cycles: triples of which each beats the next, by the sign of the mean log odds.
        triples: how many there are.
        sure_cycles: cycles each of whose three steps is a gain beside drift (adjusted p at most `LEVEL`); None where
            contests were not given. Unlike the share, it does not depend on how log odds grow.
        hodge: share of the log odds that no ranking explains, with its null.
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
            sure[i, j], sure[j, i] = one.first_gains.holm <= LEVEL, one.second_gains.holm <= LEVEL
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


def _test(final: np.ndarray, drift: np.ndarray) -> Comparison:
    # Rounded, so that a share and what another leaves of 1 tie where they are the same.
    final, drift = (np.round(rows[np.isfinite(rows)], 12) for rows in (final, drift))
    if not len(final) or not len(drift):
        raise EcologyError(
            "final shares",
            given=f"{len(final)} jars and {len(drift)} controls in which anybody lived",
            expected="at least one of each",
            do="Give the jars more food, or end them earlier.",
        )
    p = mann_whitney(final, drift).p
    return Comparison(float(final.mean()), float(drift.mean()), p, p, len(final), len(drift))


def _adjusted(tests: Sequence[Comparison]) -> list[Comparison]:
    adjusted = holm([test.p for test in tests])
    return [
        Comparison(test.mean, test.drift, test.p, p, test.jars, test.controls)
        for test, p in zip(tests, adjusted, strict=True)
    ]


def _verdict(first: str, second: str, gain: Sequence[Comparison], invade: Sequence[Comparison]) -> str:
    gains, invades = ([test.holm <= LEVEL for test in tests] for tests in (gain, invade))
    if all(invades):
        return "coexist"
    for winner, loser, names in ((0, 1, (first, second)), (1, 0, (second, first))):
        if gains[winner] and invades[winner] and not invades[loser]:
            return f"{names[0]} excludes {names[1]}"
    return "undecided"


def _shared(jar: Jar) -> np.ndarray:
    """Use of niches `[jars, labels, bins]` of those jars in which every label was seen."""
    return jar.use[(jar.use.sum(2) > 0).all(1)]
