"""A run in this process: what a driver returns."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fairyring.core.errors import RunError
from fairyring.core.program import Program, kept
from fairyring.core.tree_names import joined, names_of
from fairyring.evaluation import Evaluation, Evaluator
from fairyring.learning.forward import forward_of
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState
from fairyring.lowering import hardware
from fairyring.population import Population
from fairyring.privacy.ledger import Entry, write_ledger
from fairyring.records.folder import RunFolder
from fairyring.records.layout import CLIENTS, INIT, LEDGER
from fairyring.records.models import leaves_of, model_arrays
from fairyring.records.round_record import Means, RoundRecord
from fairyring.records.store import Nowhere, Store
from fairyring.rounds.recorder import checkpoint_arrays, write_head
from fairyring.runs.model import Inputs, TrainedModel
from fairyring.runs.results import Results

Tree = Any


@dataclass(repr=False)
class Run(Results):
    """A finished (or stopped) run.

    Attributes:
        plan: what ran.
        state: the server's state at the end: model, optimiser, what the algorithm keeps.
        records: a record for each round, as in the run folder's metrics.jsonl.
        header: what run.json holds: seed, versions, machine, status, what was assumed.
        participation: how often each client reported, `[clients]`.
        examples: the number of examples of each client, `[clients]`.
        tested: the last evaluation on the test population, if there is one.
        folder: the run folder, if there is one.
        facts: what a checkpoint stores beside the arrays.
        ledger: the entries of a private run's ledger.
        canary_scores: how far each canary of an audit stands out, float32 `[n]`; empty without an audit.
        tests: the last evaluations on test populations with names, by name; empty without.
        store: where models are that were kept.
        init: the parameters that the run was given to start from; None where it started from the plan's own.
    """

    plan: Plan
    state: ServerState
    records: list[RoundRecord]
    header: dict[str, Any]
    population: dict[str, Any]
    participation: np.ndarray
    examples: np.ndarray
    tested: Evaluation | None = None
    folder: Path | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    ledger: tuple[Entry, ...] = field(default=(), repr=False)
    canary_scores: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    tests: dict[str, Evaluation] = field(default_factory=dict)
    store: Store = field(default_factory=Nowhere, repr=False)
    init: Tree | None = field(default=None, repr=False)

    @property
    def task_name(self) -> str:
        """The name of the plan's task."""
        return self.plan.task.name

    @property
    def higher_is_better(self) -> dict[str, bool]:
        """For ``"loss"`` and each metric, whether a larger value is the better one."""
        return self.plan.task.higher_is_better

    @property
    def last_test(self) -> Means | None:
        """Means of the last evaluation on the test population, if there is one."""
        return self.tested.means if self.tested is not None else None

    def at(self, round: int) -> TrainedModel:
        """The model after a round: the last one, or one that was kept (`simulate(keep=)`).

        Raises:
            RunError: it was not kept; the error says which were.
        """
        if round == self.rounds:
            return self.model()
        if round not in self.store.models():
            raise RunError(
                f"model after round {round}",
                given="one that was not kept",
                expected=f"one of the rounds {', '.join(map(str, self.kept()))}",
                do='Run with keep="all", keep="best" or a number.',
            )
        return self._model(round, self.plan.layout.treedef.unflatten(leaves_of(self.store.model(round))))

    def kept(self) -> list[int]:
        """The rounds whose models are here, ascending."""
        return sorted({*self.store.models(), self.rounds})

    def model(self) -> TrainedModel:
        """The last model."""
        return self._model(self.rounds, self.state.params)

    def _model(self, round: int, params: Tree) -> TrainedModel:
        plan, task = self.plan, self.plan.task
        column = self.header["code"]["columns"][task.inputs]
        inputs = Inputs(task.inputs, tuple(column["shape"]), np.dtype(column["dtype"]))
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
        names = joined(names_of(plan.params_shape))

        def forward() -> Program:
            return kept(task, forward_of, lambda: Program(forward_of(plan), jax.local_devices()[:1]))

        return TrainedModel(
            round,
            params,
            leaves,
            names,
            inputs,
            lambda: forward_of(plan),
            forward,
            task.model.native,
            task.model.into,
            task.model.whole or (lambda params: params),
        )

    @property
    def params(self) -> Tree:
        """The trained parameters."""
        return self.state.params

    def evaluate(self, population: Population) -> Evaluation:
        """Judge the trained model on a population: over all its examples, and client by client."""
        return Evaluator(self.plan.task, population, hardware(self.plan.layout.size))(self.params)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write a run folder for a run that has none. It can be reported on and resumed like any other.

        What was in memory only is gone: a run whose clients keep states cannot be resumed from it, nor a private one that stopped before
        its last round, or whose noise is correlated. The ledger says what a private run has spent.

        Raises:
            RunError: `folder` exists already; or the run is private and has a folder: two could be resumed, and spend one budget twice.
            StorageError: the folder cannot be written.
        """
        if self.folder is not None and self.plan.protection is not None:
            raise RunError(
                "run.save()",
                given=f"a private run that is kept in {self.folder}",
                expected="one that has no folder: each could be resumed, and the budget would be spent twice",
                do="Copy the folder, as a backup.",
            )
        opened = RunFolder.create(folder, private=self.plan.protection is not None)
        if self.ledger:
            write_ledger(opened.path / LEDGER, self.ledger)
        write_head(opened, self.header, self.plan, self.population)
        opened.append_records(self.records)
        opened.checkpoint(self.rounds, checkpoint_arrays(self.state, self.participation), self.facts)
        opened.write_arrays(CLIENTS, self.client_arrays())
        for round in self.store.kept_models():
            opened.keep_model(round, self.store.model(round))
        if self.init is not None:
            opened.write_arrays(INIT, model_arrays(self.init))
        self.folder, self.store = opened.path, opened
        return opened.path

    def client_arrays(self) -> dict[str, np.ndarray]:
        """Arrays with a value per client: participation, number of examples, and each metric on the test population."""
        arrays = {"participation": self.participation, "examples": np.asarray(self.examples, np.int32)}
        return arrays | (self.tested.by_client() if self.tested is not None else {})
