"""Models from several frameworks, each adapted to `fairyring.task.model.Model`. One file per framework."""

from fairyring.task.adapters.any_model import as_model
from fairyring.task.adapters.equinox_module import from_equinox
from fairyring.task.adapters.functions import from_functions
from fairyring.task.adapters.keras_model import from_keras, into_keras, is_keras
from fairyring.task.adapters.nnx_module import from_nnx
from fairyring.task.adapters.torch_module import from_torch

__all__ = [
    "as_model",
    "from_equinox",
    "from_functions",
    "from_keras",
    "from_nnx",
    "from_torch",
    "into_keras",
    "is_keras",
]
