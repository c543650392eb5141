"""Use your own model: a Flax NNX network with plain convolutions and dropout."""

import jax
import optax
from flax import nnx

import fairyring as fr


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.second = nnx.Conv(16, 32, (3, 3), rngs=rngs)
        self.dropout = nnx.Dropout(0.25, rngs=rngs)
        self.out = nnx.Linear(4 * 4 * 32, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.second(nnx.relu(self.first(x))))
        x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        return self.out(self.dropout(x.reshape(x.shape[0], -1)))


population, test = fr.load("digits", clients=50)

plan = fr.Plan(
    fr.classification(Net(nnx.Rngs(0))),
    local=fr.LocalTraining(optax.sgd(0.05), epochs=2, batch_size=10),
    cohort=10,
    server=fr.fedavgm(momentum=0.9),
)
rounds = 30

if __name__ == "__main__":
    run = fr.simulate(plan, population, rounds=rounds, seed=0, test=test)
    print(f"held-out accuracy {run.records[-1].test.metrics['accuracy']:.3f}")
