"""The table: PyTorch's operators, each by a function of JAX arrays. One file for each kind."""

from fairyring.task.pytorch.operators import (
    activations,
    arithmetic,
    attention,
    convolutions,
    creation,
    drawing,
    indexing,
    normalisation,
    pools,
    recurrent,
    reductions,
    resampling,
    shapes,
)
from fairyring.task.pytorch.operators.values import Handler, Missing, Untranslatable

_KINDS = (
    activations,
    arithmetic,
    attention,
    convolutions,
    creation,
    drawing,
    indexing,
    normalisation,
    pools,
    recurrent,
    reductions,
    resampling,
    shapes,
)

OPERATORS: dict[str, Handler] = {name: handler for kind in _KINDS for name, handler in kind.OPERATORS.items()}
"""Handlers by the full name of the operator, as in "aten.conv2d.default"."""

__all__ = ["OPERATORS", "Handler", "Missing", "Untranslatable"]
