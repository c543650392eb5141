"""`ecology replay` and `ecology video`: a world of a run, run again from its seed."""

from pathlib import Path

from fairyring.cli._ecology_words import Doing, one_world
from fairyring.cli._result import Result
from fairyring.cli._screen import say
from fairyring.core.errors import EcologyError
from fairyring.ecology import history
from fairyring.ecology.watch import LivingWorld, film, write_video
from fairyring.report import units


def replay(path: Path, *, world: int | None, step: int | None) -> Result:
    """Compare a world with what its seed gives; see the command of the same name. The exit status is 1 if they differ."""
    run, world, stored = one_world(path, world)
    with Doing() as doing:
        result = history.replay(
            run, world, step, progress=lambda done, total: doing(f"world {world}, steps", done, total)
        )
    found = {
        "run": path,
        "world": world,
        "seed": run.seed,
        "step": result.step,
        "same": not result.differences,
        "digest": result.digest,
        "stored_digest": result.stored_digest,
        "differences": [difference._asdict() for difference in result.differences],
    }
    lines = _lines(run, world, stored, result)
    return Result(found, lambda: say(*lines), 1 if result.differences else 0)


def _lines(run: history.Evolution, world: int, stored: history.WorldRun, result: history.Replay) -> list[str]:
    complete = result.stored_digest is not None
    what = "metrics, family tree and state" if complete else "metrics and family tree"
    lines = [
        f"World {world} of seed {run.seed}, from the start to step {units.count(result.step)} of "
        f"{units.count(stored.steps)}: {what} compared.",
        f"digest of the replay {result.digest}",
    ]
    if complete:
        lines.append(f"digest of the file   {result.stored_digest}")
    if not result.differences:
        return [*lines, "the same to the bit"]
    lines.append("NOT the same: the file does not hold what its seed and settings give on this machine.")
    for difference in result.differences:
        parts = [units.count(difference.many, difference.of)] * (difference.many > 0)
        parts += [difference.detail] * bool(difference.detail)
        lines.append(f"  {difference.name}: {', '.join(parts)}")
    return lines


def video(path: Path, out: Path, *, world: int | None, steps: int, every: int, fps: int, size: int) -> Result:
    """Film the last steps of a world; see the command of the same name."""
    run, world, stored = one_world(path, world)
    if steps < 1 or every < 1:
        raise EcologyError(
            "film",
            given=f"{steps} steps, every {every}",
            expected="1 or more of each",
            do="Correct them.",
        )
    first = max(0, stored.steps - steps)
    with Doing() as doing:
        frames = film(
            LivingWorld(run.settings, run.seed, world),
            first,
            stored.steps,
            every,
            before=lambda done, total: doing(f"world {world} again, steps", done, total),
            progress=lambda done, total: doing("filming, steps", done, total),
        )
        written = write_video(frames, out, fps=fps, size=size)
    found = {
        "run": path,
        "film": written,
        "world": world,
        "seed": run.seed,
        "steps": [first, stored.steps],
        "every": every,
    }
    line = (
        f"Film: {written}, world {world} of seed {run.seed}, steps {units.count(first)} to {units.count(stored.steps)}, "
        f"a frame every {units.count(every, 'step')}"
    )
    return Result(found, lambda: say(line))
