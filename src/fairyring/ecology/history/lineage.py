"""The family tree of a world: every individual that ever lived in it, by number."""

from dataclasses import dataclass

import numpy as np

from fairyring.ecology.history.log import Happenings

NOBODY = -1


@dataclass(frozen=True)
class Lineage:
    """Every individual that ever lived in a world. Arrays are int32 `[individuals]`, in order of their numbers (uids).

    Attributes:
        parent: uid of the parent; -1 for founders and immigrants.
        born: the step in which it was born or came in; 0 for founders.
        died: the step in which it died; -1 while it lives.
        holder: uid of the present or last individual in each place `[capacity]`; -1 for a place never used.
    """

    parent: np.ndarray
    born: np.ndarray
    died: np.ndarray
    holder: np.ndarray

    @classmethod
    def founded(cls, founders: int, capacity: int) -> "Lineage":
        """A world at its start, with the founders in the first places."""
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
        """The tree after the births and deaths of the next steps."""
        first, count = len(self.parent), len(happened.born_step)
        uids = np.arange(first, first + count, dtype=np.int32)
        # The individual in a place at a time is the last one to have come to it. Those present from the start came at
        # time -1. `keys` sorts by place, then by time.
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
        last[happened.born_place] = uids  # in order, so the last one stays
        return Lineage(
            parent=np.concatenate([self.parent, parent]),
            born=np.concatenate([self.born, happened.born_step]),
            died=died,
            holder=last,
        )

    def founder(self) -> np.ndarray:
        """For each individual, the founder or immigrant it descends from."""
        root = np.arange(len(self), dtype=np.int32)
        above = np.where(self.parent >= 0, self.parent, root)
        while True:  # each pass doubles the number of generations covered
            up = above[above]
            if np.array_equal(up, above):
                return above
            above = up

    def generation(self) -> np.ndarray:
        """For each individual, the number of divisions from its founder."""
        depth = (self.parent >= 0).astype(np.int32)
        above = np.where(self.parent >= 0, self.parent, np.arange(len(self), dtype=np.int32))
        while True:
            up = above[above]
            if np.array_equal(up, above):
                return depth
            depth = depth + depth[above]
            above = up

    def offspring(self) -> np.ndarray:
        """For each individual, its number of children."""
        return np.bincount(self.parent[self.parent >= 0], minlength=len(self)).astype(np.int32)

    def ancestors(self, uid: int) -> list[int]:
        """The parent, the parent's parent and so on, up to the founder."""
        line = []
        while (uid := int(self.parent[uid])) >= 0:
            line.append(uid)
        return line

    def lifetime(self, *, after: int = 0) -> float:
        """Mean steps from birth to death, over the dead that were born after a step; NaN if there are none."""
        done = (self.died >= 0) & (self.born > after)
        return float((self.died - self.born)[done].mean()) if done.any() else float("nan")

    def generation_length(self, *, after: int = 0) -> float:
        """Mean steps from a parent's birth to a child's, over children born after a step; NaN if there are none."""
        child = (self.parent >= 0) & (self.born > after)
        return (
            float((self.born[child] - self.born[self.parent[child]]).mean()) if child.any() else float("nan")
        )

    def count(self, labels: np.ndarray, steps: int) -> np.ndarray:
        """How many individuals of each label lived at the end of each step, int32 `[labels, steps + 1]`, from step 0.

        Args:
            labels: one for each individual, whole numbers from 0; negative labels are not counted.
            steps: the last step.
        """
        kinds = int(labels.max(initial=-1)) + 1
        counts = np.zeros((kinds, steps + 1), np.int64)
        known = (labels >= 0) & (self.born <= steps)
        np.add.at(counts, (labels[known], self.born[known]), 1)
        gone = known & (self.died >= 0) & (self.died <= steps)
        np.add.at(counts, (labels[gone], self.died[gone]), -1)
        return np.cumsum(counts, 1).astype(np.int32)
