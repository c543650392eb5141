"""How rounds are computed elsewhere than in this process: what a run gives, and what it gets."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import jax

from fairyring.learning.plan import Plan
from fairyring.population import Population
from fairyring.records.states import ClientStates
from fairyring.rounds.cohorts import CohortSampler
from fairyring.rounds.worker import Worker
from fairyring.simulation.engine import Engine


@dataclass(frozen=True)
class Start:
    """What is known of a run before its first round.

    Attributes:
        plan: what runs.
        population: the clients.
        engine: of this process, not compiled.
        cohorts: of the run.
        root: key of the run.
        states: what clients remember, or None.
        client_state: shapes of a client's state; an empty tree without one.
        clients_per_batch: see `simulate`.
    """

    plan: Plan
    population: Population
    engine: Engine
    cohorts: CohortSampler
    root: jax.Array
    states: ClientStates | None
    client_state: Any
    clients_per_batch: int | None


class Elsewhere(Protocol):
    """Machines that compute rounds, such as `fr.ray()`: what `simulate(engine=)` takes beside names."""

    def worker(self, start: Start) -> AbstractContextManager[Worker]:
        """A worker for a run, which lasts as long as the context."""
        ...
