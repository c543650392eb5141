"""What a simulation returns."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState
from fairyring.population import Population
from fairyring.records.folder import RunFolder
from fairyring.records.layout import CLIENTS
from fairyring.rounds.keeping import checkpoint_arrays, write_head
from fairyring.simulation.evaluate import Evaluation, Evaluator
from fairyring.simulation.target import target


@dataclass
class Run:
    """A finished (or stopped) run.

    Attributes:
        plan: what ran.
        state: the server's state at the end: model, optimiser, what the algorithm keeps.
        metrics: a record a round, as in the run folder's metrics.jsonl. Of a private plan the means of training are noisy:
            `noise_std` is the standard deviation of the noise in each, and `lost_in_noise` names those it says nothing of.
        header: what run.json holds: seed, versions, machine, status, what was assumed.
        participation: how often each client reported, `[clients]`.
        examples: each client's examples, `[clients]`.
        tested: the last evaluation on the test population, if there was one.
        folder: the run folder, if there is one.
        canary_scores: how far each canary of an audit stood out, float32 `[n]`; empty without one.
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
        """How many rounds were run."""
        return len(self.metrics)

    def evaluate(self, population: Population) -> Evaluation:
        """Judge the trained model on a population: over all its examples, and client by client."""
        return Evaluator(self.plan.task, population, target(self.plan.layout.size))(self.params)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the run folder of a run that had none; it can be reported on and resumed like any other.

        But one whose clients have states of their own is not resumed: they were in memory only.

        Raises:
            RunError: there is something at `folder` already.
            StorageError: it cannot be written.
        """
        record = RunFolder.create(folder, private=self.plan.protection is not None)
        write_head(record, self.header, self.plan, self.population)
        record.append_metrics(self.metrics)
        record.checkpoint(self.rounds, checkpoint_arrays(self.state, self.participation), self.facts)
        record.write_arrays(CLIENTS, self.client_arrays())
        self.folder = record.path
        return record.path

    def client_arrays(self) -> dict[str, np.ndarray]:
        """What is known per client: participation and examples in training, each metric on the test population."""
        arrays = {"participation": self.participation, "examples": np.asarray(self.examples, np.int32)}
        return arrays | (self.tested.by_client() if self.tested is not None else {})
