"""The clients' own states in memory, for one run: a row for each client."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax
import numpy as np

from fairyring.core.program import aligned_zeros

Tree = Any


class ClientStates:
    """States of all clients, each a pytree like `example`, for as long as this object lives.

    Args:
        clients: how many clients there are.
        example: the state of a client before its first round.
    """

    def __init__(self, clients: int, example: Tree) -> None:
        leaves, self.treedef = jax.tree.flatten(jax.tree.map(np.asarray, example))
        self.leaves, self.clients = leaves, clients
        self._seen = np.zeros(clients, bool)

    @cached_property
    def _tables(self) -> list[np.ndarray]:
        # Zeros take no room before something else is written there.
        return [np.zeros((self.clients, *leaf.shape), leaf.dtype) for leaf in self.leaves]

    @property
    def facts(self) -> dict[str, int]:
        """What a checkpoint must remember of them."""
        return {}

    def read(self, clients: np.ndarray, room: int) -> Tree:
        """States of `clients`, as a pytree of arrays `[room, ...]`; places past the clients hold the first state."""
        stacked = self._first(room)
        seen = np.flatnonzero(self._seen[clients])
        for table, states in zip(self._tables, stacked, strict=True):
            if len(seen) == len(clients):  # `clip` because other modes make a copy first
                np.take(table, clients, axis=0, out=states[: len(clients)], mode="clip")
            else:
                states[seen] = table[clients[seen]]
        return jax.tree.unflatten(self.treedef, stacked)

    def write(self, clients: np.ndarray, states: Tree) -> None:
        """New states of `clients`; the first `len(clients)` rows of `states`."""
        for table, leaf in zip(self._tables, jax.tree.leaves(states), strict=True):
            table[clients] = np.asarray(leaf)[: len(clients)]
        self._seen[clients] = True

    def flush(self) -> None:
        """Called before a checkpoint that holds `facts` is saved."""

    def settle(self, round: int) -> None:
        """Called once the checkpoint of `round` is saved."""

    def recover(self, facts: Mapping[str, int], round: int) -> None:
        """Bring the states to those at the checkpoint of `round`, whose facts are given."""

    def _first(self, room: int) -> list[np.ndarray]:
        """The leaves of `room` first states."""
        stacked = [aligned_zeros((room, *leaf.shape), leaf.dtype) for leaf in self.leaves]
        for states, leaf in zip(stacked, self.leaves, strict=True):
            if leaf.any():
                states[:] = leaf
        return stacked
