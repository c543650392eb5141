"""States as named arrays, and files of named arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from fairyring.core.errors import RunDamaged, RunError, RunMismatch
from fairyring.core.reading import NotJson, read_json


def flatten_state(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a state as named arrays, in a fixed order."""
    import jax

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {f"{i:04d}{jax.tree_util.keystr(path)}": np.asarray(leaf) for i, (path, leaf) in enumerate(leaves)}


def restore_state(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of `flatten_state`: a state with the structure of `tree`.

    Raises:
        RunMismatch: the arrays belong to a state with other names, shapes or types.
    """
    import jax

    expected = {name: (leaf.shape, leaf.dtype) for name, leaf in flatten_state(tree).items()}
    given = {name: (leaf.shape, leaf.dtype) for name, leaf in arrays.items()}
    if expected != given:
        odd = sorted(set(expected.items()) ^ set(given.items()), key=str)[0]
        raise RunMismatch(
            "checkpoint",
            given=f"state {odd}",
            expected="the state of this plan",
            do="Resume with the plan of this run.",
        )
    return jax.tree_util.tree_unflatten(
        jax.tree_util.tree_structure(tree), [arrays[name] for name in expected]
    )


def tensors(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> bytes:
    """The bytes of a safetensors file with named arrays, and JSON values as metadata."""
    metadata = {"fairyring": msgspec.json.encode(facts).decode()}
    return safetensors.numpy.save(
        {k: np.ascontiguousarray(v).reshape(np.shape(v)) for k, v in arrays.items()}, metadata
    )


def read_tensors(path: Path, *, expected: str, do: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The JSON values and the arrays of a file that `tensors` encoded.

    Args:
        path: of the file.
        expected: what the file should be, for the error.
        do: what the user can do, for the error.

    Raises:
        RunError: the file does not exist.
        RunDamaged: it is truncated, or another kind of file.
    """
    if not path.is_file():
        raise RunError(str(path), given="no such file", expected=expected, do="Check the path.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            facts = read_json((file.metadata() or {})["fairyring"], dict[str, Any])
            return facts, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError, KeyError, NotJson) as error:
        raise RunDamaged(
            str(path), given=f"{type(error).__name__}: {error}", expected=expected, do=do
        ) from error
