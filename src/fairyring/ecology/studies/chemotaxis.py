"""The studies of world 1 and world 2: evolved worlds beside their controls, in the lab, and the decision."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fairyring.core.errors import EcologyError
from fairyring.ecology import analysis
from fairyring.ecology.analysis import asked_of
from fairyring.ecology.history import Evolution, fingerprint
from fairyring.ecology.lab import STEPS as LAB_STEPS
from fairyring.ecology.lab import Assay, assay
from fairyring.ecology.studies.rewards import LATE, Lab, mean_of, worth
from fairyring.ecology.studies.study import Arm, Told, conduct, part, plain
from fairyring.ecology.world import World, World1, World2, q_learning

# In unrelated worlds, the no-inheritance control, children have random rewards, as in scrambled ones, and nothing of what
# their parents learned.
ARMS = ("evolved", "scrambled", "blind", "unrelated")
STEPS = 24_000


@dataclass(frozen=True)
class ChemotaxisStudy:
    """Whether chemotaxis evolves, and of world 2 which rewards do; see `study_world1` and `study_world2`."""

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
            del sizes["unrelated"]
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

    def decide(self, runs: Mapping[str, Evolution], say: Told, cores: int | None) -> dict[str, Any]:
        for arm, run in runs.items():
            inhabited = sum(bool(len(world.living())) for world in run.worlds)
            if inhabited < 3:
                raise EcologyError(
                    f"{arm} worlds",
                    given=f"{inhabited} of {len(run.worlds)} inhabited at step {run.steps}",
                    expected="three or more",
                    do="Make living easier (food_influx, minimum); the runs are kept.",
                )
        lab = partial(assay, steps=self.lab_steps, settling=self.lab_steps // 3, seed=self.seed)
        assays = {}
        for arm, run in runs.items():
            say(f"{arm} worlds in the lab", 0, len(run.worlds))
            assays[arm] = lab(run, progress=part(say, f"{arm} worlds in the lab"))
        found = {
            "steps": self.steps,
            "arms": {arm: _arm(runs[arm], assays[arm]) for arm in runs},
            "decisions": _decisions(assays)
            | {"blind_sensing_again": _sensing_again(runs["blind"], assays, lab)},
        }
        return found | (worth(runs, assays, lab, self.seed, say) if self.kind == "v2" else {})


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
    told: Told | None = None,
) -> dict[str, Any]:
    """Whether chemotaxis evolves in world 1: evolved worlds beside worlds of scrambled heredity and blind ones.

    Args:
        out: folder of the study.
        settings: of the evolved worlds.
        worlds, controls, blind: how many of each arm; four or more.
        steps: of each world.
        lab_steps: for how long each arena of the lab is watched; the first third is for settling.
        seed: of all chance; each arm has worlds of its own.
        told: called with what is being done and how far it is.

    Returns:
        What `study.json` holds: for each arm its worlds with their assays, the decision for each world, the decision for
        the configuration, and the error rate of the decision on the scrambled worlds.

    Raises:
        EcologyError: too few worlds, or fewer than three of an arm in which anybody lives at the end.
        RunMismatch: the folder holds runs of other settings or another seed, or longer ones.
    """
    study = ChemotaxisStudy("v1", settings or World1(), worlds, controls, blind, steps, lab_steps, seed)
    return plain(conduct(study, out, progress=told))


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
    told: Told | None = None,
) -> dict[str, Any]:
    """Which rewards evolve in world 2, and what they are worth: as `study_world1`, and besides the viability of each evolved
    world, the table of rewards over the viable ones, relearning, and the knock-out of each reward.

    Where children keep what their parents learned, scrambling rewards leaves that heredity in place. So there is a fourth
    arm, as large as the scrambled one: unrelated worlds, in which a child has nothing of its parent.

    Args: as of `study_world1`.
    """
    study = ChemotaxisStudy("v2", settings or World2(), worlds, controls, blind, steps, lab_steps, seed)
    return plain(conduct(study, out, progress=told))


def _keeps_what_was_learned(settings: World) -> bool:
    if not isinstance(settings, World2):
        return False
    retained = settings.policy == q_learning() and settings.retention > 0
    return retained or settings.policy == q_learning("lamarck")


def _of_arm(settings: World, arm: str) -> World:
    if arm == "evolved":
        return settings
    if arm == "unrelated":
        return dataclasses.replace(settings, control="scrambled", policy=q_learning(), retention=0.0)
    return dataclasses.replace(settings, control=arm)


def _arm(run: Evolution, assays: list[Assay | None]) -> dict[str, Any]:
    """An arm's worlds, each a row of numbers; means over individuals are means of the lab."""
    metrics, rows = run.metrics, []
    for i, (number, world, lab) in enumerate(zip(run.numbers, run.worlds, assays, strict=True)):
        late = {name: float(metrics[name][i, -LATE:].mean()) for name in metrics}
        row = {
            "world": number,
            "population": late["population"],
            "newcomers": late["newcomers"],
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
    """The stated decision for each world of each arm, for the configuration, and how often it errs."""
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

    def passed(made: list[analysis.Decision | None]) -> int:
        return sum(d is not None and d.verdict for d in made)

    worlds = {arm: of(arm, controls) for arm in asked}
    # Where learning is passed on scrambled worlds are no controls without heredity, but unrelated ones are.
    beside = {arm: of(arm, living["unrelated"]) for arm in asked if "unrelated" in living}
    return {
        "worlds": worlds,
        "passed": {arm: passed(made) for arm, made in worlds.items()},
        **(
            {"passed_beside_unrelated": {arm: passed(made) for arm, made in beside.items()}} if beside else {}
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
    """How many blind worlds would pass if their inhabitants were given back their own observations: nothing was selected
    there, but one table may have taken over by drift, and a table at random may climb."""
    seeing = dataclasses.replace(run, settings=dataclasses.replace(run.settings, control="none"))
    controls = [asked_of(lab) for lab in assays["scrambled"] if lab is not None]
    labs = [each for each in lab(seeing) if each is not None]
    return sum(analysis.chemotaxis_in_world(asked_of(each), controls).verdict for each in labs)
