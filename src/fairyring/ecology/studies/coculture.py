"""The study of co-culture: populations that evolved apart, put together in pairs, with every control.

A jar is one replicate of a co-culture: a closed world. Some names of fields speak of jars because `study.json` does.
"""

import dataclasses
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.ecology.analysis import (
    LEVEL,
    VERDICTS,
    Contest,
    Controls,
    Pair,
    Standing,
    contests,
    log_odds,
    relative_yield_total,
    standing,
    unsaturated,
    within_reach,
)
from fairyring.ecology.history import Evolution, fingerprint
from fairyring.ecology.lab import Mix, Population, cocultures, scaled
from fairyring.ecology.results import Row, rows_of
from fairyring.ecology.studies.study import Arm, Progress, conduct, part
from fairyring.ecology.world import NUMBERS, World, World2
from fairyring.statistics import Interval, clopper_pearson, holm

EVEN, RARE = 0.5, 0.05


@dataclass(frozen=True)
class PopulationSummary:
    """One population by itself.

    Attributes:
        name: the number of its world.
        evolved: how many lived there at the end.
        immigrants: how many came in over the last quarter of its evolution; 0 if it sustained itself.
        alone: mean yield in monoculture.
        died_out: share of the monoculture jars in which nobody lived at the end.
        drift: standard deviation of the final share of one of two labels for this population, from even shares; NaN if
            fewer than two of these jars survived.
        relative_yield: under two labels, against the monoculture; 1 except for chance.
    """

    name: str
    evolved: int
    immigrants: int
    alone: float
    died_out: float
    drift: float
    relative_yield: Interval | None


@dataclass(frozen=True)
class CocultureResult:
    """The results of a study of co-culture, as plain numbers.

    Attributes:
        world: settings in which the populations evolved.
        jar: settings of the jars, which are smaller.
        evolution_steps, jar_steps, replicates, founders, seed: of the runs.
        populations: each by itself.
        contests: each pair.
        verdicts: how many pairs have each of `VERDICTS`; `Contest` defines them.
        undecided: the undecided pairs, counted: one population gains from even shares beyond drift ("gains"); else, one
            invades or declines when rare ("rare"); else nothing was shown ("nothing").
        outcomes: log odds at the end `[populations][populations][jars]`, upper triangle; NaN for an extinct jar.
        early_outcomes: the same at `early_step`.
        early_step: the last step at which log odds can be interpreted, see `unsaturated`; 0 if there is none.
        standing: the ranking that the outcomes make. If jars ran beyond `early_step`, saturation distorts its cyclic share,
            and the p of it means nothing.
        early_standing: the same from the early outcomes. Its cyclic share is the one that is tested; it has no
            `sure_cycles`, since gains are measured at the end. Both are None for fewer than three populations, if a pair has
            fewer than two surviving jars, or if nobody was born or died yet.
        worlds: number of jars.
        seconds: spent on everything.
        found: the conclusions in sentences.
    """

    world: dict[str, object]
    jar: dict[str, object]
    evolution_steps: int
    jar_steps: int
    replicates: int
    founders: int
    seed: int
    populations: tuple[PopulationSummary, ...]
    contests: tuple[Contest, ...]
    verdicts: dict[str, int]
    undecided: dict[str, int]
    outcomes: list[list[list[float]]]
    early_outcomes: list[list[list[float]]]
    early_step: int
    standing: Standing | None
    early_standing: Standing | None
    worlds: int
    seconds: float
    found: tuple[str, ...]

    def table(self) -> list[Row]:
        """A row for each pair: the two populations, every comparison with its p, and the verdict."""
        return rows_of(self.contests)

    def first_larger(self, contest: Contest) -> tuple[int, int, float | None, float | None]:
        """How often the first population of a pair is the larger at the end, from even shares.

        Returns:
            The number of such jars, the number of surviving jars, and the two ends of the 95 % Clopper-Pearson interval of
            the share; None for the ends if no jar survived.
        """
        names = [population.name for population in self.populations]
        odds = np.array(self.outcomes[names.index(contest.first)][names.index(contest.second)], float)
        lived, larger = int(np.isfinite(odds).sum()), int((odds > 0).sum())
        low, high = clopper_pearson(larger, lived) if lived else (None, None)
        return larger, lived, low, high


