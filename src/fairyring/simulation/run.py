"""What a simulation returns."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fairyring.evaluation import Evaluation, Evaluator
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState
from fairyring.lowering import hardware
from fairyring.population import Population
from fairyring.records.folder import RunFolder
from fairyring.records.layout import CLIENTS
from fairyring.rounds.keeping import checkpoint_arrays, write_head


@dataclass
class Run:
    """A finished (or stopped) run.

    Attributes:
        plan: what ran.
        state: the server's state at the end: model, optimiser, what the algorithm keeps.
        metrics: one record per round, as in metrics.jsonl of the run folder. In a private plan the training means are noisy:
            `noise_std` is the standard deviation of the noise in each, and `lost_in_noise` names those that the noise
            hides.
        header: the contents of run.json: seed, versions, machine, status, assumptions.
        population: a summary of the population, and of the test population.
        participation: how often each client reported, `[clients]`.
        examples: the number of examples of each client, `[clients]`.
        tested: the last evaluation on the test population, if there is one.
        folder: the run folder, if there is one.
        facts: what a checkpoint stores beside the arrays.
        canary_scores: how far each canary of an audit stands out, float32 `[n]`; empty without an audit.
    """

    plan: Plan
    state: ServerState
    metrics: list[dict[str, Any]]
    header: dict[str, Any]
    population: dict[str, Any]
    participation: np.ndarray
    examples: np.ndarray
    tested: Evaluation | None = None
    folder: Path | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    canary_scores: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def params(self) -> Any:
        """The trained parameters."""
        return self.state.params

    @property
    def rounds(self) -> int:
        """The number of rounds that were run."""
        return len(self.metrics)

    def evaluate(self, population: Population) -> Evaluation:
        """Evaluate the trained model on a population: over all examples, and client by client."""
        return Evaluator(self.plan.task, population, hardware(self.plan.layout.size))(self.params)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write a run folder for a run that has none. It can be reported on and resumed like any other.

        A run whose clients keep states cannot be resumed from it: the states were in memory only.

        Raises:
            RunError: `folder` exists already.
            StorageError: the folder cannot be written.
        """
        record = RunFolder.create(folder, private=self.plan.protection is not None)
        write_head(record, self.header, self.plan, self.population)
        record.append_metrics(self.metrics)
        record.checkpoint(self.rounds, checkpoint_arrays(self.state, self.participation), self.facts)
        record.write_arrays(CLIENTS, self.client_arrays())
        self.folder = record.path
        return record.path

    def client_arrays(self) -> dict[str, np.ndarray]:
        """Arrays with a value per client: participation, number of examples, and each metric on the test population."""
        arrays = {"participation": self.participation, "examples": np.asarray(self.examples, np.int32)}
        return arrays | (self.tested.by_client() if self.tested is not None else {})
