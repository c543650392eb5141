"""A run with its scrambled control worlds, and the decision for each of its worlds."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fairyring.core.errors import EcologyError, RunMismatch
from fairyring.ecology.analysis import Decision, decide_worlds
from fairyring.ecology.history import Evolution, evolve, load, summaries
from fairyring.ecology.lab import Assay, Assays, assay
from fairyring.ecology.results import Row, rows_of
from fairyring.ecology.studies.chemotaxis import ARMS
from fairyring.ecology.studies.study import Progress, part

_FIRST = 1000 * ARMS.index(
    "scrambled"
)  # as in a study, so that no control world shares its number with an evolved one
# By name, the place of each criterion in a decision for a world.
CRITERIA = {"index_beside_controls": 0, "index": 1, "contrast": 2, "index_without_sensor": 3}
FEWEST, USUAL_LIMIT = 4, 16  # control worlds


@dataclass(frozen=True)
class Judgement:
    """A run in the lab.

    Attributes:
        assays: one for each world; None for an extinct one.
        controls: likewise for its control worlds; empty without them.
        decisions: one for each world, None for an extinct one; None without enough control worlds.
    """

    assays: Assays
    controls: list[Assay | None]
    decisions: list[Decision | None] | None

    def table(self) -> list[Row]:
        """A row for each world: the means of its assay and, if it was decided, each criterion with its thresholds.

        Columns of a criterion are `contrast.compared`, the number that is compared, and `.least` and `.most`.
        """
        rows = self.assays.table()
        for row, decision in zip(rows, self.decisions or (), strict=self.decisions is not None):
            for name, place in CRITERIA.items():
                criterion = None if decision is None else decision.criteria[place]
                row |= {
                    f"{name}.{part}": None if criterion is None else getattr(criterion, part)
                    for part in ("compared", "least", "most")
                }
            row["chemotaxis"] = None if decision is None else decision.verdict
        return rows


@dataclass(frozen=True)
class ControlledRun:
    """A run and its control worlds, both stored, and what the lab says; without controls both are None."""

    run: Evolution
    controls: Evolution | None
    judgement: Judgement | None

    def table(self) -> list[Row]:
        """A row for each world: its summary late in the run, and the row of its judgement."""
        rows = rows_of(summaries(self.run))
        judged = [{} for _ in rows] if self.judgement is None else self.judgement.table()
        return [{"world": row.pop("number")} | row | more for row, more in zip(rows, judged, strict=True)]


def controls_path(path: Path) -> Path:
    """The file of a run's control worlds, beside the run's own."""
    return path.with_name(f"{path.stem}.scrambled{path.suffix}")


def control_count(worlds: int, asked: int | None = None) -> int:
    """How many control worlds a run has.

    Args:
        worlds: of the run.
        asked: 0 for none; None for as many as the run has worlds, but from 4 to 16.

    Raises:
        EcologyError: too few were asked for.
    """
    if asked is None:
        return min(USUAL_LIMIT, max(FEWEST, worlds))
    if asked and asked < FEWEST:
        raise EcologyError(
            "controls", given=asked, expected=f"{FEWEST} or more, or 0", do="Ask for more, or for none."
        )
    return asked


def run_with_controls(
    run: Evolution,
    steps: int,
    path: Path,
    count: int,
    *,
    watch: Callable[[str, Evolution, int, int], None] | None = None,
    progress: Progress | None = None,
) -> ControlledRun:
    """Continue a run and its control worlds, store both, and judge the run in the lab.

    Interrupted, both files hold the steps made so far.

    Args:
        run: to continue.
        steps: of each world, from its start.
        path: of the run's file; the control worlds are stored at `controls_path`.
        count: of control worlds, as `control_count` gives it; 0 for no controls and no lab.
        watch: called now and then with what is running, the run so far, and the steps done and to do over all worlds.
        progress: as in `conduct`, for the lab.

    Raises:
        EcologyError: an impossible number of steps.
        RunError: a file exists and is not this run, or has more steps.
        RunMismatch: the control worlds in the file belong to another run, or have more steps.
        StorageError: a file cannot be written.
    """
    run = _watched(run, steps, path, "worlds", watch)
    if not count:
        return ControlledRun(run, None, None)
    beside = controls_path(path)
    controls = _controls(run, beside, count)
    controls = _watched(controls, run.steps, beside, "scrambled controls", watch)
    return ControlledRun(run, controls, judge(run, controls, seed=run.seed, progress=progress))


def judge(
    run: Evolution,
    controls: Evolution | None = None,
    *,
    seed: int = 0,
    individuals: int | None = None,
    progress: Progress | None = None,
) -> Judgement:
    """Assay the worlds of a run and of its controls, and decide for each world whether chemotaxis evolved.

    Args:
        run: to be judged.
        controls: scrambled worlds that differ from the run in heredity alone; None for assays without a decision.
        seed: of the lab.
        individuals: as in `assay`.
        progress: as in `conduct`.
    """
    report = progress or (lambda what, done, total: None)
    lab = partial(assay, individuals=individuals, seed=seed)
    assays = lab(run, progress=part(report, "worlds in the lab"))
    if controls is None:
        return Judgement(assays, [], None)
    others = lab(controls, progress=part(report, "scrambled controls in the lab"))
    return Judgement(assays, others, decide_worlds(assays, others))


def _controls(run: Evolution, path: Path, count: int) -> Evolution:
    """The scrambled control worlds of a run: those in the file, or new ones at their start."""
    settings = dataclasses.replace(run.settings, control="scrambled")
    numbers = range(_FIRST, _FIRST + count)
    if not path.exists():
        return evolve(settings, numbers, 0, run.seed)
    controls = load(path, settings)
    if controls.steps > run.steps:
        raise RunMismatch(
            str(path),
            given=f"control worlds of {controls.steps:,} steps",
            expected=f"{run.steps:,} at most, as the worlds themselves have",
            do="Ask for as many --steps, or remove that file to run them anew.",
        )
    if controls.seed != run.seed or controls.numbers != tuple(numbers):
        raise RunMismatch(
            str(path),
            given=f"{len(controls.numbers)} control worlds of seed {controls.seed}",
            expected=f"{count} of seed {run.seed}",
            do=f"Ask for --controls {len(controls.numbers)}, or remove that file to run them anew.",
        )
    return controls


def _watched(
    run: Evolution,
    steps: int,
    path: Path,
    what: str,
    watch: Callable[[str, Evolution, int, int], None] | None,
) -> Evolution:
    start = sum(world.steps for world in run.worlds)
    total = sum(max(0, steps - world.steps) for world in run.worlds)

    def report(latest: Evolution) -> None:
        if watch is not None:
            watch(what, latest, sum(world.steps for world in latest.worlds) - start, total)

    return run.until(steps, out=path, watch=report)
