"""The server half of every round, compiled: all drivers run it, whoever computed the sum."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fairyring.core.keys import Purpose, of_round, shared
from fairyring.core.program import Processor, Program
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState, server_half

Tree = Any
Array = Any  # of NumPy before a program is called, of JAX within


class Sums(NamedTuple):
    """The sum of encoded messages, and how many are in it (int32)."""

    message: Any
    reported: Array


class ServerProgram:
    """A plan's server half, compiled for one processor.

    Args:
        plan: whose server half it is.
        clients: how many clients the population has.
        root: key of the run.
        processor: on which it runs.
        options: of the compiler.

    Attributes:
        root: the run's key, on the processor.
        compiled: the programs so far, by name and by the number of parts they add up.
    """

    def __init__(
        self,
        plan: Plan,
        clients: int,
        root: jax.Array,
        processor: Processor,
        options: Mapping[str, str | int] | None = None,
    ) -> None:
        self.plan, self.processor, self._options = plan, processor, options
        self.root = jax.device_put(root, processor)
        self.advance = server_half(
            plan.server, plan.algorithm, plan.bound, plan.update_layout, clients, plan.secret_rate
        )
        self.compiled: dict[tuple[str, int], Program] = {}

    def placed(self, state: ServerState) -> ServerState:
        """`state`, on the server's processor."""
        return jax.device_put(state, self.processor)

    def with_root(self, root: jax.Array) -> "ServerProgram":
        """The same programs, for a run of another key."""
        other = object.__new__(ServerProgram)
        other.__dict__ |= self.__dict__ | {"root": jax.device_put(root, self.processor)}
        return other

    def sums(self, vector: np.ndarray | None = None, count: int = 0) -> Sums:
        """A masked sum of `count` clients on the server's processor; without `vector`, the sum of nobody."""
        message = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), self.plan.message_shape)
        message = message if vector is None else message._replace(vector=vector)
        return jax.device_put(Sums(message, np.int32(count)), self.processor)

    def begin(self, state: ServerState, parts: int) -> None:
        """Begin to compile what a round needs whose total has so many parts."""
        sums = jax.eval_shape(self.sums)
        given = np.int32(0), self.root
        if self.plan.protection is None:
            self._of(self.finished, parts).begin(state, (sums,) * parts, *given)
        else:
            self._of(self._add_up, parts).begin((sums,) * parts)
            self._of(self._finish_noisy, 1).begin(state, sums, *given)

    def warm(self, state: ServerState, parts: tuple[Sums, ...]) -> None:
        """Compile what a round needs whose total has parts like these, which are the sums of nobody."""
        if self.plan.protection is None:
            self.finish(state, parts, 0)
        else:
            self.finish_noisy(state, self.add_up(parts), 0)

    def add_up(self, parts: tuple[Sums, ...]) -> Sums:
        """The sum of all parts, to which noise is added before the server's half."""
        return self._of(self._add_up, len(parts))(0, parts)

    def finish(
        self, state: ServerState, parts: tuple[Sums, ...], number: int
    ) -> tuple[ServerState, jax.Array, jax.Array]:
        """The server half of round `number`: the next state, `[auxiliary...]`, and how many reported."""
        return self._of(self.finished, len(parts))(0, state, parts, np.int32(number), self.root)

    def finish_noisy(
        self, state: ServerState, sums: Sums, number: int
    ) -> tuple[ServerState, jax.Array, jax.Array, jax.Array]:
        """The same for one noisy sum, with the decoded mean vector as the last result."""
        return self._of(self._finish_noisy, 1)(0, state, sums, np.int32(number), self.root)

    def _of(self, function: Callable[..., Tree], parts: int) -> Program:
        key = function.__name__, parts
        if key not in self.compiled:
            self.compiled[key] = Program(function, [self.processor], options=self._options)
        return self.compiled[key]

    def _add_up(self, parts: tuple[Sums, ...]) -> Sums:
        return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *parts)

    def finished(
        self, state: ServerState, parts: tuple[Sums, ...], number: jax.Array, root: jax.Array
    ) -> tuple[ServerState, jax.Array, jax.Array]:
        """What `finish` is compiled from, for programs that contain it."""
        state, auxiliary, reported, _ = self._finish_noisy(state, self._add_up(parts), number, root)
        return state, auxiliary, reported

    def _finish_noisy(
        self, state: ServerState, sums: Sums, number: jax.Array, root: jax.Array
    ) -> tuple[ServerState, jax.Array, jax.Array, jax.Array]:
        counted = counts(self.plan, sums.reported)
        state, auxiliary, mean = self.advance(
            state, sums.message, counted, shared(of_round(root, number), Purpose.SHARED)
        )
        return state, auxiliary, sums.reported, mean


def counts(plan: Plan, reported: Any) -> Any:
    """How many reports count, of those that came: the one place that decides when there are too few.

    A sum of fewer than the minimum is not released, and counts as none. But where it is a secret who took part, it is also a
    secret that nobody did: then noise alone is released, as if one client had reported.
    """
    counted = reported * (reported >= plan.minimum_cohort)
    if plan.secret_rate is not None and plan.minimum_cohort == 1:
        counted = counted + (counted == 0)
    return counted
