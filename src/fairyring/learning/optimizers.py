"""Server optimisers with a name in the literature, as optax optimisers.

The server treats minus the mean delta as a gradient (Reddi et al. 2021, Algorithm 1). Any other optax optimiser can
be used instead.
"""

import optax

Optimizer = optax.GradientTransformation


def fedavg(learning_rate: optax.ScalarOrSchedule = 1.0) -> Optimizer:
    """FedAvg (McMahan et al. 2017): the new model is the old one plus the mean delta."""
    return optax.sgd(learning_rate)


def fedavgm(learning_rate: optax.ScalarOrSchedule = 1.0, momentum: float = 0.9) -> Optimizer:
    """FedAvgM (Hsu et al. 2019): server updates with heavy-ball momentum."""
    return optax.sgd(learning_rate, momentum=momentum)


def fedadam(
    learning_rate: optax.ScalarOrSchedule = 1e-2, b1: float = 0.9, b2: float = 0.99, tau: float = 1e-3
) -> Optimizer:
    """FedAdam (Reddi et al. 2021). optax's Adam corrects the bias of its first steps; the paper's does not."""
    return optax.adam(learning_rate, b1=b1, b2=b2, eps=tau)


def fedyogi(
    learning_rate: optax.ScalarOrSchedule = 1e-2, b1: float = 0.9, b2: float = 0.99, tau: float = 1e-3
) -> Optimizer:
    """FedYogi (Reddi et al. 2021). optax's Yogi corrects the bias of its first steps; the paper's does not."""
    return optax.yogi(learning_rate, b1=b1, b2=b2, eps=tau)


def fedadagrad(learning_rate: optax.ScalarOrSchedule = 1e-1, tau: float = 1e-3) -> Optimizer:
    """FedAdagrad (Reddi et al. 2021). The accumulator starts at `tau**2`."""
    return optax.adagrad(learning_rate, initial_accumulator_value=tau**2, eps=tau)
