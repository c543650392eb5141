"""What a simulation returns."""

import os
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from fairyring.core.errors import ModelError, RunError
from fairyring.evaluation import Evaluation, Evaluator
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState
from fairyring.lowering import hardware
from fairyring.population import Population
from fairyring.privacy.ledger import Entry, write_ledger
from fairyring.records.folder import RunFolder
from fairyring.records.layout import CLIENTS, LEDGER
from fairyring.records.round_record import RoundRecord, table
from fairyring.rounds.recorder import checkpoint_arrays, write_head


@dataclass(repr=False)
class Run:
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

    def __repr__(self) -> str:
        parts = [f"{self.rounds} round{'s' * (self.rounds != 1)} of {self.plan.task.name}"]
        if self.tested is not None:
            parts.append(f"{self.tested.means} on test clients")
        elif self.records:
            parts.append(f"{self.records[-1].training} in training")
        spent = (self.header.get("privacy") or {}).get("spent")
        parts += [f"epsilon {spent:.3g}"] if spent is not None else []
        parts += [f"in {self.folder}"] if self.folder is not None else []
        return f"<Run: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        """For notebooks: the means of training and test at the end, as a table."""
        rows = {"training": self.records[-1].training} if self.records else {}
        rows |= {"test": self.tested.means} if self.tested is not None else {}
        names = self.plan.task.evaluated
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            f"<tr><th>{what}</th>"
            + "".join(f"<td>{_shown({'loss': means.loss, **means.metrics}.get(name))}</td>" for name in names)
            + "</tr>"
            for what, means in rows.items()
        )
        return f"<p>{escape(repr(self)[1:-1])}</p><table><tr><th></th>{head}</tr>{body}</table>"

    @property
    def params(self) -> Any:
        """The trained parameters."""
        return self.state.params

    def state_dict(self) -> Any:
        """The trained model as PyTorch's state dict: name -> tensor, with buffers and frozen parameters as they were.

        Raises:
            ModelError: the model is not a PyTorch module.
        """
        native = self.plan.task.model.native
        if native is None:
            raise ModelError(
                "run.state_dict()",
                given="a model that is not a PyTorch module",
                expected="a plan whose model is a torch.nn.Module",
                do=(
                    "Take run.params: eqx.combine(run.params, module) is a trained Equinox module, and "
                    "nnx.update(module, run.params) trains a Flax NNX module."
                ),
            )
        return native(self.params)

    def into(self, module: Any) -> Any:
        """Load the trained model into a PyTorch module of the same architecture, in place, and return it.

        Raises:
            ModelError: the plan's model is not a PyTorch module, or `module` has other parameters.
        """
        state = self.state_dict()
        try:
            module.load_state_dict(state)
        except (AttributeError, RuntimeError) as error:
            raise ModelError(
                "run.into(module)",
                given=f"{type(module).__name__}: {' '.join(str(error).split())}",
                expected="a torch.nn.Module with the parameters of the one that was trained",
                do="Make it with the same arguments, or load parts of run.state_dict() yourself.",
            ) from error
        return module

    @property
    def rounds(self) -> int:
        """How many rounds were run."""
        return len(self.records)

    def table(self) -> dict[str, np.ndarray]:
        """The records as columns, an array `[rounds]` each, for plots and data frames: `pandas.DataFrame(run.table())`.

        `loss` and `metrics.accuracy` are of training, `test.loss` and `test.metrics.accuracy` of evaluations, and so on: fields
        of fields and metrics are named with dots. What was not recorded of a round is NaN, False or an empty string.
        """
        return table(self.records)

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
        kept = RunFolder.create(folder, private=self.plan.protection is not None)
        if self.ledger:
            write_ledger(kept.path / LEDGER, self.ledger)
        write_head(kept, self.header, self.plan, self.population)
        kept.append_records(self.records)
        kept.checkpoint(self.rounds, checkpoint_arrays(self.state, self.participation), self.facts)
        kept.write_arrays(CLIENTS, self.client_arrays())
        self.folder = kept.path
        return kept.path

    def client_arrays(self) -> dict[str, np.ndarray]:
        """Arrays with a value per client: participation, number of examples, and each metric on the test population."""
        arrays = {"participation": self.participation, "examples": np.asarray(self.examples, np.int32)}
        return arrays | (self.tested.by_client() if self.tested is not None else {})


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
