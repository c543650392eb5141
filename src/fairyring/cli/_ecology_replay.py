"""`ecology replay` and `ecology video`: a world of a run, lived through again from its seed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fairyring.cli._ecology_words import Doing, one_world, say
from fairyring.core.errors import EcologyError
from fairyring.core.record import flatten_state
from fairyring.ecology.history import Evolution, WorldRun, evolve, fingerprint
from fairyring.ecology.watch import Frame, LivingWorld, write_video
from fairyring.ecology.world import AMOUNTS, NUMBERS
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
    differing = _differing(kept, again.worlds[0], step)
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
    for name, what in differing:
        say(f"  {name}: {what}")
    return 1


def _differing(kept: WorldRun, again: WorldRun, step: int) -> list[tuple[str, str]]:
    """Name and description of all that differs up to a step; at the last one also of the state."""
    found = []
    for names, field in ((NUMBERS, "numbers"), (AMOUNTS, "amounts")):
        for i, name in enumerate(names):
            if name == "short":  # how it was computed, not what happened
                continue
            ours, theirs = (np.ascontiguousarray(getattr(of, field)[:step, i]) for of in (again, kept))
            odd = np.flatnonzero(ours.view(np.uint32) != theirs.view(np.uint32))
            if len(odd):
                at = odd[0]
                found.append(
                    (
                        name,
                        f"{units.count(len(odd), 'step')}, first step {units.count(int(at) + 1)}: "
                        f"{ours[at]} again, {theirs[at]} in the file",
                    )
                )
    found += _family(kept, again, step)
    if step == kept.steps:
        ours, theirs = flatten_state(again.state), flatten_state(kept.state)
        found += [
            (f"state, {name}", "differs")
            for name in sorted(ours.keys() | theirs.keys())
            if name not in ours or name not in theirs or not _same(ours[name], theirs[name])
        ]
        if not _same(again.key, kept.key):
            found.append(("key", "differs"))
    return found


def _family(kept: WorldRun, again: WorldRun, step: int) -> list[tuple[str, str]]:
    """What differs in the family tree as it was at a step."""
    ours, theirs = again.lineage, kept.lineage
    there = theirs.born <= step
    if int(there.sum()) != len(ours):
        return [("family tree", f"{len(ours)} individuals again, {int(there.sum())} in the file")]
    pairs = {
        "parents": (ours.parent, theirs.parent[there]),
        "births": (ours.born, theirs.born[there]),
        "deaths": (ours.died, np.where(theirs.died > step, -1, theirs.died)[there]),
    }
    if step == kept.steps:
        pairs["places"] = (ours.holder, theirs.holder)
    return [
        (f"family tree, {name}", f"{units.count(int((a != b).sum()), 'individual')}")
        for name, (a, b) in pairs.items()
        if (a != b).any()
    ]


def _same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.shape == theirs.shape and ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()


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
        frames = _frames(run, world, first, kept.steps, every, doing)
        made = write_video(frames, out, fps=fps, size=size)
    say(
        f"Film: {made}, world {world} of seed {run.seed}, steps {units.count(first)} to {units.count(kept.steps)}, "
        f"a frame every {units.count(every, 'step')}"
    )


def _frames(run: Evolution, world: int, first: int, last: int, every: int, doing: Doing) -> Iterator[Frame]:
    living = LivingWorld(run.settings, run.seed, world)
    while living.step < first:
        living.advance(min(_AT_ONCE, first - living.step))
        doing(f"world {world} again, steps", living.step, first)
    yield living.frame()
    while living.step < last:
        for _ in range(every // _AT_ONCE):
            living.advance(min(_AT_ONCE, last - living.step))
        if living.step < last and every % _AT_ONCE:
            living.advance(min(every % _AT_ONCE, last - living.step))
        doing("filming, steps", living.step - first, last - first)
        yield living.frame()
