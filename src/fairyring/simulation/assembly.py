"""A plan, a population and this machine, assembled: what every round of a run needs."""

import math
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from fairyring.core.keys import key_shape, of_first_model, root
from fairyring.core.program import kept
from fairyring.learning.device import objective_of
from fairyring.learning.local import Workload
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState
from fairyring.lowering import Hardware, hardware, multiply_adds
from fairyring.population import Population
from fairyring.records.states import ClientStates
from fairyring.rounds.cohorts import CohortSampler, RoundCohort
from fairyring.rounds.release import release
from fairyring.rounds.server_program import ServerProgram
from fairyring.rounds.spending import RunSpending
from fairyring.rounds.worker import Work
from fairyring.simulation.engine import Engine
from fairyring.simulation.feed import Resident, Streamed, make_feed
from fairyring.simulation.worker import CompiledWorker

Tree = Any

ROUNDS = 32  # in one program, at most
STATE_BYTES = 4 << 20  # of the states after each of them
SMALL_ROUND = 8_000_000  # multiply-adds of the loss, forward: about a millisecond of training on a core


class Assembly(NamedTuple):
    """What all rounds of a run share.

    Attributes:
        engine: the clients' half of the plan, compiled.
        program: the server's half, compiled.
        rows: brings clients' rows to the processors; None where they are computed elsewhere.
        first: the server's state before the first round.
        own: a client's own state before its first round, a tree of NumPy arrays; empty if clients keep no state.
        work: see `work_of_round`.
    """

    engine: Engine
    program: ServerProgram
    rows: Resident | Streamed | None
    first: ServerState
    own: Tree
    work: float

    @property
    def has_states(self) -> bool:
        """Whether clients keep a state from round to round."""
        return bool(jax.tree.leaves(self.own))

    @property
    def rounds_at_once(self) -> int:
        """How many rounds are computed in one program; 1 where something has to happen between two rounds beside the server half, or
        where a round takes long by itself: whoever watches a run, or stops it, does not wait for more than some hundredths of a second.

        It depends on plan, population and processors alone, not on how a run is watched, so a run has the same bits however it is.
        """
        plan, rows = self.engine.plan, self.rows
        if (
            plan.protection is not None
            or plan.bound.spec.masking
            or self.has_states
            or len(self.engine.processors) > 1
            or not isinstance(rows, Resident)
        ):
            return 1
        size = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(self.first))
        most = max(1, min(ROUNDS, int(ROUNDS * SMALL_ROUND // self.work), STATE_BYTES // max(1, size)))
        return 1 << (most.bit_length() - 1)  # one of a few, so that other people seldom need another program


def work_of_round(plan: Plan, population: Population) -> float:
    """Multiply-adds of the loss in a usual round, forward; infinite where they are far more than those of a small one."""
    local, sizes = plan.local, np.asarray(population.sizes)
    usual = float(np.mean(sizes[sizes > 0]))
    steps = plan.rule.maximum * (local.steps or (local.epochs or 1) * usual / local.batch_size)
    if steps * plan.layout.size > ROUNDS * SMALL_ROUND:  # every step reads every parameter
        return math.inf
    columns = plan.task.columns_of(population)
    batch = {
        name: jax.ShapeDtypeStruct((local.batch_size, *shape), dtype)
        for name, (shape, dtype) in columns.items()
    }
    work = kept(
        plan.task,
        (work_of_round, local.batch_size, tuple(columns.items())),
        lambda: multiply_adds(objective_of(plan.task), plan.params_shape, batch, None, key_shape()),
    )
    return max(1.0, steps * work)


def assemble(
    plan: Plan,
    population: Population,
    key: jax.Array,
    on: Hardware,
    *,
    as_needed: bool = False,
    elsewhere: bool = False,
    init: Tree | None = None,
) -> Assembly:
    """Put a plan and a population together for the processors of `on`; `key` is the run's, `init` the first model if not the plan's.

    With `as_needed` only the first of them is used for rounds so small that starting them on several takes longer than computing
    them on one. With `elsewhere` no rows are brought to this machine's processors.
    """
    work = work_of_round(plan, population)
    on = on.alone if as_needed and work <= SMALL_ROUND else on
    clients = len(population)
    workload = Workload.of(np.asarray(population.sizes), plan.local, unroll=on.unroll)
    engine = kept(plan, (Engine, workload, clients, on.key), lambda: Engine(plan, workload, clients, on))
    program = kept(
        plan,
        (ServerProgram, clients, on.key),
        lambda: ServerProgram(plan, clients, key, engine.processors[0], on.options),
    ).with_root(key)
    own = jax.eval_shape(plan.algorithm.client_state, plan.params_shape)
    rows = None if elsewhere else make_feed(population, plan.task.reads(population), engine, client_state=own)
    first = plan.first_state(of_first_model(key), init)
    own = jax.tree.map(np.asarray, plan.algorithm.client_state(first.params))
    return Assembly(engine, program, rows, first, own, work)


class Trial:
    """Rounds that are run as a trial and not kept, each from the plan's first model.

    Each has fresh noise, and the ledger is in memory.

    Args:
        plan: what to run.
        population: the clients.
        seed: decides the cohorts and the first model.
        init: the first model, if it is not the plan's.
    """

    def __init__(self, plan: Plan, population: Population, *, seed: int, init: Tree | None = None) -> None:
        key = root(seed)
        parts = assemble(plan, population, key, hardware(plan.layout.size), init=init)
        self.cohorts = CohortSampler(plan.rule, population, seed)
        self.state, self._program = parts.program.placed(parts.first), parts.program
        # However many attempts there are: nobody sees them but who makes them.
        self._spending = RunSpending(plan, None, limited=False) if plan.protection else None
        states = ClientStates(len(population), parts.own) if parts.has_states else None
        assert parts.rows is not None
        self._worker = CompiledWorker(parts.engine, parts.rows, self.cohorts, key, states)

    def round(self, number: int) -> tuple[RoundCohort, ServerState]:
        """Who took part in a round from the first model, and the state after it."""
        cohort = self.cohorts.of(number)
        clients = len(cohort.staying), len(cohort.sampled)
        noise = self._spending.begin(number, *clients) if self._spending else None
        total = self._worker.accumulate(Work(cohort, self.state, noise))
        return cohort, release(self._program, self.state, cohort, total, noise).state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spending:
            self._spending.close(finished=True)
