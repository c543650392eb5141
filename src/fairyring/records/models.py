"""The parameters in a file of a run: of a kept model, or of the whole state that a checkpoint has."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fairyring.core.tensors import flatten_state

_PARAMETER = re.compile(r"(?:params/|server/)(\d{4,})(?:\.params)?(.*)", re.DOTALL)


def model_arrays(params: Any) -> dict[str, np.ndarray]:
    """Parameters as the named arrays of a kept model."""
    return {f"params/{name}": leaf for name, leaf in flatten_state(params).items()}


def leaves_of(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The parameters in the named arrays of a kept model or of a checkpoint, in the order of the flat vector."""
    leaves: dict[int, np.ndarray] = {}
    for name, array in arrays.items():
        found = _PARAMETER.fullmatch(name)
        if found and (name.startswith("params/") or f"/{found[1]}.params" in name):
            leaves[int(found[1])] = array
    return [leaves[place] for place in sorted(leaves)]
