"""A plan put together with a population on this machine: what every round of it needs."""

from typing import Any, NamedTuple, Self

import jax
import numpy as np

from fairyring.core.keys import NOBODY, Purpose, of_client, of_round, root
from fairyring.learning.local import Workload
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState
from fairyring.population import Population
from fairyring.simulation.draws import Draw, Draws
from fairyring.simulation.engine import Engine
from fairyring.simulation.feed import Resident, Streamed, feed
from fairyring.simulation.rounds import Rounds
from fairyring.simulation.spending import Spending
from fairyring.simulation.states import ClientStates
from fairyring.simulation.target import Target, target

Tree = Any


class Assembly(NamedTuple):
    """What is the same in all rounds of a run.

    Attributes:
        engine: the compiled plan.
        rows: brings clients' rows to the devices.
        first: the server's state before the first round.
        own: a client's own state before its first round, as NumPy arrays; without leaves where it has none.
    """

    engine: Engine
    rows: Resident | Streamed
    first: ServerState
    own: Tree


def assemble(plan: Plan, population: Population, key: jax.Array, on: Target) -> Assembly:
    """Put a plan and a population together for the devices of `on`; `key` is the run's."""
    engine = Engine(
        plan, Workload.of(np.asarray(population.sizes), plan.local, unroll=on.unroll), len(population), on
    )
    mine = jax.eval_shape(plan.algorithm.mine, plan.params_shape)
    rows = feed(population, plan.task.reads(population), engine, mine=mine)
    first = plan.first_state(of_client(of_round(key, 0), NOBODY, Purpose.INIT))
    return Assembly(engine, rows, first, jax.tree.map(np.asarray, plan.algorithm.mine(first.params)))


class Trial:
    """Rounds that are tried and not kept: each from a plan's first model, with fresh noise and a ledger in memory.

    Args:
        plan: what to try.
        population: the clients.
        seed: of cohorts and the first model.
    """

    def __init__(self, plan: Plan, population: Population, *, seed: int) -> None:
        key = root(seed)
        engine, rows, first, own = assemble(plan, population, key, target(plan.layout.size))
        self.draws = Draws(plan.rule, population, seed)
        self.state = jax.device_put(first, engine.devices[0])
        # However many attempts there are: nobody sees them but who makes them.
        self._spending = Spending(plan, None, limited=False) if plan.protection else None
        states = ClientStates(len(population), own, None) if jax.tree.leaves(own) else None
        self._rounds = Rounds(engine, rows, self.draws, key, states, None)

    def round(self, number: int) -> tuple[Draw, ServerState]:
        """Who took part in a round from the first model, and the state after it."""
        draw = self.draws.of(number)
        clients = len(draw.staying), len(draw.sampled)
        noise = self._spending.begin(number, *clients) if self._spending else None
        return draw, self._rounds.run(self.state, draw, noise).state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._spending:
            self._spending.close(finished=True)
