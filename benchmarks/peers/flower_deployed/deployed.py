"""Federated averaging of C2 for Flower's deployment engine: what its SuperLink and its SuperNodes run."""

import os
import time
from dataclasses import replace
from functools import lru_cache

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from torch_models import model, tensors
from work import LEARNING_RATE, WORKS, data

DEVICES = int(os.environ["PEERS_DEVICES"])
work = replace(WORKS["c2"], clients=DEVICES, examples=100, cohort=DEVICES)
app = ClientApp()
server = ServerApp()


@lru_cache(maxsize=1)
def kept() -> tuple[torch.nn.Sequential, torch.Tensor, torch.Tensor]:
    """The model and the tensors."""
    torch.set_num_threads(1)
    x, y = tensors(work, *data(work))
    return model(work), x, y


@app.train()
def train(message: Message, context: Context) -> Message:
    """One local epoch of plain SGD."""
    network, x, y = kept()
    network.load_state_dict(message.content["arrays"].to_torch_state_dict())
    network.train()
    client = int(context.node_config["partition-id"])
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE)
    for rows in torch.randperm(work.examples).split(work.batch):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x[client][rows]), y[client][rows]).backward()
        optimizer.step()
    metrics = MetricRecord({"num-examples": work.examples})
    return Message(
        content=RecordDict({"arrays": ArrayRecord(network.state_dict()), "metrics": metrics}),
        reply_to=message,
    )


class Clocked(FedAvg):
    """Federated averaging that writes down when each round ends."""

    def aggregate_train(self, server_round, replies):
        """As Flower does it."""
        result = super().aggregate_train(server_round, replies)
        with open(os.environ["PEERS_TIMES"], "a") as file:
            file.write(f"{time.time()}\n")
        return result


@server.main()
def main(grid: Grid, context: Context) -> None:
    """All rounds."""
    torch.manual_seed(0)
    strategy = Clocked(
        fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=DEVICES, min_available_nodes=DEVICES
    )
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(model(work).state_dict()),
        num_rounds=int(os.environ["PEERS_ROUNDS"]),
    )
