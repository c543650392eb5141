"""The family tree of a world that is being watched, extended in place.

A `Lineage` is built anew at each update. That suits a run, which is decoded every few thousand steps and ends. A watched world is
read many times a second for days.
"""

import numpy as np

from fairyring.ecology.history import NOBODY, Lineage

ROOM = 1024  # rows allocated at first


class Growing:
    """An array that doubles its room when it is full, so that appending a row costs the same at any length.

    Args:
        rows: the first ones.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = np.empty((max(ROOM, len(rows)), *rows.shape[1:]), rows.dtype)
        self._length = 0
        self.add(rows)

    def __len__(self) -> int:
        return self._length

    @property
    def rows(self) -> np.ndarray:
        """A view of all rows, valid until more are added."""
        return self._rows[: self._length]

    def add(self, rows: np.ndarray) -> None:
        """Append rows."""
        end = self._length + len(rows)
        if end > len(self._rows):
            wider = np.empty((max(2 * len(self._rows), end), *self._rows.shape[1:]), self._rows.dtype)
            wider[: self._length] = self.rows
            self._rows = wider
        self._rows[self._length : end] = rows
        self._length = end


class Family:
    """Every individual that ever lived in a watched world, by number, and the places they hold.

    It stores what `Lineage` does, and also each individual's founder, generation and number of offspring, so that these need not
    be counted.

    Attributes:
        holder: as in `Lineage`.
    """

    def __init__(self, founders: int, capacity: int) -> None:
        start = Lineage.founded(founders, capacity)
        self.holder = start.holder
        self._parent, self._born, self._died = (Growing(of) for of in (start.parent, start.born, start.died))
        self._founder = Growing(np.arange(founders, dtype=np.int32))
        self._generation, self._offspring = (Growing(np.zeros(founders, np.int32)) for _ in range(2))

    def __len__(self) -> int:
        return len(self._parent)

    def places(self) -> Lineage:
        """A tree in which the present individuals are numbered by place. Extend it by the next steps, then `add` it."""
        return Lineage.founded(len(self.holder), len(self.holder))

    def add(self, grown: Lineage, steps: int) -> None:
        """Add what happened since `places`: `grown` is that tree, extended; its steps count from `steps`."""
        capacity, first = len(self.holder), len(self)
        count = len(grown) - capacity
        names = np.concatenate([self.holder, np.arange(first, first + count, dtype=np.int32)])
        parent = grown.parent[capacity:]
        child = parent >= 0
        parent = np.where(child, names[parent], np.int32(NOBODY))
        root, depth = grown.founder()[capacity:], grown.generation()[capacity:]
        # A line goes back to an individual that held a place before, or to an immigrant since, with which its line begins.
        older, of = root < capacity, names[root]
        founder, generation = of.copy(), depth.copy()
        founder[older] = self._founder.rows[of[older]]
        generation[older] += self._generation.rows[of[older]]
        self._parent.add(parent)
        self._born.add(grown.born[capacity:] + np.int32(steps))
        self._died.add(np.full(count, NOBODY, np.int32))
        self._founder.add(founder)
        self._generation.add(generation)
        self._offspring.add(np.zeros(count, np.int32))
        gone = np.flatnonzero(grown.died >= 0)
        self._died.rows[names[gone]] = grown.died[gone] + np.int32(steps)
        np.add.at(self._offspring.rows, parent[child], 1)
        self.holder = names[grown.holder]

    def lineage(self) -> Lineage:
        """A copy of the whole tree."""
        rows = (of.rows.copy() for of in (self._parent, self._born, self._died))
        return Lineage(*rows, holder=self.holder.copy())

    def parent(self, uid: int) -> int:
        """The uid of its parent, or -1."""
        return int(self._parent.rows[uid])

    def born(self, uid: int) -> int:
        """The step of its birth."""
        return int(self._born.rows[uid])

    def died(self, uid: int) -> int:
        """The step of its death; -1 while it lives."""
        return int(self._died.rows[uid])

    def founder(self, uid: int) -> int:
        """The uid of the founder or immigrant with which its line began."""
        return int(self._founder.rows[uid])

    def generation(self, uid: int) -> int:
        """Number of divisions from its founder."""
        return int(self._generation.rows[uid])

    def offspring(self, uid: int) -> int:
        """Number of children so far."""
        return int(self._offspring.rows[uid])

    def generations_from(self, ancestor: int, uids: np.ndarray) -> np.ndarray:
        """How many generations below an ancestor each individual is, int32 `[n]`; -1 for those who do not descend from it."""
        at, depth = np.array(uids), np.zeros(len(uids), np.int32)
        # Children have larger numbers than their parents.
        while (below := at > ancestor).any():
            at[below] = self._parent.rows[at[below]]
            depth[below] += 1
        return np.where(at == ancestor, depth, np.int32(NOBODY))

    def ancestors(self, uid: int, limit: int) -> tuple[int, ...]:
        """Its parent, the parent's parent and so on, at most `limit` of them."""
        line: list[int] = []
        while len(line) < limit and (uid := self.parent(uid)) >= 0:
            line.append(uid)
        return tuple(line)
