"""The studies of world 1 and world 2: evolved worlds and their controls in the lab, and the decision."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fairyring.core.errors import EcologyError
from fairyring.ecology import analysis
from fairyring.ecology.analysis import asked_of
from fairyring.ecology.history import LATE, Evolution, fingerprint
from fairyring.ecology.lab import STEPS as LAB_STEPS
from fairyring.ecology.lab import Assay, assay
from fairyring.ecology.results import plain
from fairyring.ecology.studies.rewards import Lab, mean_of, worth
from fairyring.ecology.studies.study import Arm, Progress, conduct, part
from fairyring.ecology.world import World, World1, World2, q_learning

# The no-inheritance control: children get random rewards, as in scrambled worlds, and nothing that their parents learned.
NO_INHERITANCE = "no-inheritance"
ARMS = ("evolved", "scrambled", "blind", NO_INHERITANCE)
STEPS = 24_000


@dataclass(frozen=True)
class ChemotaxisStudy:
    """Whether chemotaxis evolves, and in world 2 which rewards evolve; see `study_world1` and `study_world2`."""

    kind: str
    settings: World
    worlds: int = 16
    controls: int = 16
    blind: int = 8
    steps: int = STEPS
    lab_steps: int = LAB_STEPS
    seed: int = 0

    def arms(self) -> tuple[Arm, ...]:
        counts = (self.worlds, self.controls, self.blind)
        if min(counts) < 4:
            raise EcologyError(
                "worlds", given=counts, expected="four or more in each arm", do="Ask for more."
            )
        sizes = dict(zip(ARMS, (*counts, self.controls), strict=True))
        if not _keeps_what_was_learned(self.settings):
            del sizes[NO_INHERITANCE]
        return tuple(
            Arm(
                name,
                _of_arm(self.settings, name),
                range(1000 * ARMS.index(name), 1000 * ARMS.index(name) + count),
                self.steps,
                f"{name} worlds",
            )
            for name, count in sizes.items()
        )

    def decide(self, runs: Mapping[str, Evolution], progress: Progress, cores: int | None) -> dict[str, Any]:
        for arm, run in runs.items():
            surviving = sum(bool(len(world.living())) for world in run.worlds)
            if surviving < 3:
                raise EcologyError(
                    f"{arm} worlds",
                    given=f"{surviving} of {len(run.worlds)} alive at step {run.steps}",
                    expected="three or more",
                    do="Make survival easier (food_influx, minimum); the runs are kept.",
                )
        lab = partial(assay, steps=self.lab_steps, settling=self.lab_steps // 3, seed=self.seed)
        assays = {}
        for arm, run in runs.items():
            progress(f"{arm} worlds in the lab", 0, len(run.worlds))
            assays[arm] = lab(run, progress=part(progress, f"{arm} worlds in the lab"))
        results = {
            "steps": self.steps,
            "arms": {arm: _arm(runs[arm], assays[arm]) for arm in runs},
            "decisions": _decisions(assays)
            | {"blind_sensing_again": _sensing_again(runs["blind"], assays, lab)},
        }
        return results | (worth(runs, assays, lab, self.seed, progress) if self.kind == "v2" else {})


def study_world1(
    out: str | os.PathLike[str],
    *,
    settings: World1 | None = None,
    worlds: int = 16,
    controls: int = 16,
    blind: int = 8,
    steps: int = STEPS,
    lab_steps: int = LAB_STEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Whether chemotaxis evolves in world 1: evolved worlds against worlds with scrambled heredity and blind worlds.

    Args:
        out: folder of the study.
        settings: of the evolved worlds.
        worlds, controls, blind: how many worlds each arm has (evolved, scrambled, blind); four or more.
        steps: of each world.
        lab_steps: for how many steps each arena of the lab is watched; the first third is for settling.
        seed: of all randomness; each arm has its own worlds.
        progress: called with what is being done, how much of it is done, and how much there is.

    Returns:
        The contents of `study.json`: for each arm its worlds with their assays, the decision for each world, the decision
        for the configuration, and the error rate of the decision on the scrambled worlds.

    Raises:
        EcologyError: too few worlds, or an arm with fewer than three surviving worlds.
        RunMismatch: the folder holds runs of other settings or another seed, or longer ones.
    """
    study = ChemotaxisStudy("v1", settings or World1(), worlds, controls, blind, steps, lab_steps, seed)
    return plain(conduct(study, out, progress=progress))


