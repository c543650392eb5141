"""The layers of the zoo's models, written with plain array operations. All take a batch."""

from fairyring.task.zoo.layers.attention import Attention
from fairyring.task.zoo.layers.convolution import Convolution, Depthwise, max_pool
from fairyring.task.zoo.layers.dense import Dense
from fairyring.task.zoo.layers.dropout import dropout
from fairyring.task.zoo.layers.normalisation import GroupNorm, LayerNorm
from fairyring.task.zoo.layers.recurrent import LSTM

__all__ = [
    "LSTM",
    "Attention",
    "Convolution",
    "Dense",
    "Depthwise",
    "GroupNorm",
    "LayerNorm",
    "dropout",
    "max_pool",
]
