"""Use your own data (arrays, with one that says who owns each row) and your own model (two functions)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fairyring as fr

rng = np.random.default_rng(0)
owner = rng.integers(0, 300, 6_000)  # who owns each row
x = rng.normal(size=(6_000, 20)).astype(np.float32) + rng.normal(size=(300, 20))[owner].astype(np.float32)
y = (x @ rng.normal(size=(20, 5))).argmax(1).astype(np.int32)

people = fr.Population.from_arrays({"x": x, "y": y}, client=owner)
population, test = people.split_clients(0.8, seed=0)  # test on people the model has never met


def init(key: jax.Array) -> dict[str, jax.Array]:
    return {"w": 0.1 * jax.random.normal(key, (20, 5)), "b": jnp.zeros(5)}


def apply(params: dict[str, jax.Array], x: jax.Array, key: jax.Array | None) -> jax.Array:
    return x @ params["w"] + params["b"]


plan = fr.Plan(
    fr.classification((init, apply)),
    local=fr.LocalTraining(optax.adam(0.01), epochs=1, batch_size=10),
    cohort=fr.cohort.poisson(0.1, maximum=60),
)
rounds = 50

if __name__ == "__main__":
    run = fr.simulate(plan, population, rounds=rounds, seed=0, test=test)
    each = run.evaluate(test).client_metrics["accuracy"]
    print(f"held-out accuracy {run.records[-1].test.metrics['accuracy']:.3f}")
    print(f"worst tenth of the people {np.sort(each)[: len(each) // 10].mean():.3f}")
