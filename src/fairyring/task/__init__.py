"""What is learned: models from several frameworks, losses, metrics, and a small model zoo (`fairyring.task.zoo`)."""

from fairyring.task.adapters import (
    as_model,
    from_equinox,
    from_functions,
    from_keras,
    from_nnx,
    from_torch,
    into_keras,
    is_keras,
)
from fairyring.task.classification import classification
from fairyring.task.from_sklearn import from_sklearn
from fairyring.task.metric import Batch, Metric, clamp, weight_of
from fairyring.task.model import Model
from fairyring.task.multi_label import multi_label
from fairyring.task.next_token import next_token
from fairyring.task.partly import Where, lora, train_only
from fairyring.task.pooled import PooledMetric, Sparse, finished, statistics_of
from fairyring.task.regression import regression
from fairyring.task.task import Task
from fairyring.task.validation import Column, DataCheck, RowsChecked

__all__ = [
    "Batch",
    "Column",
    "DataCheck",
    "Metric",
    "Model",
    "PooledMetric",
    "RowsChecked",
    "Sparse",
    "Task",
    "Where",
    "as_model",
    "clamp",
    "classification",
    "finished",
    "from_equinox",
    "from_functions",
    "from_keras",
    "from_nnx",
    "from_sklearn",
    "from_torch",
    "into_keras",
    "is_keras",
    "lora",
    "multi_label",
    "next_token",
    "regression",
    "statistics_of",
    "train_only",
    "weight_of",
]
