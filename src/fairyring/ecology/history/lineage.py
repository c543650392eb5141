"""The family tree of a world: everybody who ever lived in it, by number."""

from dataclasses import dataclass

import numpy as np

from fairyring.ecology.history.log import Happenings

NOBODY = -1


@dataclass(frozen=True)
class Lineage:
    """Everybody who ever lived in a world. Arrays are int32 `[individuals]`, in the order of their numbers (uids).

    Attributes:
        parent: uid, or -1 of founders and newcomers.
        born: the step at whose end it was there; 0 of founders.
        died: the step in which it died; -1 while it lives.
        holder: uid of who is, or last was, in each place `[capacity]`; -1 where nobody ever was.
    """

    parent: np.ndarray
    born: np.ndarray
    died: np.ndarray
    holder: np.ndarray

    @classmethod
    def founded(cls, founders: int, capacity: int) -> "Lineage":
        """A world at its start: the founders in the first places."""
        holder = np.full(capacity, NOBODY, np.int32)
        holder[:founders] = np.arange(founders)
        return cls(
            parent=np.full(founders, NOBODY, np.int32),
            born=np.zeros(founders, np.int32),
            died=np.full(founders, NOBODY, np.int32),
            holder=holder,
        )

    def __len__(self) -> int:
        return len(self.parent)

    def after(self, happened: Happenings) -> "Lineage":
        """The tree grown by what happened in the next steps."""
        first, count = len(self.parent), len(happened.born_step)
        uids = np.arange(first, first + count, dtype=np.int32)
        # Who was in a place at a time: the last one to come to it before. Whoever was there from the start came at
        # time -1. Of one place, times rise; `keys` puts place before time.
        span = int(max(happened.born_step.max(initial=0), happened.died_step.max(initial=0))) + 2
        places = np.concatenate([np.arange(len(self.holder)), happened.born_place]).astype(np.int64)
        times = np.concatenate([np.full(len(self.holder), -1), happened.born_step]) + 1
        who = np.concatenate([self.holder, uids])
        order = np.argsort(places * span + times, kind="stable")
        keys, who = (places * span + times)[order], who[order]

        def holder(place: np.ndarray, before: np.ndarray) -> np.ndarray:
            return who[np.searchsorted(keys, place.astype(np.int64) * span + before + 1) - 1]

        parent = np.full(count, NOBODY, np.int32)
        child = happened.parent_place >= 0
        parent[child] = holder(happened.parent_place[child], happened.born_step[child])
        died = np.concatenate([self.died, np.full(count, NOBODY, np.int32)])
        died[holder(happened.died_place, happened.died_step)] = happened.died_step
        last = self.holder.copy()
        last[happened.born_place] = uids  # in order, so the last to come stays
        return Lineage(
            parent=np.concatenate([self.parent, parent]),
            born=np.concatenate([self.born, happened.born_step]),
            died=died,
            holder=last,
        )

    def founder(self) -> np.ndarray:
        """Of everybody, the founder or newcomer it descends from. A parent's number is below its children's."""
        root = np.arange(len(self), dtype=np.int32)
        above = np.where(self.parent >= 0, self.parent, root)
        while True:  # each pass doubles how far up one looks
            up = above[above]
            if np.array_equal(up, above):
                return above
            above = up

    def generation(self) -> np.ndarray:
        """Of everybody, how many divisions it is from its founder."""
        depth = (self.parent >= 0).astype(np.int32)
        above = np.where(self.parent >= 0, self.parent, np.arange(len(self), dtype=np.int32))
        while True:
            up = above[above]
            if np.array_equal(up, above):
                return depth
            depth = depth + depth[above]
            above = up

    def offspring(self) -> np.ndarray:
        """Of everybody, how many children."""
        return np.bincount(self.parent[self.parent >= 0], minlength=len(self)).astype(np.int32)

    def ancestors(self, uid: int) -> list[int]:
        """Parent, its parent and so on, up to the founder."""
        line = []
        while (uid := int(self.parent[uid])) >= 0:
            line.append(uid)
        return line

    def lifetime(self, *, after: int = 0) -> float:
        """Steps, on average, from birth to death, of those born after a step who have died; NaN if nobody has."""
        done = (self.died >= 0) & (self.born > after)
        return float((self.died - self.born)[done].mean()) if done.any() else float("nan")

    def generation_length(self, *, after: int = 0) -> float:
        """Steps, on average, from a parent's birth to a child's, of children born after a step; NaN without any."""
        child = (self.parent >= 0) & (self.born > after)
        return (
            float((self.born[child] - self.born[self.parent[child]]).mean()) if child.any() else float("nan")
        )

    def count(self, labels: np.ndarray, steps: int) -> np.ndarray:
        """How many of each label lived at the end of each step, int32 `[labels, steps + 1]`, from the start on.

        Args:
            labels: of everybody, whole numbers from 0; those below 0 are not counted.
            steps: the last step.
        """
        kinds = int(labels.max(initial=-1)) + 1
        counts = np.zeros((kinds, steps + 1), np.int64)
        known = (labels >= 0) & (self.born <= steps)
        np.add.at(counts, (labels[known], self.born[known]), 1)
        gone = known & (self.died >= 0) & (self.died <= steps)
        np.add.at(counts, (labels[gone], self.died[gone]), -1)
        return np.cumsum(counts, 1).astype(np.int32)
