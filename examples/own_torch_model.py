"""Use your own model: a PyTorch network, trained over clients and handed back to PyTorch."""

import jax
import jax.numpy as jnp
import optax
import torch
from torch import nn

import fairyring as fr


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding="same"), nn.ReLU(), nn.Conv2d(16, 32, 3, padding="same"), nn.ReLU()
        )
        self.dropout = nn.Dropout(0.25)
        self.out = nn.Linear(32 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.features(x), 2)
        return self.out(self.dropout(x.flatten(1)))


def channels_first(x: jax.Array) -> jax.Array:
    """uint8 images `[B, 8, 8, 1]` as PyTorch has them: `[B, 1, 8, 8]`, from 0 to 1."""
    return jnp.moveaxis(x, -1, 1) / 255.0


torch.manual_seed(0)
net = Net()
population, test = fr.load("digits", clients=50)

plan = fr.Plan(
    fr.classification(net, prepare=channels_first),
    local=fr.LocalTraining(optax.sgd(0.05), epochs=2, batch_size=10),
    cohort=10,
    server=fr.fedavgm(momentum=0.9),
)
rounds = 30

if __name__ == "__main__":
    run = fr.simulate(plan, population, rounds=rounds, seed=0, test=test)
    print(f"held-out accuracy {run.records[-1].test.metrics['accuracy']:.3f}")

    run.into(net).eval()
    pixels = torch.tensor(test.columns["x"]).movedim(-1, 1) / 255
    with torch.no_grad():
        right = net(pixels).argmax(1).numpy() == test.columns["y"]
    print(f"the same in PyTorch {right.mean():.3f}")
