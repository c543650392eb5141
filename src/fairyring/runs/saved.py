"""A run that is loaded from its folder: what it recorded, its models, and their predictions, without its plan or its population."""

import os
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from fairyring.core.checks import whole_number
from fairyring.core.errors import MissingExtra, ModelError, RunDamaged, RunError, RunMismatch
from fairyring.core.program import Program
from fairyring.core.reading import NotJson
from fairyring.core.tensors import read_tensors
from fairyring.core.tree_names import joined
from fairyring.evaluation import Evaluation, Evaluator
from fairyring.learning.forward import StoredModel
from fairyring.learning.plan import Plan
from fairyring.lowering import hardware
from fairyring.population import Population
from fairyring.records.folder import RunFolder
from fairyring.records.form import check_form
from fairyring.records.layout import CLIENTS, MODEL, PLAN, POPULATION, RUN
from fairyring.records.models import leaves_of
from fairyring.runs.model import Forward, Inputs, TrainedModel
from fairyring.runs.results import Results

Tree = Any


def load_run(folder: str | os.PathLike[str], plan: Plan | None = None) -> "SavedRun":
    """Load a run from its folder. It may have ended, stopped or failed, or be running.

    Args:
        folder: the run folder.
        plan: the plan that ran. It is needed to evaluate on another population, and to have the parameters in the form of the model's framework.
            All the rest is in the folder.

    Raises:
        RunError, RunDamaged: it is not the folder of a run, or a file in it is damaged.
        RunMismatch: `plan` is not the plan of this run.
    """
    if not isinstance(folder, str | os.PathLike) or not isinstance(plan, Plan | None):
        what, given, expected = ("folder", folder, "the path of a run folder")
        if isinstance(folder, str | os.PathLike):
            what, given, expected = "plan", plan, "the fr.Plan that ran, or nothing"
        raise RunError(
            f"load_run, {what}", given=repr(given)[:80], expected=expected, do=f"Give {what}= that."
        )
    return SavedRun(RunFolder.open(folder), plan)