@dataclass(frozen=True)
class CocultureStudy:
    """The study of co-culture; arguments as in `study_coculture`."""

    settings: World
    populations: int = 6
    evolution_steps: int | None = None
    jar_steps: int | None = None
    replicates: int | None = None
    founders: int | None = None
    scale: float = 0.5
    seed: int = 0
    quick: bool = False

    @property
    def kind(self) -> str:
        return "jars"

    def arms(self) -> tuple[Arm, ...]:
        if self.populations < 2:
            raise EcologyError(
                "populations", given=self.populations, expected="2 or more", do="Ask for some."
            )
        steps = self.evolution_steps or (2000 if self.quick else 8000)
        return (Arm("populations", self.settings, range(self.populations), steps, "populations"),)

    def decide(self, runs: Mapping[str, Evolution], progress: Progress, cores: int | None) -> dict[str, Any]:
        return {
            "runs": {"populations": fingerprint(runs["populations"])},
            "jars": self.put_together(runs["populations"], progress, cores),
        }

    def put_together(self, evolved: Evolution, progress: Progress, cores: int | None) -> CocultureResult:
        """Run all pairs of the first populations of a run together, with every control, and decide.

        Raises:
            EcologyError: the run has too few populations, or one of them is extinct.
        """
        start, count, settings = perf_counter(), self.populations, evolved.settings
        jar_steps = self.jar_steps or (900 if self.quick else 3000)
        replicates = self.replicates or (6 if self.quick else 20)
        populations = [Population.of(evolved, number) for number in evolved.numbers[:count]]
        if len(populations) < count or not all(len(one.genomes) for one in populations):
            raise EcologyError(
                "populations",
                given=f"{sum(len(one.genomes) > 0 for one in populations)} that live",
                expected=f"{count}",
                do="Take other seeds or more worlds.",
            )
        small = scaled(dataclasses.replace(settings, control="none"), self.scale)
        founders = self.founders or max(2, min(small.capacity // 2, round(settings.founders * self.scale)))
        common = {
            "founders": founders, "steps": jar_steps, "replicates": replicates, "seed": self.seed, "cores": cores,
            "every": next(n for n in (10, 5, 4, 2, 1) if jar_steps % n == 0),
        }  # fmt: skip
        couples = list(itertools.combinations(populations, 2))
        mixes = [mix for a, b in couples for mix in _mixes(a, b)] + [
            mix for one in populations for mix in (Mix(one.name, (one,), (1.0,)), *_mixes(one, one)[:2])
        ]
        sighted = {
            one.name: one for one in cocultures(small, mixes, **common, progress=part(progress, "jars"))
        }
        blind = {
            one.name: one
            for one in cocultures(
                dataclasses.replace(small, control="blind"),
                [_mixes(a, b)[0] for a, b in couples],
                **common,
                progress=part(progress, "blind jars"),
            )
        }
        pairs = {
            (a.name, b.name): Pair(
                *(sighted[mix.name] for mix in _mixes(a, b)), blind=blind[_mixes(a, b)[0].name]
            )
            for a, b in couples
        }
        controls = {
            one.name: Controls(sighted[one.name], *(sighted[mix.name] for mix in _mixes(one, one)[:2]))
            for one in populations
        }
        return _result(
            settings, small, evolved, pairs, controls, jar_steps, replicates, founders, self.seed, start
        )


def study_coculture(
    out_folder: str | os.PathLike[str] | None = None,
    *,
    settings: World | None = None,
    populations: int = 6,
    evolved: Evolution | None = None,
    evolution_steps: int | None = None,
    jar_steps: int | None = None,
    replicates: int | None = None,
    founders: int | None = None,
    scale: float = 0.5,
    seed: int = 0,
    quick: bool = False,
    cores: int | None = None,
    progress: Progress | None = None,
) -> CocultureResult:
    """Evolve populations apart and put all pairs of them together.

    Each pair is run at even shares; with either one at 5 % of the founders; and at even shares with everybody blind (each
    gets the observation of another bacterium). Each population is run alone, and under two labels at even shares and at 5 %,
    which measures drift. Jars have no immigration, mutation or conjugation. They have `scale` times the width of the world,
    and food, sources and capacity scale with the area. So densities are unchanged, and drift is stronger than where the
    populations evolved (at scale 0.5 about twice).

    Args:
        out_folder: where the run of the evolving populations is stored, as `populations.eco`, and continued, and
            `study.json` is written; None stores nothing.
        settings: of the world they evolve in; a `World2` by default.
        populations: how many; 2 or more. Every world with survivors takes part, whatever happens to it in jars; an extinct
            one is refused.
        evolved: a run to take the populations from instead: its first `populations` worlds.
        evolution_steps: 8,000; quick 2,000.
        jar_steps: 3,000; quick 900.
        replicates: jars of each kind; 20, quick 6.
        founders: of a jar; by default `scale` times those of the settings, but at most half the jar's capacity.
        scale: width of a jar over that of the world.
        seed: of all randomness.
        quick: fewer and shorter jars, for a first look.
        cores: how many to use; all by default.
        progress: called with what is being done, how much of it is done, and how much there is.

    Raises:
        EcologyError: fewer than two populations, or an extinct one.
        RunMismatch: the folder holds a run of other settings or another seed, or a longer one.
        StorageError: the folder cannot be made, or not be written to.
    """
    study = CocultureStudy(
        evolved.settings if evolved is not None else settings or World2(),
        populations,
        evolution_steps,
        jar_steps,
        replicates,
        founders,
        scale,
        seed,
        quick,
    )
    runs = None if evolved is None else {"populations": evolved}
    return conduct(study, out_folder, runs=runs, cores=cores, progress=progress)["jars"]


def _mixes(a: Population, b: Population) -> list[Mix]:
    return [
        Mix(f"{a.name} + {b.name}", (a, b), (EVEN, 1 - EVEN)),
        Mix(f"{a.name} into {b.name}", (a, b), (RARE, 1 - RARE)),
        Mix(f"{b.name} into {a.name}", (b, a), (RARE, 1 - RARE)),
    ]


def _result(
    settings: World,
    small: World,
    evolved: Evolution,
    pairs: dict[tuple[str, str], Pair],
    controls: dict[str, Controls],
    steps: int,
    replicates: int,
    founders: int,
    seed: int,
    start: float,
) -> CocultureResult:
    rows, names = contests(pairs, controls, seed=seed), list(controls)
    early_step = unsaturated(pairs)
    late_odds, early_odds = log_odds(names, pairs), log_odds(names, pairs, step=early_step)
    late, early = _standing(names, late_odds, rows, seed), _standing(names, early_odds, None, seed)
    verdicts = {kind: sum(kind in contest.verdict for contest in rows) for kind in VERDICTS}
    undecided = _undecided(rows)
    populations = tuple(_population(name, controls[name], evolved, i, seed) for i, name in enumerate(names))
    return CocultureResult(
        settings.described(),
        small.described(),
        evolved.steps,
        steps,
        replicates,
        founders,
        seed,
        populations,
        tuple(rows),
        verdicts,
        undecided,
        late_odds,
        early_odds,
        early_step,
        late,
        early,
        worlds=(4 * len(pairs) + 3 * len(controls)) * replicates,
        seconds=perf_counter() - start,
        found=_sentences(rows, verdicts, undecided, late, early, early_step),
    )


def _population(name: str, own: Controls, evolved: Evolution, i: int, seed: int) -> PopulationSummary:
    world = evolved.worlds[i]
    single, final = own.alone.yields().sum(1), own.even.shares()
    surviving = final[np.isfinite(final)]
    return PopulationSummary(
        name,
        len(world.living()),
        int(world.numbers[-(world.steps // 4) :, NUMBERS.index("immigrants")].sum()),
        float(single.mean()),
        float((own.alone.population[:, -1] == 0).mean()),
        float(surviving.std(ddof=1)) if len(surviving) > 1 else np.nan,
        relative_yield_total(own.even, own.alone, own.alone, seed=seed),
    )


def _standing(
    names: list[str], odds: list[list[list[float]]], rows: list[Contest] | None, seed: int
) -> Standing | None:
    surviving = [np.isfinite(odds[i][j]).sum() for i, j in itertools.combinations(range(len(names)), 2)]
    changed = any(np.nan_to_num(cell).any() for row in odds for cell in row)
    if len(names) < 3 or min(surviving) < 2 or not changed:
        return None
    return standing(names, odds, rows, seed=seed)


def _undecided(rows: list[Contest]) -> dict[str, int]:
    """What was shown in the pairs without a verdict."""
    counts = {"gains": 0, "rare": 0, "nothing": 0}
    for one in rows:
        if one.verdict == "undecided":
            gains = one.first_gains.shown or one.second_gains.shown
            of_rare = one.first_invades, one.second_invades, one.first_declines, one.second_declines
            rare = any(test.shown for test in of_rare)
            counts["gains" if gains else "rare" if rare else "nothing"] += 1
    return counts


def _sentences(
    rows: list[Contest],
    verdicts: dict[str, int],
    undecided: dict[str, int],
    late: Standing | None,
    early: Standing | None,
    early_step: int,
) -> tuple[str, ...]:
    lines = [
        f"Of {len(rows)} pairs, one population excludes the other in {verdicts['excludes']} (it gains from even shares, invades "
        f"from 5 %, and the other declines from 5 %), one outgrows the other in {verdicts['outgrows']} (it gains and invades; "
        f"nothing is shown of the other when rare), {verdicts['coexist']} coexist (each invades from 5 %), and "
        f"{verdicts['undecided']} are undecided; all against drift, Holm over all pairs."
    ]
    if verdicts["undecided"]:
        lines.append(
            f"Of the undecided pairs, one population gains from even shares beyond drift in {undecided['gains']}; something is "
            f"shown of one when rare in {undecided['rare']} others; nothing is shown in {undecided['nothing']}."
        )
    if verdicts["cannot be shown"]:
        lines.append(f"In {verdicts['cannot be shown']} no verdict can be shown with so few surviving jars.")
    if verdicts["neither lives"]:
        lines.append(f"In {verdicts['neither lives']} nobody lived at the end of any jar.")
    hidden = sum(_hidden(contest) for contest in rows)
    if hidden:
        lines.append(
            f"In {hidden} of those where one outgrows the other, exclusion cannot be shown with so few jars, since drift "
            "loses as many of the rare."
        )
    yields = [contest.relative_yield for contest in rows if contest.relative_yield is not None]
    known = [interval for interval in yields if interval.method != "too few"]
    above = sum(interval.low > 1 for interval in known)
    lines.append(
        f"Relative yield total: its 95 % interval is above 1 in {above} of {len(known)} pairs (each by itself, not adjusted)."
        if known
        else "Relative yield total: no interval of it can be given with so few jars."
    )
    lines.append(_niches(rows))
    if late is not None:
        lines.append(
            f"{late.cycles} of {late.triples} triples are cyclic by sign at the end, {late.sure_cycles} by gains beyond drift."
        )
        if early is None:
            lines.append(
                f"Cyclic share of the final log odds {late.hodge.share:.3f}: distorted by saturation and not interpreted; there "
                "is no step at which it could be."
            )
        else:
            lines.append(
                f"Cyclic share of the log odds at step {early_step}, the last before saturation distorts it, "
                f"{early.hodge.share:.3f}; under a ranking alone {early.hodge.null_share:.3f}, p {early.hodge.p:.3g}."
            )
    return tuple(lines)


def _hidden(contest: Contest) -> bool:
    """Whether one population outgrows the other and exclusion was out of reach."""
    if "outgrows" not in contest.verdict:
        return False
    loser = contest.second_declines if contest.first_gains.shown else contest.first_declines
    return not loser.in_reach


def _niches(rows: list[Contest]) -> str:
    overlaps = [(contest.overlap, contest.overlap_jars) for contest in rows if contest.overlap is not None]
    if not overlaps:
        return "Niches were not compared: no pair has two jars in which both populations were seen."
    p = [overlap.p for overlap, _ in overlaps]
    least = [
        max(2 / 2**jars, 1e-4) for _, jars in overlaps
    ]  # smallest p of `niche_overlap` with so many jars
    differing = sum(one <= LEVEL for one in holm(p))
    never = len(p) - sum(within_reach(p, least))
    few = f"; in {never} that cannot be shown with so few jars that held both" if never else ""
    return (
        f"Niches (food by signal at their places) differ between labels in {differing} of {len(p)} pairs (Holm){few}; the "
        f"smallest overlap is {min(overlap.overlap for overlap, _ in overlaps):.3f}."
    )