def study_world2(
    out: str | os.PathLike[str],
    *,
    settings: World2 | None = None,
    worlds: int = 16,
    controls: int = 16,
    blind: int = 8,
    steps: int = STEPS,
    lab_steps: int = LAB_STEPS,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Which rewards evolve in world 2, and what they are worth.

    It measures what `study_world1` does, and in addition the viability of each evolved world, the table of rewards over the
    viable ones, relearning, and the knock-out of each reward.

    Where children keep what their parents learned, scrambling the rewards leaves that inheritance in place. So there is a
    fourth arm, as large as the scrambled one: the no-inheritance control, in which a child gets nothing of its parent.

    Arguments, result and errors as in `study_world1`.
    """
    study = ChemotaxisStudy("v2", settings or World2(), worlds, controls, blind, steps, lab_steps, seed)
    return plain(conduct(study, out, progress=progress))


def _keeps_what_was_learned(settings: World) -> bool:
    if not isinstance(settings, World2):
        return False
    retained = settings.policy == q_learning() and settings.retention > 0
    return retained or settings.policy == q_learning("lamarck")


def _of_arm(settings: World, arm: str) -> World:
    if arm == "evolved":
        return settings
    if arm == NO_INHERITANCE:
        return dataclasses.replace(settings, control="scrambled", policy=q_learning(), retention=0.0)
    return dataclasses.replace(settings, control=arm)


def _arm(run: Evolution, assays: list[Assay | None]) -> dict[str, Any]:
    """The worlds of an arm, each a row of numbers; numbers of the lab are means over individuals."""
    metrics, rows = run.metrics, []
    for i, (number, world, lab) in enumerate(zip(run.numbers, run.worlds, assays, strict=True)):
        late = {name: float(metrics[name][i, -LATE:].mean()) for name in metrics}
        row = {
            "world": number,
            "population": late["population"],
            "immigrants": late["immigrants"],
            "tumbling": late["tumbles"] / max(late["population"], 1e-9),
            "emission": late["emitters"] / max(late["population"], 1e-9),
            "waiting": late["waiting"],
            "lifetime": world.lineage.lifetime(after=run.steps // 2),
            "generation_length": world.lineage.generation_length(after=run.steps // 2),
            "generations": int(world.lineage.generation()[world.uids()].max(initial=0)),
            "individuals": len(world.lineage),
            "living": len(world.living()),
        }
        if lab is not None:
            means = {f.name: getattr(lab, f.name) for f in dataclasses.fields(Assay)}
            row["assay"] = {
                name: mean_of(rows) if name != "probabilities" else rows for name, rows in means.items()
            }
        rows.append(row)
    thin = max(1, run.steps // 400)
    return {
        "hash": fingerprint(run),
        "control": run.settings.control,
        "worlds": rows,
        "population": {"every": thin, "worlds": metrics["population"][:, ::thin]},
    }


def _decisions(assays: dict[str, list[Assay | None]]) -> dict[str, Any]:
    """The decision for each world of each arm and for the configuration, and its error rate."""
    asked = {arm: [None if lab is None else asked_of(lab) for lab in of] for arm, of in assays.items()}
    living = {arm: [each for each in of if each is not None] for arm, of in asked.items()}
    controls = living["scrambled"]

    def of(arm: str, controls: list[analysis.WorldAssay]) -> list[analysis.Decision | None]:
        return [
            None
            if each is None
            else analysis.chemotaxis_in_world(each, [c for c in controls if c is not each])
            for each in asked[arm]
        ]

    def passed(decisions: list[analysis.Decision | None]) -> int:
        return sum(d is not None and d.verdict for d in decisions)

    worlds = {arm: of(arm, controls) for arm in asked}
    # Where children keep what was learned, scrambled worlds still have heredity; the no-inheritance control has none.
    beside = {arm: of(arm, living[NO_INHERITANCE]) for arm in asked if NO_INHERITANCE in living}
    return {
        "worlds": worlds,
        "passed": {arm: passed(decisions) for arm, decisions in worlds.items()},
        **(
            {f"passed_beside_{NO_INHERITANCE}": {arm: passed(decisions) for arm, decisions in beside.items()}}
            if beside
            else {}
        ),
        "configuration": analysis.chemotaxis_in_configuration(living["evolved"], controls),
        **{
            f"against_{arm}": analysis.chemotaxis_in_configuration(living["evolved"], of)
            for arm, of in living.items()
            if arm not in ("evolved", "scrambled")
        },
        "errors": analysis.error_rate(controls),
    }


def _sensing_again(run: Evolution, assays: dict[str, list[Assay | None]], lab: Lab) -> int:
    """How many blind worlds would pass if each bacterium were given back its own observations.

    Nothing was selected for there. But one table may have taken over by drift, and a random table may climb.
    """
    seeing = dataclasses.replace(run, settings=dataclasses.replace(run.settings, control="none"))
    controls = [asked_of(lab) for lab in assays["scrambled"] if lab is not None]
    labs = [each for each in lab(seeing) if each is not None]
    return sum(analysis.chemotaxis_in_world(asked_of(each), controls).verdict for each in labs)
