"""Small models for federated learning, in Equinox: one a file, plain layers, fast inside a compiled round.

Each function gives a `Model`; each class is the module behind it, for those who want to build on it. Modules
take a batch and one key (`batched = True`). They hold no arrays but parameters, so trained parameters *are*
the trained module: `run.params(x)` works.
"""

from fairyring.core.errors import MissingExtra

try:
    import equinox as _equinox  # noqa: F401
except ImportError as error:
    raise MissingExtra("equinox", extra="equinox", purpose="the zoo's models") from error

from fairyring.task.zoo.cnn import CNN, c1, c2, cnn
from fairyring.task.zoo.logistic_regression import LogisticRegression, logistic_regression
from fairyring.task.zoo.lstm import LSTMLanguageModel, c3, c4, lstm
from fairyring.task.zoo.mobilenet import MobileNet, mobilenet
from fairyring.task.zoo.transformer import Transformer, transformer
from fairyring.task.zoo.two_nn import TwoNN, two_nn

__all__ = [
    "CNN",
    "LSTMLanguageModel",
    "LogisticRegression",
    "MobileNet",
    "Transformer",
    "TwoNN",
    "c1",
    "c2",
    "c3",
    "c4",
    "cnn",
    "logistic_regression",
    "lstm",
    "mobilenet",
    "transformer",
    "two_nn",
]
