"""The study of jars: populations that evolved apart, all pairs of them together, with every control."""

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
from fairyring.ecology.lab import Mix, Population, jars, scaled
from fairyring.ecology.studies.study import Arm, Told, conduct, part
from fairyring.ecology.world import World, World2
from fairyring.statistics import Interval, clopper_pearson, holm

EVEN, RARE = 0.5, 0.05


@dataclass(frozen=True)
class Inhabitants:
    """A population, by itself.

    Attributes:
        name: of it: the number of its world.
        evolved: how many lived there at the end.
        newcomers: how many came in over the last quarter of its evolution: 0 where it kept itself.
        alone: mean yield in its jars, without anybody else.
        died_out: share of its jars alone in which nobody lived at the end.
        drift: standard deviation of the final share of one of two labels for it, from even shares; NaN where fewer than two
            of these jars lived.
        relative_yield: of it under two labels against itself alone: 1, but for chance.
    """

    name: str
    evolved: int
    newcomers: int
    alone: float
    died_out: float
    drift: float
    relative_yield: Interval | None


@dataclass(frozen=True)
class JarStudy:
    """What the jars of evolved populations say, as plain numbers.

    Attributes:
        world: settings the populations evolved in.
        jar: settings of the jars, on a smaller width.
        evolution_steps, jar_steps, replicates, founders, seed: of the runs.
        populations: each by itself.
        contests: each pair.
        verdicts: how often there was which of `VERDICTS`; what they mean is with `Contest`.
        undecided: in how many of the undecided pairs one of them gains from even shares beyond drift ("gains"); in how many
            others one invades or declines when rare ("rare"); and in how many nothing was shown ("nothing").
        outcomes: log odds at the end `[populations][populations][jars]`, upper triangle; NaN of a jar that died out.
        early_outcomes: the same at `early_step`.
        early_step: the last step at which log odds can be read, see `unsaturated`; 0 where there is none.
        standing: what ranking the outcomes make. Where jars went on after `early_step`, its cyclic share is bent by
            saturation: a number, whose p means nothing.
        early_standing: the same of the early outcomes, whose cyclic share is judged; it holds no `sure_cycles`, as gains are
            of the end. Both are None of fewer than three populations, where a pair has fewer than two jars that lived, or
            where nobody was born or died yet.
        worlds: how many jars were run.
        seconds: of everything.
        found: in plain sentences.
    """

    world: dict[str, object]
    jar: dict[str, object]
    evolution_steps: int
    jar_steps: int
    replicates: int
    founders: int
    seed: int
    populations: tuple[Inhabitants, ...]
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

    def first_larger(self, one: Contest) -> tuple[int, int, float | None, float | None]:
        """In how many jars of a pair, that began at even shares, the first is the larger at the end; of how many in which anybody
        lived; and the 95 % Clopper-Pearson interval of that share, None without any."""
        names = [each.name for each in self.populations]
        odds = np.array(self.outcomes[names.index(one.first)][names.index(one.second)], float)
        lived, larger = int(np.isfinite(odds).sum()), int((odds > 0).sum())
        low, high = clopper_pearson(larger, lived) if lived else (None, None)
        return larger, lived, low, high


