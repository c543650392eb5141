"""A small linear classifier and the same in NumPy, for tests that compare algorithms with their papers."""

from functools import cache

import numpy as np

import fairyring as fr

FEATURES, CLASSES = 5, 3


def init(key):
    import jax

    weights, bias = jax.random.split(key)
    return {
        "b": 0.1 * jax.random.normal(bias, (CLASSES,)),
        "w": 0.3 * jax.random.normal(weights, (FEATURES, CLASSES)),
    }


def apply(params, x):
    return x @ params["w"] + params["b"]


@cache
def task():
    """One object: what was compiled of a task is kept with it."""
    return fr.classification((init, apply))


def people(sizes, seed=0):
    """A population of clients of these sizes, whose labels follow a rule that differs a little a client."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(size=(len(owner), FEATURES)).astype(np.float32)
    rule = (
        rng.normal(size=(FEATURES, CLASSES)) + 0.5 * rng.normal(size=(len(sizes), FEATURES, CLASSES))[owner]
    )
    y = np.argmax(np.einsum("nf,nfc->nc", x, rule), axis=1).astype(np.int32)
    return fr.Population.from_arrays({"x": x, "y": y}, client=owner, clients=np.arange(len(sizes)))


def gradient(params, x, y):
    """Mean softmax cross-entropy's gradient in float64 NumPy."""
    logits = x @ params["w"] + params["b"]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    p /= len(y)
    return {"b": p.sum(axis=0), "w": x.T @ p}


def batches(x, y, batch_size, epochs):
    """Batches in order, the last one of an epoch with what is left."""
    for _ in range(epochs):
        for i in range(0, len(y), batch_size):
            yield x[i : i + batch_size], y[i : i + batch_size]


def mapped(function, *trees):
    """`function` leaf by leaf over dicts."""
    return {name: function(*(tree[name] for tree in trees)) for name in trees[0]}


def as_float64(params):
    return {name: np.asarray(value, np.float64) for name, value in params.items()}


def close(mine, reference, rtol=2e-5, atol=2e-6):
    for name, value in reference.items():
        np.testing.assert_allclose(np.asarray(mine[name]), value, rtol=rtol, atol=atol)
