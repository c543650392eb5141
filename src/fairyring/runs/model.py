"""A trained model: parameters of a run after one of its rounds, and the forward pass that they belong to."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fairyring.core.errors import ModelError
from fairyring.core.program import Program
from fairyring.task import into_keras, is_keras

Tree = Any
Forward = Callable[[list[Any], Any], Tree]

ROWS = 256  # of inputs, computed at once
_BACK = (
    "Take run.params: eqx.combine(run.params, module) is a trained Equinox module, and nnx.update(module, run.params) trains a Flax NNX "
    "module. run.into(model) takes a Keras model or an estimator of scikit-learn, if the run's model was one. A run of fr.lora is loaded with "
    "its plan: fr.load_run(folder, plan)."
)


@dataclass(frozen=True)
class Inputs:
    """What a model reads.

    Attributes:
        column: its name in a population.
        shape: of a row.
        dtype: of the values that the forward pass takes.
        rows: the number of rows that it is for; None for any.
    """

    column: str
    shape: tuple[int, ...]
    dtype: np.dtype
    rows: int | None = None

    def batch(self, rows: int) -> np.ndarray:
        """Inputs of so many rows, all zeros.

        Raises:
            ModelError: the forward pass is for another number.
        """
        if self.rows is not None and rows != self.rows:
            raise ModelError(
                "export",
                given=f"rows={rows}",
                expected=f"rows={self.rows}: the model was written for one number of rows",
                do=f"Set rows={self.rows}, or write the model for any number, with x.shape[0].",
            )
        return np.zeros((rows, *self.shape), self.dtype)

    def of(self, x: Any) -> np.ndarray:
        """Inputs as the forward pass takes them, `[rows, ...]`.

        Raises:
            ModelError: they have another shape, or values that this type does not have.
        """
        x = np.asarray(x)
        if x.ndim != 1 + len(self.shape) or x.shape[1:] != self.shape:
            raise ModelError(
                "predict",
                given=f"inputs of shape {x.shape}",
                expected=f"(rows, {', '.join(map(str, self.shape))})" if self.shape else "(rows,)",
                do=f"Give rows like those of column {self.column!r} in the population; of a single one, x[None].",
            )
        kinds = {"f": "fiub", "i": "iub", "u": "iub", "b": "b"}.get(self.dtype.kind, self.dtype.kind)
        if x.dtype.kind not in kinds:
            raise ModelError(
                "predict",
                given=f"inputs of type {x.dtype}",
                expected=f"{self.dtype}, as in training: the task prepares them itself, such as bytes of pixels by dividing by 255",
                do="Give the inputs as they were in the population.",
            )
        if self.dtype.kind in "iu" and x.size:
            range_ = np.iinfo(self.dtype)
            if x.min() < range_.min or x.max() > range_.max:
                raise ModelError(
                    "predict",
                    given=f"inputs from {x.min()} to {x.max()}",
                    expected=f"{self.dtype}: {range_.min} to {range_.max}",
                    do="Give the inputs as they were in the population.",
                )
        with np.errstate(over="ignore"):
            taken = np.ascontiguousarray(x, self.dtype)
        if self.dtype.kind == "f" and np.isinf(taken).any() and not np.isinf(x).any():
            raise ModelError(
                "predict",
                given=f"inputs up to {np.abs(x).max():g}",
                expected=f"{self.dtype}: up to {np.finfo(self.dtype).max:g}",
                do="Give the inputs as they were in the population.",
            )
        return taken


class TrainedModel:
    """The model of a run after one of its rounds.

    Attributes:
        round: after which it is.
        params: its parameters: as its framework has them where the plan is there, else as nested dicts of arrays by name.
        names: the name of each parameter, in the order of the flat vector, with dots between its parts.
        inputs: what it reads.
        function: gives the forward pass, a function of JAX arrays: `(parameters in the order of names, inputs) -> outputs`.
    """

    def __init__(
        self,
        round: int,
        params: Tree,
        leaves: list[np.ndarray],
        names: list[str],
        inputs: Inputs,
        function: Callable[[], Forward],
        program: Callable[[], Program],
        native: Callable[[Tree], Any] | None,
        into: Callable[[Tree, Any, int], Any] | None = None,
        whole: Callable[[Tree], Tree] | None = None,
    ) -> None:
        self.round, self.params, self.names, self.inputs = round, params, names, inputs
        self.function, self._leaves, self._program = function, leaves, program
        self._native, self._into, self._whole = native, into, whole

    def __repr__(self) -> str:
        size = sum(leaf.size for leaf in self._leaves)
        return f"<TrainedModel: {size:,} parameters after round {self.round}, of {self.inputs.column!r} {self.inputs.dtype}{list(self.inputs.shape)}>"

    def predict(self, x: Any) -> Tree:
        """The model's outputs for inputs as the population has them, in evaluation mode: of a classifier the logits.

        Args:
            x: `[rows, ...]`, not prepared: the task's `prepare` is applied to it here, as in training.

        Returns:
            NumPy arrays `[rows, ...]`.

        Raises:
            ModelError: `x` does not have the shape or the type of the population's inputs; or the forward pass is not here.
        """
        program, pieces, structure = self._program(), [], jax.tree.structure(0)
        x = self.inputs.of(x)
        count = self.inputs.rows or min(ROWS, 1 << max(0, (max(1, len(x)) - 1).bit_length()))
        for start in range(0, max(1, len(x)), count):
            piece = x[start : start + count]
            # Rows are repeated to fill a batch, so that a model that looks at a batch as a whole sees inputs only.
            full = (
                piece[np.arange(count) % len(piece)]
                if len(piece)
                else np.zeros((count, *x.shape[1:]), x.dtype)
            )
            outputs = program(0, self._leaves, full)
            pieces.append([np.asarray(out)[: len(piece)] for out in jax.tree.leaves(outputs)])
            structure = jax.tree.structure(outputs)
        return structure.unflatten([np.concatenate(parts) for parts in zip(*pieces, strict=True)])

    def export(self, path: str | os.PathLike[str], *, to: str | None = None, rows: int = 1) -> Path:
        """Write the model as a file for other software; see `fairyring.runs.export_model`."""
        from fairyring.runs.exporting import export_model

        return export_model(self, path, to=to, rows=rows)

    @property
    def whole_params(self) -> Tree:
        """All parameters of the model, where only a part or a change of them was trained: `where=`, `fr.lora`. Otherwise `params`.

        Raises:
            ModelError: the run was loaded without its plan, which has the other part.
        """
        if self._whole is None:
            raise ModelError(
                "run.whole_params",
                given="a run that was loaded without its plan",
                expected="the plan, which has what was not trained",
                do="Load it with fr.load_run(folder, plan).",
            )
        return jax.tree.map(np.asarray, self._whole(self.params))

    def by_name(self) -> dict[str, np.ndarray]:
        """The parameters as arrays by name, such as `"dense.kernel"`."""
        return dict(zip(self.names, self._leaves, strict=True))

    def state_dict(self) -> Any:
        """The model as PyTorch's state dict, name -> tensor, with buffers and frozen parameters as they were.

        Raises:
            ModelError: the model is not a PyTorch module.
        """
        if self._native is None:
            raise ModelError(
                "run.state_dict()",
                given="a model that is not a PyTorch module",
                expected="a plan whose model is a torch.nn.Module",
                do=_BACK,
            )
        return self._native(self.params)

    def into(self, module: Any) -> Any:
        """Load the model into a PyTorch module, a Keras model or an estimator of scikit-learn, in place, and return it.

        Args:
            module: of the same architecture as the one that was trained, such as the one that the task was given. An estimator is
                fitted afterwards; its `n_iter_` is the number of rounds.

        Raises:
            ModelError: the plan's model is of none of these, or `module` has other parameters; or the run was loaded without its
                plan, which has more of the model than what was trained: the classes of an estimator, frozen weights of Keras.
        """
        if self._into is not None:
            return self._into(self.params, module, self.round)
        if is_keras(module):
            return into_keras(self.by_name(), module)
        if self._native is None:
            raise ModelError(
                "run.into(module)",
                given=f"{type(module).__name__}, and a model that is of neither PyTorch nor Keras, or whose plan is not here",
                expected="a model of PyTorch or Keras, or the plan that ran",
                do=f"Load the run with it: fr.load_run(folder, plan=plan).into(module). {_BACK}",
            )
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
