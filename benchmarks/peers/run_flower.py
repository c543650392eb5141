"""One work in Flower's simulation on Ray; run by its own environment: `python run_flower.py --work lr`.

Two Ray actors of one core and one PyTorch thread each (`--threads 2` gives one actor with two threads: slower). What
makes Flower fast and is used here: actors keep model and tensors, no client is evaluated, telemetry, dashboard and
logs are off.
"""

import argparse
import json
import os
import time
from importlib.metadata import version

arguments = argparse.ArgumentParser()
arguments.add_argument("--work", required=True)
arguments.add_argument("--rounds", type=int, default=5)
arguments.add_argument("--warmup", type=int, default=2)
arguments.add_argument("--threads", type=int, default=1, help="of an actor")
arguments.add_argument("--cores", type=int, default=2)
options = arguments.parse_args()
os.environ.update(
    PEERS_WORK=options.work,
    PEERS_THREADS=str(options.threads),
    OMP_NUM_THREADS=str(options.threads),
    FLWR_TELEMETRY_ENABLED="0",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_DEDUP_LOGS="0",
    RAY_worker_niceness="0",  # as urgent as every other system here; Ray would take 15
)

import logging  # noqa: E402

import flower_app  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from flwr.app import ArrayRecord, Context  # noqa: E402
from flwr.serverapp import Grid, ServerApp  # noqa: E402
from flwr.serverapp.strategy import FedAvg  # noqa: E402
from flwr.simulation import run_simulation  # noqa: E402
from torch_models import loss_of, model, tensors  # noqa: E402
from work import WORKS, judged, line  # noqa: E402

work = WORKS[options.work]
server = ServerApp()
outcome: dict = {}


class Clocked(FedAvg):
    """Federated averaging that notes when each round ends."""

    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        self.times: list[float] = []

    def aggregate_train(self, server_round, replies):
        """As Flower does it."""
        result = super().aggregate_train(server_round, replies)
        self.times.append(time.perf_counter())
        return result


@server.main()
def main(grid: Grid, context: Context) -> None:
    """All rounds, and the loss before and after."""
    torch.manual_seed(0)
    network = model(work)
    x, y = tensors(work, *judged(work))
    first = loss_of(network, x, y)
    strategy = Clocked(
        fraction_train=work.cohort / work.clients,
        fraction_evaluate=0.0,
        min_train_nodes=work.cohort,
        min_available_nodes=work.clients,
    )
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(network.state_dict()),
        num_rounds=options.rounds + options.warmup,
    )
    network.load_state_dict(result.arrays.to_torch_state_dict())
    outcome.update(times=strategy.times, losses=(first, loss_of(network, x, y)))


if __name__ == "__main__":
    logging.getLogger("flwr").setLevel(logging.INFO if "PEERS_VERBOSE" in os.environ else logging.ERROR)
    actors = options.cores // options.threads
    run_simulation(
        server_app=server,
        client_app=flower_app.app,
        num_supernodes=work.clients,
        backend_config={
            "client_resources": {"num_cpus": options.threads, "num_gpus": 0.0},
            "init_args": {"num_cpus": options.cores, "include_dashboard": False, "log_to_driver": False},
        },
    )
    seconds = np.diff(outcome["times"])[options.warmup - 1 :].tolist()
    settings = f"{actors} Ray actors of {options.threads} core"
    print(
        json.dumps(
            line(
                work,
                "flower",
                version("flwr"),
                options.threads,
                actors,
                options.warmup,
                seconds,
                outcome["losses"],
                settings,
            )
        ),
        flush=True,
    )