@dataclass(frozen=True)
class CocultureStudy:
    """The study of jars; arguments as of `study_jars`."""

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

    def decide(self, runs: Mapping[str, Evolution], say: Told, cores: int | None) -> dict[str, Any]:
        return {
            "runs": {"populations": fingerprint(runs["populations"])},
            "jars": self.put_together(runs["populations"], say, cores),
        }

    def put_together(self, evolved: Evolution, say: Told, cores: int | None) -> JarStudy:
        """All pairs of the first populations of a run in jars, with every control, and what is decided of them.

        Raises:
            EcologyError: fewer than there are to be, or one of which nobody lives.
        """
        start, populations, settings = perf_counter(), self.populations, evolved.settings
        jar_steps, replicates = (
            given or often
            for given, often in zip(
                (self.jar_steps, self.replicates), (900, 6) if self.quick else (3000, 20), strict=True
            )
        )
        people = [Population.of(evolved, number) for number in evolved.numbers[:populations]]
        if len(people) < populations or not all(len(one.genomes) for one in people):
            raise EcologyError(
                "populations",
                given=f"{sum(len(one.genomes) > 0 for one in people)} that live",
                expected=f"{populations}",
                do="Take other seeds or more worlds.",
            )
        small = scaled(dataclasses.replace(settings, control="none"), self.scale)
        founders = self.founders or max(2, min(small.capacity // 2, round(settings.founders * self.scale)))
        common = {
            "founders": founders, "steps": jar_steps, "replicates": replicates, "seed": self.seed, "cores": cores,
            "every": next(n for n in (10, 5, 4, 2, 1) if jar_steps % n == 0),
        }  # fmt: skip
        couples = list(itertools.combinations(people, 2))
        mixes = [mix for a, b in couples for mix in _mixes(a, b)] + [
            mix for one in people for mix in (Mix(one.name, (one,), (1.0,)), *_mixes(one, one)[:2])
        ]
        seeing = {jar.name: jar for jar in jars(small, mixes, **common, progress=part(say, "jars"))}
        unseeing = {
            jar.name: jar
            for jar in jars(
                dataclasses.replace(small, control="blind"),
                [_mixes(a, b)[0] for a, b in couples],
                **common,
                progress=part(say, "blind jars"),
            )
        }
        pairs = {
            (a.name, b.name): Pair(
                *(seeing[mix.name] for mix in _mixes(a, b)), blind=unseeing[_mixes(a, b)[0].name]
            )
            for a, b in couples
        }
        controls = {
            one.name: Controls(seeing[one.name], *(seeing[mix.name] for mix in _mixes(one, one)[:2]))
            for one in people
        }
        return _told(
            settings, small, evolved, pairs, controls, jar_steps, replicates, founders, self.seed, start
        )


def study_jars(
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
    progress: Told | None = None,
) -> JarStudy:
    """Evolve populations apart and put all pairs of them together.

    Each pair: even shares; either one at 5 % of the founders; even shares with all blind (everyone has the observation of
    somebody else). Each population: alone; under two labels at even shares and at 5 %, which is what drift does. In jars
    nobody comes in, nothing mutates and no genes pass. Jars are on `scale` times the width, with food, sources and
    capacity by area: densities stay, drift is stronger (at scale .5 about twice) than where the populations evolved.

    Args:
        out_folder: where the evolved populations' run is kept, as `populations.eco`, and gone on with, and
            `study.json` is written; None keeps nothing.
        settings: of the world they evolve in; a `World2` by default.
        populations: how many; 2 or more. All worlds in which somebody lives at the end take part, whatever becomes of them
            in jars; one in which nobody does is refused.
        evolved: a run to take them from instead; its first `populations` worlds.
        evolution_steps: 8,000; quick 2,000.
        jar_steps: 3,000; quick 900.
        replicates: jars of each kind; 20, quick 6.
        founders: of a jar; `scale` times the settings' by default, but at most half its capacity.
        scale: width of a jar over that of the world.
        seed: of all chance.
        quick: for a first look: fewer and shorter.
        cores: how many to use; all by default.
        progress: called with what is being done, how much of it is done, and how much there is.

    Raises:
        EcologyError: fewer than two populations, or one of which nobody lives.
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


def _told(
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
) -> JarStudy:
    found, names = contests(pairs, controls, seed=seed), list(controls)
    early = unsaturated(pairs)
    late_odds, early_odds = log_odds(names, pairs), log_odds(names, pairs, step=early)
    late, soon = _standing(names, late_odds, found, seed), _standing(names, early_odds, None, seed)
    verdicts = {kind: sum(kind in one.verdict for one in found) for kind in VERDICTS}
    undecided = _undecided(found)
    inhabitants = tuple(_inhabitants(name, controls[name], evolved, i, seed) for i, name in enumerate(names))
    return JarStudy(
        settings.described(),
        small.described(),
        evolved.steps,
        steps,
        replicates,
        founders,
        seed,
        inhabitants,
        tuple(found),
        verdicts,
        undecided,
        late_odds,
        early_odds,
        early,
        late,
        soon,
        worlds=(4 * len(pairs) + 3 * len(controls)) * replicates,
        seconds=perf_counter() - start,
        found=_sentences(found, verdicts, undecided, late, soon, early),
    )


def _inhabitants(name: str, own: Controls, evolved: Evolution, i: int, seed: int) -> Inhabitants:
    world = evolved.worlds[i]
    single, final = own.alone.yields().sum(1), own.even.shares()
    lived = final[np.isfinite(final)]
    return Inhabitants(
        name,
        len(world.living()),
        int(world.numbers[-(world.steps // 4) :, 3].sum()),
        float(single.mean()),
        float((own.alone.population[:, -1] == 0).mean()),
        float(lived.std(ddof=1)) if len(lived) > 1 else np.nan,
        relative_yield_total(own.even, own.alone, own.alone, seed=seed),
    )


def _standing(
    names: list[str], odds: list[list[list[float]]], found: list[Contest] | None, seed: int
) -> Standing | None:
    lived = [np.isfinite(odds[i][j]).sum() for i, j in itertools.combinations(range(len(names)), 2)]
    changed = any(np.nan_to_num(cell).any() for row in odds for cell in row)
    if len(names) < 3 or min(lived) < 2 or not changed:
        return None
    return standing(names, odds, found, seed=seed)


def _undecided(found: list[Contest]) -> dict[str, int]:
    """What was shown in the pairs without a verdict."""
    told = {"gains": 0, "rare": 0, "nothing": 0}
    for one in found:
        if one.verdict == "undecided":
            gains = one.first_gains.shown or one.second_gains.shown
            of_rare = one.first_invades, one.second_invades, one.first_declines, one.second_declines
            rare = any(test.shown for test in of_rare)
            told["gains" if gains else "rare" if rare else "nothing"] += 1
    return told


def _sentences(
    found: list[Contest],
    verdicts: dict[str, int],
    undecided: dict[str, int],
    late: Standing | None,
    soon: Standing | None,
    early: int,
) -> tuple[str, ...]:
    told = [
        f"Of {len(found)} pairs, in {verdicts['excludes']} one excludes the other (gains from even shares, invades from 5 %, and the "
        f"other declines from 5 %), in {verdicts['outgrows']} one outgrows the other (gains and invades; of the other when rare "
        f"nothing is shown), {verdicts['coexist']} coexist (each invades from 5 %), {verdicts['undecided']} are undecided; all "
        "beside drift, Holm over all pairs."
    ]
    if verdicts["undecided"]:
        told.append(
            f"Of the undecided, in {undecided['gains']} one gains from even shares beyond drift, in {undecided['rare']} others "
            f"something is shown of one when rare, in {undecided['nothing']} nothing is shown."
        )
    if verdicts["cannot be shown"]:
        told.append(f"In {verdicts['cannot be shown']} no verdict can be shown with so few jars that lived.")
    if verdicts["neither lives"]:
        told.append(f"In {verdicts['neither lives']} nobody lived at the end of any jar.")
    hidden = sum(_hidden(one) for one in found)
    if hidden:
        told.append(
            f"In {hidden} of those where one outgrows the other an exclusion cannot be shown with so few jars and a "
            "drift that loses as many of the rare."
        )
    yields = [one.relative_yield for one in found if one.relative_yield is not None]
    known = [one for one in yields if one.method != "too few"]
    above = sum(one.low > 1 for one in known)
    told.append(
        f"Relative yield total: its 95 % interval is above 1 in {above} of {len(known)} pairs (one by one, not adjusted)."
        if known
        else "Relative yield total: an interval of it cannot be shown with so few jars."
    )
    told.append(_niches(found))
    if late is not None:
        told.append(
            f"{late.cycles} of {late.triples} triples go round by sign at the end, {late.sure_cycles} by gains beyond drift."
        )
        if soon is None:
            told.append(
                f"Cyclic share of the final log odds {late.hodge.share:.3f}: bent by saturation, not read; at no step could it be."
            )
        else:
            told.append(
                f"Cyclic share of the log odds at step {early}, the last that saturation does not bend, {soon.hodge.share:.3f}, "
                f"under a ranking alone {soon.hodge.null_share:.3f}, p {soon.hodge.p:.3g}."
            )
    return tuple(told)


def _hidden(one: Contest) -> bool:
    """Whether an exclusion is out of reach where one outgrows the other."""
    if "outgrows" not in one.verdict:
        return False
    loser = one.second_declines if one.first_gains.shown else one.first_declines
    return not loser.in_reach


def _niches(found: list[Contest]) -> str:
    seen = [(one.overlap, one.overlap_jars) for one in found if one.overlap is not None]
    if not seen:
        return "Niches were not compared: no pair has two jars in which both were seen."
    p = [overlap.p for overlap, _ in seen]
    least = [
        max(2 / 2**jars, 1e-4) for _, jars in seen
    ]  # as `niche_overlap` goes through exchanges, or draws them
    parted = sum(one <= LEVEL for one in holm(p))
    never = len(p) - sum(within_reach(p, least))
    few = f"; in {never} that cannot be shown with so few jars that held both" if never else ""
    return (
        f"Niches (food by signal where they are) differ between labels in {parted} of {len(p)} pairs (Holm){few}; the least "
        f"overlap is {min(overlap.overlap for overlap, _ in seen):.3f}."
    )
