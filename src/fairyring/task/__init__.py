"""What is learned: models as people bring them, losses and metrics, a small zoo (`fairyring.task.zoo`)."""

from fairyring.task.adapters import as_model, from_equinox, from_functions, from_nnx
from fairyring.task.classification import classification
from fairyring.task.validate import RowsChecked
from fairyring.task.metric import Metric, clamp
from fairyring.task.model import Model
from fairyring.task.multi_label import multi_label
from fairyring.task.next_token import next_token
from fairyring.task.regression import regression
from fairyring.task.task import Task

__all__ = [
    "Examined",
    "Metric",
    "Model",
    "Task",
    "as_model",
    "clamp",
    "classification",
    "from_equinox",
    "from_functions",
    "from_nnx",
    "multi_label",
    "next_token",
    "regression",
]
