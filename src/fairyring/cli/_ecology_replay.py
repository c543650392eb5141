"""`ecology replay` and `ecology video`: a world of a run, lived through again from its seed."""

from pathlib import Path

from fairyring.cli._ecology_words import Doing, one_world, say
from fairyring.core.errors import EcologyError
from fairyring.ecology.history import Evolution, differences, evolve, fingerprint
from fairyring.ecology.watch import LivingWorld, film, write_video
from fairyring.report import units

_AT_ONCE = 64  # steps between two looks at how far it is


def replay(path: Path, *, world: int | None, step: int | None) -> int:
    """Compare a world with what its seed gives; the exit status. See the command of the same name."""
    run, world, kept = one_world(path, world)
    step = kept.steps if step is None else step
    if not 0 <= step <= kept.steps:
        raise EcologyError(
            "--step", given=step, expected=f"0 to {kept.steps}, as far as the run goes", do="Correct it."
        )
    with Doing() as doing:
        again = evolve(
            run.settings,
            [world],
            step,
            run.seed,
            progress=lambda made, whole: doing(f"world {world}, steps", made, whole),
        )
    differing = differences(kept, again.worlds[0], step)
    last = step == kept.steps
    say(
        f"World {world} of seed {run.seed}, from the start to step {units.count(step)} of {units.count(kept.steps)}: "
        f"{'metrics, family tree and state' if last else 'metrics and family tree'} compared."
    )
    say(f"digest of the replay {fingerprint(again)}")
    if last:
        say(f"digest of the file   {fingerprint(Evolution(run.settings, run.seed, (world,), (kept,)))}")
    if not differing:
        say("the same to the bit")
        return 0
    say("NOT the same: the file holds something else than its seed and settings give on this machine.")
    for one in differing:
        parts = [units.count(one.many, one.of)] * (one.many > 0) + [one.detail] * bool(one.detail)
        say(f"  {one.name}: {', '.join(parts)}")
    return 1


def video(path: Path, out: Path, *, world: int | None, steps: int, every: int, fps: int, size: int) -> None:
    """Film the last steps of a world; see the command of the same name."""
    run, world, kept = one_world(path, world)
    if steps < 1 or every < 1:
        raise EcologyError(
            "film",
            given=f"{steps} steps, every {every}",
            expected="1 or more of each",
            do="Correct them.",
        )
    first = max(0, kept.steps - steps)
    with Doing() as doing:
        frames = film(
            LivingWorld(run.settings, run.seed, world),
            first,
            kept.steps,
            every,
            before=lambda made, whole: doing(f"world {world} again, steps", made, whole),
            progress=lambda made, whole: doing("filming, steps", made, whole),
        )
        made = write_video(frames, out, fps=fps, size=size)
    say(
        f"Film: {made}, world {world} of seed {run.seed}, steps {units.count(first)} to {units.count(kept.steps)}, "
        f"a frame every {units.count(every, 'step')}"
    )
