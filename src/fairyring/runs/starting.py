"""The model that a run starts from, where that is not the plan's own."""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from fairyring.core.errors import ModelError, RunDamaged
from fairyring.core.tensors import read_tensors
from fairyring.core.tree_names import joined, names_of
from fairyring.learning.plan import Plan
from fairyring.records.layout import INIT, RUN
from fairyring.records.models import leaves_of
from fairyring.runs.model import TrainedModel
from fairyring.runs.results import Results
from fairyring.runs.saved import load_run

Tree = Any

StartsFrom = Results | TrainedModel | str | os.PathLike[str] | Tree
"""A run or a model, the path of a run folder or of a safetensors file with arrays by name, or parameters as the plan's model has them."""


def starting_params(init: StartsFrom, plan: Plan) -> Tree:
    """Parameters of a plan's model, NumPy arrays, as `init` has them.

    Raises:
        ModelError: they are those of another model, or not finite.
        RunError, RunDamaged: a path is not that of a run or of a safetensors file.
    """
    if isinstance(init, str | os.PathLike):
        path = Path(init)
        init = _read(path) if path.is_file() else load_run(path)
    if isinstance(init, Results):
        init = init.model()
    paths = names_of(plan.params_shape)
    layout, names = plan.layout, joined(paths)
    if isinstance(init, TrainedModel):
        given = init.by_name()
    elif isinstance(init, dict) and set(init) == set(names) and names:
        given = init
    elif isinstance(init, dict) and (nested := _along(init, paths)) is not None:
        given = dict(zip(names, nested, strict=True))
    else:
        leaves, structure = jax.tree.flatten(init)
        if structure != layout.treedef:
            raise ModelError(
                "init",
                given=f"{type(init).__name__} with {len(leaves)} arrays in another structure",
                expected=f"parameters as the plan's model has them: {_listed(names)}",
                do="Give run.params, or arrays by these names. A plan with where= or fr.lora starts from a whole model like this: "
                "fr.classification(model_with_these_weights, where=...).",
            )
        given = dict(zip(names, leaves, strict=True))
    _compare(given, dict(zip(names, (slot.shape for slot in layout.slots), strict=True)))
    arrays = [np.asarray(given[name], slot.dtype) for name, slot in zip(names, layout.slots, strict=True)]
    for name, array in zip(names, arrays, strict=True):
        if not np.isfinite(array).all():
            raise ModelError(
                "init",
                given=f"parameter {name!r} with numbers that are not finite",
                expected="finite ones",
                do="Start from another model.",
            )
    return layout.treedef.unflatten(arrays)


def init_in(folder: Path | None, plan: Plan) -> Tree | None:
    """The model that the run in a folder was given to start from; None if it started from the plan's own."""
    if folder is None or not (folder / INIT).is_file():
        return None
    expected = "the model that the run started from"
    arrays = read_tensors(folder / INIT, expected=expected, do="Restore it from a copy.")[1]
    return plan.layout.treedef.unflatten(leaves_of(arrays))


def _along(tree: dict[str, Any], paths: list[list[str]]) -> list[Any] | None:
    """The arrays of nested dicts at these paths, as a run that was loaded has them; None if it has others."""
    leaves = []
    for path in paths:
        inner: Any = tree
        for name in path:
            if not isinstance(inner, dict) or name not in inner:
                return None
            inner = inner[name]
        leaves.append(inner)
    return leaves if len(leaves) == len(jax.tree.leaves(tree)) else None


def _compare(given: dict[str, Any], expected: dict[str, tuple[int, ...]]) -> None:
    """Raise `ModelError` unless the arrays that are given have these names and shapes."""
    for name in sorted({*given, *expected}):
        has, needs = given.get(name), expected.get(name)
        shape = None if has is None else np.shape(has)
        if has is None or needs is None or shape != tuple(needs):
            raise ModelError(
                "init",
                given=f"no parameter {name!r}" if has is None else f"parameter {name!r} of shape {shape}",
                expected=f"shape {tuple(needs)}"
                if needs is not None
                else f"the parameters {_listed(list(expected))}",
                do="Start from a model of the same architecture, of which the same parameters are trained. To train a part of a whole model, "
                "give the task that model: fr.classification(run.into(module), where=...), or (lambda key: run.params, apply).",
            )


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        return safetensors.numpy.load_file(path)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise RunDamaged(
            str(path),
            given=f"{error}",
            expected=f"a safetensors or .npz file, or a run folder, which has {RUN}",
            do="Check the path.",
        ) from error


def _listed(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
