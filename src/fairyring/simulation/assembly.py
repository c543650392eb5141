"""A plan, a population and this machine, assembled: what every round of a run needs."""

from typing import Any, NamedTuple, Self

import jax
import numpy as np

from fairyring.core.keys import NOBODY, Purpose, of_client, of_round, root
from fairyring.learning.local import Workload
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState
from fairyring.lowering import Hardware, hardware
from fairyring.population import Population
from fairyring.records.states import ClientStates
from fairyring.rounds.draws import Draw, Draws
from fairyring.rounds.program import ServerProgram
from fairyring.rounds.release import release
from fairyring.rounds.spending import Spending
from fairyring.rounds.worker import Work
from fairyring.simulation.engine import Engine
from fairyring.simulation.feed import Resident, Streamed, feed
from fairyring.simulation.worker import CompiledWorker

Tree = Any


class Assembly(NamedTuple):
    """What all rounds of a run share.

    Attributes:
        engine: the clients' half of the plan, compiled.
        program: the server's half, compiled.
        rows: brings clients' rows to the processors.
        first: the server's state before the first round.
        own: a client's own state before its first round, a tree of NumPy arrays; empty if clients keep no state.
    """

    engine: Engine
    program: ServerProgram
    rows: Resident | Streamed
    first: ServerState
    own: Tree

    @property
    def has_states(self) -> bool:
        """Whether clients keep a state from round to round."""
        return bool(jax.tree.leaves(self.own))


def assemble(plan: Plan, population: Population, key: jax.Array, on: Hardware) -> Assembly:
    """Assemble a plan and a population for hardware.

    Args:
        plan: what to run.
        population: the clients.
        key: the key of the run.
        on: the hardware to run on.
    """
    clients = len(population)
    engine = Engine(
        plan, Workload.of(np.asarray(population.sizes), plan.local, unroll=on.unroll), clients, on
    )
    program = ServerProgram(plan, clients, key, engine.processors[0], on.options)
    mine = jax.eval_shape(plan.algorithm.mine, plan.params_shape)
    rows = feed(population, plan.task.reads(population), engine, mine=mine)
    first = plan.first_state(of_client(of_round(key, 0), NOBODY, Purpose.INIT))
    own = jax.tree.map(np.asarray, plan.algorithm.mine(first.params))
    return Assembly(engine, program, rows, first, own)


class Trial:
    """Rounds that are run as a trial and not kept, each from the plan's first model.

    Each has fresh noise, and the ledger is in memory.

    Args:
        plan: what to run.
        population: the clients.
        seed: decides the cohorts and the first model.
    """

    def __init__(self, plan: Plan, population: Population, *, seed: int) -> None:
        key = root(seed)
        parts = assemble(plan, population, key, hardware(plan.layout.size))
        self.draws = Draws(plan.rule, population, seed)
        self.state, self._program = parts.program.placed(parts.first), parts.program
        # Without a limit: nobody sees these rounds but the caller.
        self._spending = Spending(plan, None, limited=False) if plan.protection else None
        states = ClientStates(len(population), parts.own, None) if parts.has_states else None
        self._worker = CompiledWorker(parts.engine, parts.rows, self.draws, key, states)

    def round(self, number: int) -> tuple[Draw, ServerState]:
        """The clients of a round that starts from the first model, and the server's state after it."""
        draw = self.draws.of(number)
        clients = len(draw.staying), len(draw.sampled)
        noise = self._spending.begin(number, *clients) if self._spending else None
        total = self._worker.accumulate(Work(draw, self.state, noise))
        return draw, release(self._program, self.state, draw, total, noise).state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spending:
            self._spending.close(finished=True)
