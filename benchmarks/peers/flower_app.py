"""Flower's client, in a module of its own so that Ray's actors import it once and keep what it caches."""

import os
from functools import lru_cache

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch_models import model, tensors
from work import LEARNING_RATE, WORKS, data

work = WORKS[os.environ["PEERS_WORK"]]
app = ClientApp()


@lru_cache(maxsize=1)
def kept() -> tuple[torch.nn.Sequential, torch.Tensor, torch.Tensor]:
    """The model and all clients' tensors, made once an actor."""
    torch.set_num_threads(int(os.environ["PEERS_THREADS"]))
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
    content = RecordDict(
        {
            "arrays": ArrayRecord(network.state_dict()),
            "metrics": MetricRecord({"num-examples": work.examples}),
        }
    )
    return Message(content=content, reply_to=message)
