"""Small models for federated learning, written in Equinox with plain layers. They are fast inside a compiled round.

Each function returns a `Model`. Each class is the module behind it, which you can extend. Modules take a batch and
one key (`batched = True`). Parameters are their only arrays, so trained parameters *are* the trained module:
`run.params(x)` works.
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
