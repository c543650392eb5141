"""A worker to debug in: client after client, in plain Python, nothing compiled.

A loss, a model or a metric can print its arrays, assert, or stop at `breakpoint()`. It is slow, and meant for a few clients
with a few examples. Its sums are those of the compiled worker: whole numbers to the bit wherever floats round alike.
"""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.core.keys import Purpose, of_round, shared
from fairyring.learning.device import Broadcast, device_half
from fairyring.learning.example_steps import Drawn, Shapes
from fairyring.learning.local import Workload
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState
from fairyring.population import Population
from fairyring.records.states import ClientStates
from fairyring.rounds.cohorts import RoundCohort
from fairyring.rounds.server_program import Sums
from fairyring.rounds.total import Total
from fairyring.rounds.worker import Work
from fairyring.simulation.engine import canary_message

Tree = Any


class DebugWorker:
    """Computes sums with nothing compiled.

    Args:
        plan: what runs.
        population: the clients.
        root: key of the run.
        states: what clients remember, or None.
    """

    parts = 1

    def __init__(
        self, plan: Plan, population: Population, root: jax.Array, states: ClientStates | None
    ) -> None:
        self.plan, self.population, self.root, self.states = plan, population, root, states
        self._columns = plan.task.reads(population)
        workload = Workload.of(np.asarray(population.sizes), plan.local)
        stages = plan.example_stages
        self._shapes = Shapes.of(plan.local, stages, workload.longest) if stages is not None else None
        self._update = device_half(
            plan.task, plan.local, plan.algorithm, plan.bound, workload, rewrite=looked_at, stages=stages,
            measures_norms=plan.measures_norms,
        )  # fmt: skip
        self._norms: list[np.ndarray] = []  # of the round at hand

    def accumulate(self, work: Work) -> Total:
        """See `fairyring.rounds.worker.Worker`."""
        message = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), self.plan.message_shape)
        count, faulty = 0, [np.zeros(0, np.int64)]
        self._norms.clear()
        for _, sent, counted in self._messages(work, faulty, keep=True):
            message, count = jax.tree.map(np.add, message, sent), count + counted
        norms = np.array(self._norms, np.float32) if self.plan.measures_norms else None
        sums = Sums(jax.tree.map(jnp.asarray, message), jnp.int32(count))
        return Total((sums,), np.concatenate(faulty), relative_norms=norms)

    def encoded(
        self, work: Work, faulty: list[np.ndarray], *, keep: bool = True
    ) -> Iterator[tuple[int, np.ndarray]]:
        """See `fairyring.rounds.worker.Worker`."""
        for client, message, _ in self._messages(work, faulty, keep=keep):
            yield client, message.vector

    def warm(self, state: ServerState, number: int) -> Total:
        """See `fairyring.rounds.worker.Worker`: there is nothing to compile."""
        nobody = np.zeros(0, np.int64)
        return self.accumulate(Work(RoundCohort(number, nobody, nobody), state))

    def _messages(
        self, work: Work, faulty: list[np.ndarray], *, keep: bool
    ) -> Iterator[tuple[int, Any, bool]]:
        """`(client, message, whether it counts)`, one client after the other."""
        number = jnp.int32(work.cohort.round)
        round_key = of_round(self.root, number)
        stages_key = shared(round_key, Purpose.SHARED)
        sent = Broadcast(work.state.params, work.state.algorithm, number)
        hides_nonfinite = self.plan.bound.spec.hides_nonfinite
        for client in work.cohort.staying.tolist():
            rows = self.population.client(client)
            columns = {name: jnp.asarray(rows[name]) for name in self._columns}
            size = len(next(iter(columns.values())))
            with jax.disable_jit():
                outcome = self._update(
                    sent, columns, jnp.int32(0), jnp.int32(size), self._state(client),
                    jax.random.fold_in(round_key, np.int32(client)), stages_key, self._drawn(work, client, size),
                )  # fmt: skip
            finite = bool(outcome.finite)
            if not finite:
                faulty.append(np.array([client]))
            elif self.plan.measures_norms:
                self._norms.append(np.asarray(outcome.relative_norm, np.float32))
            if keep and self.states is not None:
                self.states.write(
                    np.array([client]),
                    jax.tree.map(lambda leaf: np.asarray(leaf)[None], outcome.client_state),
                )
            yield client, jax.tree.map(np.asarray, outcome.message), finite or hides_nonfinite
        for client in work.cohort.canaries.tolist():
            message = canary_message(self.plan, len(self.population), np.int32(client), number, self.root)
            yield client, jax.tree.map(np.asarray, message), True

    def _state(self, client: int) -> Tree:
        if self.states is None:
            return ()
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), self.states.read(np.array([client]), 1))

    def _drawn(self, work: Work, client: int, size: int) -> Drawn | tuple[()]:
        """What a client draws for its noisy local steps; nothing where there are none."""
        if self._shapes is None:
            return ()
        drawn = Drawn(*(np.zeros(one.shape, one.dtype) for one in self._shapes.drawn))
        drawn.batches[:] = -1
        if work.noise is not None:
            work.noise.draw_steps(client, size, drawn.noise, drawn.batches)
        return Drawn(*map(jnp.asarray, drawn))


def looked_at(objective: Callable) -> Callable:
    """An objective that runs on plain arrays first, to be looked at, and then once more, in silence, for its gradient."""

    def both(params: Tree, *rest: Any) -> Any:
        @jax.custom_jvp
        def value(params: Tree) -> Any:
            return objective(params, *rest)

        @value.defjvp
        def _(primals: tuple[Tree], tangents: tuple[Tree]) -> Any:
            objective(*primals, *rest)
            with _silence():
                return jax.jvp(lambda params: objective(params, *rest), primals, tangents)

        return value(params)

    return both


@contextmanager
def _silence() -> Iterator[None]:
    """Neither prints nor stops."""
    hook = sys.breakpointhook
    sys.breakpointhook = lambda *_, **__: None
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        sys.breakpointhook = hook
