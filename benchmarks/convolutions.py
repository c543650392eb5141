"""How near does training a convolutional network come to the machine's own matrix-product rate, on one core?

    python benchmarks/convolutions.py            everything, about four minutes
    python benchmarks/convolutions.py --quick    without XLA's own gradients, which take seconds a step

Times are CPU seconds of this process on one core, so that other processes do not count; a step runs inside
`lax.scan`, as in the engine. Rates count the operations of the direct form, whatever the form does.
"""

import argparse
import os
import sys
import time
from pathlib import Path

# ruff: noqa: E402  (the core and the flags are chosen before JAX starts)
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
SCHEDULER = "--xla_cpu_scheduler_type=CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {SCHEDULER}"

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from _machine import introduce
from flax import nnx
from jax import lax

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from timing import median_seconds

from fairyring.lowering import lower_for_cpu

FORMS = {"XLA, autodiff": None, "direct": 0, "F(2,3)": 2, "F(4,3)": 4}


def measure(run, *args, steps, repeats=7):
    """Median CPU seconds of one of the `steps` inside `run`."""
    compiled = jax.jit(run).lower(*args).compile()
    seconds = median_seconds(lambda: jax.block_until_ready(compiled(*args)), repeats, time.process_time)
    return seconds / steps


def matrix_product_rate():
    a = jax.random.normal(jax.random.key(0), (2048, 2048))
    return 2 * 2048**3 / measure(lambda a: a @ a, a, steps=1)


def layer(n, side, c, o, winograd, repeats=5):
    """Forward and both gradients of a 3x3 convolution: seconds, operations."""
    x = jax.random.normal(jax.random.key(1), (n, side, side, c))
    w = jax.random.normal(jax.random.key(2), (3, 3, c, o))
    steps = 1 if winograd is None else 10

    def convolution(x, w):
        y = lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.nn.relu(y)

    form = convolution if winograd is None else lower_for_cpu(convolution, winograd=winograd)

    def run(x, w):
        def step(carry, _):
            x, w = carry
            y, pull = jax.vjp(form, x, w)
            dx, dw = pull(y)
            return (x + 1e-9 * dx, w + 1e-9 * dw), None

        return lax.scan(step, (x, w), length=steps)[0]

    return measure(run, x, w, steps=steps, repeats=repeats), 6 * 9 * n * (side - 2) ** 2 * c * o


def network_in_functions(key, x, side, channels, classes):
    """The CNN of the federated-learning literature: (params, apply)."""
    flat = ((side - 4) // 2) ** 2 * 64
    shapes = [(3, 3, channels, 32), (3, 3, 32, 64), (flat, 128), (128, classes)]
    init = jax.nn.initializers.he_normal()
    params = [(init(jax.random.fold_in(key, i), s), jnp.zeros(s[-1])) for i, s in enumerate(shapes)]

    def convolve(x, p):
        y = lax.conv_general_dilated(x, p[0], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.nn.relu(y + p[1])

    def drop(x, rate, key):
        return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)

    def apply(params, x, key):
        for p in params[:2]:
            x = convolve(x, p)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = drop(x, 0.25, jax.random.fold_in(key, 0)).reshape(len(x), -1)
        x = drop(jax.nn.relu(x @ params[2][0] + params[2][1]), 0.5, jax.random.fold_in(key, 1))
        return x @ params[3][0] + params[3][1]

    return params, apply


def network_in_equinox(key, x, side, channels, classes):
    flat = ((side - 4) // 2) ** 2 * 64
    keys = jax.random.split(key, 4)
    relu = eqx.nn.Lambda(jax.nn.relu)
    model = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(channels, 32, 3, key=keys[0]),
            relu,
            eqx.nn.Conv2d(32, 64, 3, key=keys[1]),
            relu,
            eqx.nn.MaxPool2d(2, 2),
            eqx.nn.Dropout(0.25),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(flat, 128, key=keys[2]),
            relu,
            eqx.nn.Dropout(0.5),
            eqx.nn.Linear(128, classes, key=keys[3]),
        ]
    )
    params, static = eqx.partition(model, eqx.is_array)

    def apply(params, x, key):
        model = eqx.combine(params, static)
        return jax.vmap(lambda x, key: model(x, key=key))(
            x.transpose(0, 3, 1, 2), jax.random.split(key, len(x))
        )

    return params, apply


