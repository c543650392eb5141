"""One work in pfl-research; run by its own environment.

Two threads in one process:  `python run_pfl.py --work lr --threads 2`
Two processes of one thread: `torchrun --nproc-per-node 2 run_pfl.py --work lr --threads 1`

What makes pfl fast and is used here: tensors made once and kept, one compact dataset a user, no local evaluation
(its first round evaluates and is warm-up), model states held in place by its own cache. Its datasets are not
shuffled; the function that makes a user's dataset does it, which pfl calls each time a user is sampled.

Tried on `lr`, one thread, by CPU time: PyTorch's `foreach` and `fused` SGD within a tenth of the default, which stays.
`--compile` and `--channels-last` are there to be tried on the CNNs.
"""

import argparse
import functools
import json
import os
import sys
import time
from importlib.metadata import version

import numpy as np
import torch

arguments = argparse.ArgumentParser()
arguments.add_argument("--work", required=True)
arguments.add_argument("--rounds", type=int, default=10)
arguments.add_argument("--warmup", type=int, default=2)
arguments.add_argument("--threads", type=int, default=2)
arguments.add_argument("--optimizer", choices=["default", "fused", "foreach"], default="default")
arguments.add_argument("--compile", action="store_true")
arguments.add_argument("--channels-last", action="store_true")
options = arguments.parse_args()
torch.set_num_threads(options.threads)

# pfl joins torch.distributed while it is imported.
from pfl.aggregate.simulate import SimulatedBackend  # noqa: E402
from pfl.aggregate.weighting import WeightByDatapoints  # noqa: E402
from pfl.algorithm.base import NNAlgorithmParams  # noqa: E402
from pfl.algorithm.federated_averaging import FederatedAveraging  # noqa: E402
from pfl.callback.base import TrainingProcessCallback  # noqa: E402
from pfl.data.federated_dataset import FederatedDataset  # noqa: E402
from pfl.data.pytorch import PyTorchTensorDataset  # noqa: E402
from pfl.data.sampling import get_user_sampler  # noqa: E402
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams  # noqa: E402
from pfl.metrics import Metrics, Weighted  # noqa: E402
from pfl.model.pytorch import PyTorchModel  # noqa: E402
from torch_models import loss_of, model, tensors  # noqa: E402
from work import LEARNING_RATE, SERVER_LEARNING_RATE, WORKS, data, judged, line  # noqa: E402


class Network(torch.nn.Module):
    """A model with the two methods pfl asks for."""

    def __init__(self, layers: torch.nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.layers(x)

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy, dropout on."""
        return torch.nn.functional.cross_entropy(self.layers(x), y)

    def metrics(self, x: torch.Tensor, y: torch.Tensor) -> dict:
        """pfl wants one; it is asked for in the first round only."""
        return {"loss": Weighted(0.0, len(x))}


class Clock(TrainingProcessCallback):
    """The time at which each round ends."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        """Note the time; never stop."""
        self.times.append(time.perf_counter())
        return False, Metrics()


def main() -> None:
    """Run and print."""
    work = WORKS[options.work]
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    np.random.seed(0)  # the same on every worker: pfl draws its cohorts from it
    torch.manual_seed(rank)
    x, y = tensors(work, *data(work))
    x_judged, y_judged = tensors(work, *judged(work))
    torch.manual_seed(0)
    network = Network(model(work))
    if options.channels_last:
        network, x = network.to(memory_format=torch.channels_last), x
    torch.manual_seed(rank)

    def user(number: int) -> PyTorchTensorDataset:
        order = torch.randperm(work.examples)
        images = x[number][order]
        if options.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return PyTorchTensorDataset((images, y[number][order]))

    users = FederatedDataset(user, get_user_sampler("random", list(range(work.clients))))
    create = {
        "default": torch.optim.SGD,
        "fused": functools.partial(torch.optim.SGD, fused=True),
        "foreach": functools.partial(torch.optim.SGD, foreach=True),
    }[options.optimizer]
    learner = PyTorchModel(
        network,
        local_optimizer_create=create,
        central_optimizer=torch.optim.SGD(network.parameters(), SERVER_LEARNING_RATE),
        use_torch_compile=options.compile,
    )
    backend = SimulatedBackend(training_data=users, val_data=users, postprocessors=[WeightByDatapoints()])
    clock = Clock()
    first = loss_of(network, x_judged, y_judged)
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=options.rounds + options.warmup,
            evaluation_frequency=10**9,
            train_cohort_size=work.cohort,
            val_cohort_size=0,
        ),
        backend,
        learner,
        NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=LEARNING_RATE, local_batch_size=work.batch
        ),
        NNEvalHyperParams(local_batch_size=work.examples),
        callbacks=[clock],
        send_metrics_to_platform=False,
    )
    last = loss_of(network, x_judged, y_judged)
    if rank == 0:
        seconds = np.diff(clock.times)[options.warmup - 1 :].tolist()
        settings = (
            f"optimizer={options.optimizer} compile={options.compile} channels_last={options.channels_last}"
        )
        print(
            json.dumps(
                line(
                    work,
                    "pfl",
                    version("pfl"),
                    options.threads,
                    processes,
                    options.warmup,
                    seconds,
                    (first, last),
                    settings,
                )
            )
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
