"""A world beside the same world lived through again, bit by bit."""

from typing import NamedTuple

import numpy as np

from fairyring.core.tensors import flatten_state
from fairyring.ecology.history.running import WorldRun
from fairyring.ecology.world import AMOUNTS, NUMBERS


class Difference(NamedTuple):
    """Something of a world that is not the same again.

    Attributes:
        name: of it.
        many: how many differ; 0 where that is not counted.
        of: what they are: "step" or "individual".
        detail: in words.
    """

    name: str
    many: int = 0
    of: str = ""
    detail: str = "differs"


def differences(kept: WorldRun, again: WorldRun, step: int) -> list[Difference]:
    """All that differs up to a step between a world of a file and the same again; at the last step also of the state."""
    found = []
    for names, field in ((NUMBERS, "numbers"), (AMOUNTS, "amounts")):
        for i, name in enumerate(names):
            if name == "short":  # how it was computed, not what happened
                continue
            ours, theirs = (np.ascontiguousarray(getattr(of, field)[:step, i]) for of in (again, kept))
            odd = np.flatnonzero(ours.view(np.uint32) != theirs.view(np.uint32))
            if len(odd):
                at = int(odd[0])
                detail = f"first step {at + 1:,}: {ours[at]} again, {theirs[at]} in the file"
                found.append(Difference(name, len(odd), "step", detail))
    found += _family(kept, again, step)
    if step == kept.steps:
        ours, theirs = flatten_state(again.state), flatten_state(kept.state)
        found += [
            Difference(f"state, {name}")
            for name in sorted(ours.keys() | theirs.keys())
            if name not in ours or name not in theirs or not _same(ours[name], theirs[name])
        ]
        if not _same(again.key, kept.key):
            found.append(Difference("key"))
    return found


def _family(kept: WorldRun, again: WorldRun, step: int) -> list[Difference]:
    """What differs in the family tree as it was at a step."""
    ours, theirs = again.lineage, kept.lineage
    there = theirs.born <= step
    if int(there.sum()) != len(ours):
        detail = f"{len(ours)} individuals again, {int(there.sum())} in the file"
        return [Difference("family tree", detail=detail)]
    pairs = {
        "parents": (ours.parent, theirs.parent[there]),
        "births": (ours.born, theirs.born[there]),
        "deaths": (ours.died, np.where(theirs.died > step, -1, theirs.died)[there]),
    }
    if step == kept.steps:
        pairs["places"] = (ours.holder, theirs.holder)
    return [
        Difference(f"family tree, {name}", int((a != b).sum()), "individual", "")
        for name, (a, b) in pairs.items()
        if (a != b).any()
    ]


def _same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.shape == theirs.shape and ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()