def network_in_nnx(key, x, side, channels, classes):
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Conv(channels, 32, (3, 3), padding="VALID", rngs=rngs)
            self.second = nnx.Conv(32, 64, (3, 3), padding="VALID", rngs=rngs)
            self.hidden = nnx.Linear(((side - 4) // 2) ** 2 * 64, 128, rngs=rngs)
            self.out = nnx.Linear(128, classes, rngs=rngs)
            self.drop_quarter, self.drop_half = nnx.Dropout(0.25), nnx.Dropout(0.5)

        def __call__(self, x, key):
            x = nnx.relu(self.second(nnx.relu(self.first(x))))
            x = self.drop_quarter(nnx.max_pool(x, (2, 2), (2, 2)), rngs=jax.random.fold_in(key, 0))
            x = nnx.relu(self.hidden(x.reshape(len(x), -1)))
            return self.out(self.drop_half(x, rngs=jax.random.fold_in(key, 1)))

    graph, params, rest = nnx.split(Network(nnx.Rngs(0)), nnx.Param, ...)
    return params, lambda params, x, key: nnx.merge(graph, params, rest)(x, key)


def training(network, side, channels, classes, batch, winograd, steps):
    """Seconds of one step of local SGD, dropout on."""
    x = jax.random.uniform(jax.random.key(1), (steps, batch, side, side, channels))
    y = jax.random.randint(jax.random.key(2), (steps, batch), 0, classes)
    params, apply = network(jax.random.key(0), x[0], side, channels, classes)

    def loss(params, x, y, key):
        return optax.softmax_cross_entropy_with_integer_labels(apply(params, x, key), y).mean()

    if winograd is not None:
        loss = lower_for_cpu(loss, winograd=winograd)

    def run(params, key):
        def step(params, batch):
            index, x, y = batch
            gradient = jax.grad(loss)(params, x, y, jax.random.fold_in(key, index))
            return jax.tree.map(lambda p, g: p - 0.05 * g, params, gradient), None

        return lax.scan(step, params, (jnp.arange(steps), x, y))[0]

    return measure(run, params, jax.random.key(3), steps=steps, repeats=1 if winograd is None else 7)


def network_operations(side, channels, classes):
    """Operations of one example, forward and backward, direct form; the first layer has no input gradient."""
    a, b, s = side - 2, side - 4, (side - 4) // 2
    first, second = 9 * a * a * channels * 32, 9 * b * b * 32 * 64
    return 2 * (2 * first + 3 * (second + s * s * 64 * 128 + 128 * classes))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="leave out XLA's own gradients")
    quick = parser.parse_args().quick
    forms = {name: form for name, form in FORMS.items() if not (quick and form is None)}
    introduce(f"one core, JAX {jax.__version__}")
    rate = matrix_product_rate()
    print(f"2048^3 float32 matrix product: {rate / 1e9:.1f} GFLOP/s\n")

    print("3x3 convolution + ReLU, forward and both gradients: ms (GFLOP/s, fraction of the product's rate)")
    print(f"{'batch x side x in -> out':26s}" + "".join(f"{name:>24s}" for name in forms))
    shapes = [(20, 26, 32, 64), (10, 30, 32, 64), (20, 28, 1, 32), (10, 32, 3, 32), (20, 14, 16, 16)]
    shapes += [(20, 9, 64, 64), (20, 16, 64, 128), (1, 26, 32, 64), (20, 6, 128, 128), (20, 26, 8, 16)]
    for shape in shapes:
        cells = []
        for form in forms.values():
            if form is None and shape != shapes[0]:
                cells.append(f"{'-':>24s}")
                continue
            seconds, operations = layer(*shape, form, repeats=1 if form is None else 5)
            cells.append(
                f"{seconds * 1e3:9.2f} ({operations / seconds / 1e9:5.1f}, {operations / seconds / rate:4.2f})"
            )
        n, side, c, o = shape
        print(
            f"{f'{n} x {side}x{side} x {c} -> {o}':26s}" + "".join(f"{cell:>24s}" for cell in cells),
            flush=True,
        )

    print("\none step of local SGD: ms, examples/s, GFLOP/s, fraction of the product's rate just after it")
    networks = {"functions": network_in_functions, "Equinox": network_in_equinox, "Flax NNX": network_in_nnx}
    for work, side, channels, classes, batch in (("C2", 28, 1, 62, 20), ("C1", 32, 3, 10, 10)):
        for library, network in networks.items():
            for name, form in forms.items():
                if form is None and library != "functions":
                    continue
                seconds = training(network, side, channels, classes, batch, form, 2 if form is None else 25)
                flops = network_operations(side, channels, classes) * batch / seconds
                print(
                    f"{work} {library:10s} {name:14s} {seconds * 1e3:9.2f} {batch / seconds:8.0f} "
                    f"{flops / 1e9:7.1f} {flops / matrix_product_rate():6.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    sys.exit(main())
