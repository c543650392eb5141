"""A world of a run, run again from its seed and compared bit by bit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.core.tensors import flatten_state
from fairyring.ecology.history.evolution import Evolution, evolve
from fairyring.ecology.history.run_file import fingerprint
from fairyring.ecology.history.running import WorldRun
from fairyring.ecology.world import AMOUNTS, NUMBERS


class Difference(NamedTuple):
    """A part of a world that differs when the world is run again.

    Attributes:
        name: of the part.
        many: how many entries differ; 0 where they are not counted.
        of: what the entries are: "step" or "individual".
        detail: in words.
    """

    name: str
    many: int = 0
    of: str = ""
    detail: str = "differs"


@dataclass(frozen=True)
class Replay:
    """A world that was run again.

    Attributes:
        step: up to which it was compared.
        differences: empty if the two are equal to the bit.
        digest: `fingerprint` of the world run again.
        stored_digest: of the world in the file; None if it was compared up to an earlier step.
    """

    step: int
    differences: list[Difference]
    digest: str
    stored_digest: str | None


def replay(
    run: Evolution,
    number: int,
    step: int | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Replay:
    """Run a world again from its seed and compare it with the run.

    Args:
        run: that the world belongs to.
        number: of the world.
        step: up to which to compare. By default the world's last step, where the state is compared too.
        progress: called with steps done and steps in all.

    Raises:
        EcologyError: no such world, or a step that it has not reached.
    """
    stored = run.world(number)
    step = stored.steps if step is None else step
    if not 0 <= step <= stored.steps:
        raise EcologyError(
            "step",
            given=step,
            expected=f"0 to {stored.steps}, as far as the run goes",
            do="Give one that is.",
        )
    again = evolve(run.settings, [number], step, run.seed, progress=progress)
    stored_digest = None
    if step == stored.steps:
        stored_digest = fingerprint(Evolution(run.settings, run.seed, (number,), (stored,)))
    return Replay(step, differences(stored, again.worlds[0], step), fingerprint(again), stored_digest)


def differences(stored: WorldRun, again: WorldRun, step: int) -> list[Difference]:
    """Everything that differs up to a step; at the last step of `stored` this includes the state."""
    rows = []
    for names, field in ((NUMBERS, "numbers"), (AMOUNTS, "amounts")):
        for i, name in enumerate(names):
            if name == "short":  # how the step was computed, not what happened in it
                continue
            ours, theirs = (np.ascontiguousarray(getattr(of, field)[:step, i]) for of in (again, stored))
            odd = np.flatnonzero(ours.view(np.uint32) != theirs.view(np.uint32))
            if len(odd):
                at = int(odd[0])
                detail = f"first step {at + 1:,}: {ours[at]} again, {theirs[at]} in the file"
                rows.append(Difference(name, len(odd), "step", detail))
    rows += _lineage(stored, again, step)
    if step == stored.steps:
        ours, theirs = flatten_state(again.state), flatten_state(stored.state)
        rows += [
            Difference(f"state, {name}")
            for name in sorted(ours.keys() | theirs.keys())
            if name not in ours or name not in theirs or not _same(ours[name], theirs[name])
        ]
        if not _same(again.key, stored.key):
            rows.append(Difference("key"))
    return rows


def _lineage(stored: WorldRun, again: WorldRun, step: int) -> list[Difference]:
    """Differences of the family tree as it was at a step."""
    ours, theirs = again.lineage, stored.lineage
    known = theirs.born <= step
    if int(known.sum()) != len(ours):
        detail = f"{len(ours)} individuals again, {int(known.sum())} in the file"
        return [Difference("family tree", detail=detail)]
    pairs = {
        "parents": (ours.parent, theirs.parent[known]),
        "births": (ours.born, theirs.born[known]),
        "deaths": (ours.died, np.where(theirs.died > step, -1, theirs.died)[known]),
    }
    if step == stored.steps:
        pairs["places"] = (ours.holder, theirs.holder)
    return [
        Difference(f"family tree, {name}", int((a != b).sum()), "individual", "")
        for name, (a, b) in pairs.items()
        if (a != b).any()
    ]


def _same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.shape == theirs.shape and ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()