class SavedRun(Results):
    """A run that was loaded from its folder.

    Attributes:
        records: a record for each round.
        header: what run.json holds: seed, versions, machine, status, what was assumed.
        folder: the run folder.
        plan: the plan, if it was given; `plan_document` is always there.
        plan_document: the plan as plain values.
        population: the population in numbers.
    """

    def __init__(self, folder: RunFolder, plan: Plan | None) -> None:
        self._folder, self.plan = folder, plan
        self.folder = folder.path
        self.header = folder.read(RUN)
        check_form(self.header, str(folder.path))
        self.plan_document, self.population = folder.read(PLAN), folder.read(POPULATION)
        self.records = folder.records()
        if plan is not None:
            self._check(plan)

    @property
    def task_name(self) -> str:
        """The name of the plan's task."""
        return str((self.plan_document.get("task") or {}).get("name", "?"))

    @property
    def higher_is_better(self) -> dict[str, bool]:
        """For ``"loss"`` and each metric, whether a larger value is the better one."""
        return dict(self.plan_document.get("higher_is_better") or {})

    def at(self, round: int) -> TrainedModel:
        """The model after a round: the last one, or one that was kept (`simulate(keep=)`).

        Raises:
            RunError: it was not kept; the error says which were.
        """
        round = whole_number("round", round, least=0, error=RunError)
        leaves = leaves_of(self._folder.model(round))
        try:
            stored, plan = self._stored, self.plan
        except RunDamaged:  # which is said when it is needed
            stored, plan = None, self.plan
        names = stored.parameters if stored is not None else [[str(i)] for i in range(len(leaves))]
        native = into = whole = None
        if plan is not None:
            model, params = plan.task.model, plan.layout.treedef.unflatten(leaves)
            native, into, whole = model.native, model.into, model.whole or (lambda params: params)
        else:
            params = stored.nested(leaves) if stored is not None else dict(enumerate(leaves))
            native = partial(_state_dict, stored) if stored is not None and stored.torch else None
        named = joined(names)
        return TrainedModel(
            round,
            params,
            leaves,
            named,
            self._inputs(stored),
            lambda: self._function,
            lambda: self._program,
            native,
            into,
            whole,
        )

    def model(self) -> TrainedModel:
        """The last model.

        Raises:
            RunError: the run stopped before its first checkpoint.
        """
        rounds = self._folder.models()
        if not rounds:
            raise RunError(
                f"run folder {self.folder}",
                given="a run without a checkpoint",
                expected="one that came to its first",
                do="Resume it.",
            )
        return self.at(rounds[-1])

    def kept(self) -> list[int]:
        """The rounds whose models are here, ascending."""
        return self._folder.models()

    def evaluate(self, population: Population) -> Evaluation:
        """Judge the last model on a population: over all its examples, and client by client.

        Raises:
            RunError: the run was loaded without its plan, which has the loss and the metrics.
        """
        if self.plan is None:
            raise RunError(
                "evaluate",
                given="a run that was loaded without its plan",
                expected="the plan, which has the loss and the metrics",
                do="Load it with fr.load_run(folder, plan=plan).",
            )
        return Evaluator(self.plan.task, population, hardware(self.plan.layout.size))(self.params)

    def client_arrays(self) -> dict[str, np.ndarray]:
        """Arrays with a value per client, if the run has ended: participation, number of examples, metrics on the test population."""
        expected, do = "the arrays of a run that has ended", "Resume the run."
        return read_tensors(self._folder.path / CLIENTS, expected=expected, do=do)[1]

    @cached_property
    def _stored(self) -> StoredModel | None:
        """The forward pass, if the folder has it: those of earlier versions do not."""
        path = self._folder.path / MODEL
        if not path.is_file():
            return None
        try:
            return StoredModel.decode(path.read_bytes())
        except (OSError, NotJson) as error:
            raise RunDamaged(
                str(path),
                given=f"{error}",
                expected="the forward pass of a model",
                do="Restore it from a copy.",
            ) from error

    def _inputs(self, stored: StoredModel | None) -> Inputs:
        if stored is not None:
            return Inputs(stored.column, tuple(stored.shape), np.dtype(stored.dtype), stored.rows)
        return Inputs("x", (), np.dtype(np.float32))

    @cached_property
    def _program(self) -> Program:
        return Program(self._function, jax.local_devices()[:1])

    @cached_property
    def _function(self) -> Forward:
        stored = self._stored
        why_not = "a folder of a version that did not keep it" if stored is None else stored.why_not
        if stored is not None and stored.program is not None:
            try:
                return stored.function()
            except ValueError as error:
                why_not = f"one that this version of JAX does not read: {error}"
        raise ModelError(
            "the model's forward pass",
            given=why_not or "none",
            expected="a program that was exported when the run began",
            do="Apply the model yourself, as plan.task.forward(run.params, {column: x}, None).",
        )

    def _check(self, plan: Plan) -> None:
        """Raise `RunMismatch` unless it is the plan of the run: its document and its code, with the numbers that code closes over."""
        code, prints = self.header["code"], self.header["fingerprints"]
        columns = {name: (tuple(one["shape"]), one["dtype"]) for name, one in code["columns"].items()}
        if plan.digest(columns) == prints["plan"]:
            return
        own = plan.describe()
        differing = [name for name in own if own[name] != self.plan_document.get(name)]
        programs = plan.code(columns)["programs"]
        differing += [name for name, made in programs.items() if code["programs"].get(name) != made]
        raise RunMismatch(
            f"run folder {self.folder}",
            given=f"a plan with another {', '.join(differing) or 'digest'}",
            expected="the plan of this run",
            do="Give the plan that ran, or leave plan= out. Another version of JAX alone can change a program.",
        )


def _state_dict(stored: StoredModel, params: Tree) -> dict[str, Any]:
    """PyTorch's state dict: parameters, constants and buffers."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", extra="torch", purpose="a PyTorch state dict") from error
    state = {name: torch.from_numpy(np.array(array)) for name, array in params.items()}
    for name, one in (stored.constants or {}).items():
        flat = torch.frombuffer(bytearray(one.content), dtype=torch.uint8)
        state[name] = flat.view(getattr(torch, one.dtype)).reshape(one.shape)
    return state | {name: state[first] for name, first in (stored.shared or {}).items()}
