"""Does it matter how a model is written? The same networks in Equinox, Flax NNX, PyTorch and as functions, on one core.

    python benchmarks/models.py                                  everything, about six minutes
    python benchmarks/models.py --model cnn --model lstm         some of the models
    python benchmarks/models.py --repeats 2                      two turns instead of seven

Each model is trained by the compiled engine, as in `fr.simulate` with one processor: a client takes steps of SGD with batches of 10. The
ways take turns (A B C, A B C, ...), and the best turn of each counts. Times are CPU seconds of this process, so that other processes count
little. Equinox has channels first and one example at a time, Flax NNX channels last and a batch, PyTorch channels first and a batch. The
functions are what one would write by hand for a CPU; where the zoo has the model, they are the zoo's. PyTorch is left out where it is not
installed.
"""

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# ruff: noqa: E402  (the core is chosen before JAX starts)
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _machine import introduce, keep
from flax import nnx
from jax import lax

import fairyring as fr
from fairyring.core.keys import root
from fairyring.lowering import hardware
from fairyring.rounds.cohorts import CohortSampler
from fairyring.rounds.worker import Work
from fairyring.simulation.assembly import assemble
from fairyring.simulation.worker import CompiledWorker
from fairyring.task import zoo
from fairyring.task.zoo.layers import Dense, GroupNorm, LayerNorm

BATCH, STEPS, CLIENTS = 10, 20, 2
RELU = eqx.nn.Lambda(jax.nn.relu)
FLATTEN = eqx.nn.Lambda(jnp.ravel)
NHWC = ("NHWC", "HWIO", "NHWC")


class Way:
    """A model as it is trained: one round of a small population, again and again from the same start."""

    def __init__(self, model: Any, columns: dict[str, np.ndarray], task: Callable[..., Any]) -> None:
        rows = BATCH * STEPS
        people = fr.Population.from_arrays(columns, client=np.repeat(np.arange(CLIENTS), rows))
        local = fr.LocalTraining(optax.sgd(0.01), epochs=1, batch_size=BATCH)
        plan = fr.Plan(task(model), local=local, cohort=CLIENTS)
        parts = assemble(plan, people, root(0), hardware(plan.layout.size, processors=1))
        cohorts = CohortSampler(plan.rule, people, 0)
        self.parameters = plan.layout.size
        self._worker = CompiledWorker(parts.engine, parts.rows, cohorts, root(0), None)
        self._work = Work(cohorts.of(1), parts.first)
        self.turn()

    def turn(self) -> float:
        """CPU seconds of one local step."""
        start = time.process_time()
        jax.block_until_ready(self._worker.accumulate(self._work).parts)
        return (time.process_time() - start) / (STEPS * CLIENTS)


def images(side: int, channels: int, *, first: bool, classes: int = 62) -> dict[str, np.ndarray]:
    """Random images, channels first or last; none for grey ones."""
    draw = np.random.default_rng(0)
    rows = BATCH * STEPS * CLIENTS
    x = draw.random((rows, side, side, channels), np.float32)
    x = np.moveaxis(x, 3, 1) if first else x
    return {"x": np.ascontiguousarray(x), "y": draw.integers(0, classes, rows).astype(np.int32)}


def vectors(features: int) -> dict[str, np.ndarray]:
    """Random vectors."""
    draw = np.random.default_rng(0)
    rows = BATCH * STEPS * CLIENTS
    x = draw.random((rows, features), np.float32)
    return {"x": x, "y": draw.integers(0, 62, rows).astype(np.int32)}


def tokens(length: int, vocabulary: int) -> dict[str, np.ndarray]:
    """Random sequences."""
    draw = np.random.default_rng(0)
    return {"x": draw.integers(0, vocabulary, (BATCH * STEPS * CLIENTS, length)).astype(np.int32)}


class Layers(nnx.Module):
    """Flax NNX layers in a row."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = nnx.List(layers)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x


def flat(x: jax.Array) -> jax.Array:
    """A batch of vectors."""
    return x.reshape(len(x), -1)


def cnn_equinox(key: jax.Array) -> eqx.Module:
    """The CNN of the zoo without dropout, `zoo.c2`."""
    a, b, c, d = jax.random.split(key, 4)
    first, second = eqx.nn.Conv2d(1, 32, 3, key=a), eqx.nn.Conv2d(32, 64, 3, key=b)
    hidden, out = eqx.nn.Linear(9216, 128, key=c), eqx.nn.Linear(128, 62, key=d)
    return eqx.nn.Sequential([first, RELU, second, RELU, eqx.nn.MaxPool2d(2, 2), FLATTEN, hidden, RELU, out])


def cnn_nnx(rngs: nnx.Rngs) -> nnx.Module:
    """As `cnn_equinox`."""
    first = nnx.Conv(1, 32, (3, 3), padding="VALID", rngs=rngs)
    second = nnx.Conv(32, 64, (3, 3), padding="VALID", rngs=rngs)
    hidden, out = nnx.Linear(9216, 128, rngs=rngs), nnx.Linear(128, 62, rngs=rngs)

    def pool(x: jax.Array) -> jax.Array:
        return nnx.max_pool(x, (2, 2), (2, 2))

    return Layers([first, nnx.relu, second, nnx.relu, pool, flat, hidden, nnx.relu, out])


def pools_equinox(key: jax.Array) -> eqx.Module:
    """Strided and dilated convolutions, GroupNorm, overlapping pools."""
    keys = jax.random.split(key, 4)
    return eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(3, 32, 5, stride=2, padding=2, key=keys[0]),
            eqx.nn.GroupNorm(8, 32),
            RELU,
            eqx.nn.AvgPool2d(3, 1, padding=1),
            eqx.nn.Conv2d(32, 64, 3, dilation=2, padding=2, key=keys[1]),
            eqx.nn.GroupNorm(8, 64),
            RELU,
            eqx.nn.MaxPool2d(3, 2),
            eqx.nn.Conv2d(64, 64, 3, padding=1, key=keys[2]),
            RELU,
            FLATTEN,
            eqx.nn.Linear(7 * 7 * 64, 62, key=keys[3]),
        ]
    )


def pools_nnx(rngs: nnx.Rngs) -> nnx.Module:
    """As `pools_equinox`."""
    edge: Any = ((1, 1), (1, 1))
    return Layers(
        [
            nnx.Conv(3, 32, (5, 5), strides=2, padding=2, rngs=rngs),
            nnx.GroupNorm(32, num_groups=8, rngs=rngs),
            nnx.relu,
            lambda x: nnx.avg_pool(x, (3, 3), (1, 1), edge),
            nnx.Conv(32, 64, (3, 3), kernel_dilation=2, padding=2, rngs=rngs),
            nnx.GroupNorm(64, num_groups=8, rngs=rngs),
            nnx.relu,
            lambda x: nnx.max_pool(x, (3, 3), (2, 2)),
            nnx.Conv(64, 64, (3, 3), padding=1, rngs=rngs),
            nnx.relu,
            flat,
            nnx.Linear(7 * 7 * 64, 62, rngs=rngs),
        ]
    )


def windows(x: jax.Array, size: int, stride: int) -> list[jax.Array]:
    """The members of each window of `[n, h, w, c]`, by place in the window."""
    last = (x.shape[1] - size) // stride * stride + 1
    return [x[:, i : i + last : stride, j : j + last : stride] for i in range(size) for j in range(size)]


def pools_functions() -> tuple[Callable, Callable]:
    """As `pools_equinox`, with pools as sums and maxima of slices, and a dilated convolution as one of phases."""
    shapes = [(5, 5, 3, 32), (3, 3, 32, 64), (3, 3, 64, 64), (7 * 7 * 64, 62)]
    start = jax.nn.initializers.he_normal()
    norms = GroupNorm(32, 8), GroupNorm(64, 8)

    def init(key: jax.Array) -> Any:
        weights = [start(jax.random.fold_in(key, i), shape) for i, shape in enumerate(shapes)]
        biases = [jnp.zeros(shape[-1]) for shape in shapes]
        return weights, biases, [eqx.filter(norm, eqx.is_array) for norm in norms]

    def convolve(x: jax.Array, weight: jax.Array, stride: int, edge: int) -> jax.Array:
        return lax.conv_general_dilated(
            x, weight, (stride, stride), [(edge, edge)] * 2, dimension_numbers=NHWC
        )

    def dilated(x: jax.Array, weight: jax.Array) -> jax.Array:
        n, h, w, c = x.shape
        x = (
            x.reshape(n, h // 2, 2, w // 2, 2, c)
            .transpose(0, 2, 4, 1, 3, 5)
            .reshape(4 * n, h // 2, w // 2, c)
        )
        y = convolve(x, weight, 1, 1).reshape(n, 2, 2, h // 2, w // 2, -1)
        return y.transpose(0, 3, 1, 4, 2, 5).reshape(n, h, w, -1)

    def apply(params: Any, x: jax.Array) -> jax.Array:
        (a, b, c, d), biases, scales = params
        first, second = (eqx.combine(scale, norm) for scale, norm in zip(scales, norms, strict=True))
        x = jax.nn.relu(first(convolve(x, a, 2, 2) + biases[0]))
        first_of, *others = windows(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 1)
        x = sum(others, first_of) / 9
        x = jax.nn.relu(second(dilated(x, b) + biases[1]))
        top, *others = windows(x, 3, 2)
        for other in others:
            top = jnp.maximum(top, other)
        x = jax.nn.relu(convolve(top, c, 1, 1) + biases[2])
        return flat(x) @ d + biases[3]

    return init, apply


WIDTHS = (32, 64, 64, 128)


def separable_equinox(key: jax.Array) -> eqx.Module:
    """Depthwise separable convolutions with GroupNorm, as `zoo.mobilenet`."""
    keys = iter(jax.random.split(key, 2 * len(WIDTHS)))
    layers: list[Any] = [
        eqx.nn.Conv2d(3, WIDTHS[0], 3, padding=1, key=next(keys)),
        eqx.nn.GroupNorm(8, WIDTHS[0]),
    ]
    for before, after in itertools.pairwise(WIDTHS):
        depth = eqx.nn.Conv2d(
            before,
            before,
            3,
            stride=1 + (after > before),
            padding=1,
            groups=before,
            use_bias=False,
            key=next(keys),
        )
        layers += [RELU, depth, eqx.nn.GroupNorm(8, before), RELU]
        layers += [eqx.nn.Conv2d(before, after, 1, key=next(keys)), eqx.nn.GroupNorm(8, after)]
    layers += [RELU, eqx.nn.Lambda(lambda x: x.mean((1, 2))), eqx.nn.Linear(WIDTHS[-1], 10, key=next(keys))]
    return eqx.nn.Sequential(layers)


def separable_nnx(rngs: nnx.Rngs) -> nnx.Module:
    """As `separable_equinox`."""
    layers: list[Any] = [
        nnx.Conv(3, WIDTHS[0], (3, 3), padding=1, rngs=rngs),
        nnx.GroupNorm(WIDTHS[0], num_groups=8, rngs=rngs),
    ]
    for before, after in itertools.pairwise(WIDTHS):
        depth = nnx.Conv(
            before, before, (3, 3), strides=1 + (after > before), padding=1, feature_group_count=before,
            use_bias=False, rngs=rngs,
        )  # fmt: skip
        layers += [nnx.relu, depth, nnx.GroupNorm(before, num_groups=8, rngs=rngs), nnx.relu]
        layers += [nnx.Conv(before, after, (1, 1), rngs=rngs), nnx.GroupNorm(after, num_groups=8, rngs=rngs)]
    layers += [nnx.relu, lambda x: x.mean((1, 2)), nnx.Linear(WIDTHS[-1], 10, rngs=rngs)]
    return Layers(layers)


def perceptron_equinox(key: jax.Array) -> eqx.Module:
    """Dense layers with LayerNorm."""
    a, b, c = jax.random.split(key, 3)
    return eqx.nn.Sequential(
        [
            eqx.nn.Linear(784, 200, key=a),
            eqx.nn.LayerNorm(200),
            RELU,
            eqx.nn.Linear(200, 200, key=b),
            eqx.nn.LayerNorm(200),
            RELU,
            eqx.nn.Linear(200, 62, key=c),
        ]
    )


def perceptron_nnx(rngs: nnx.Rngs) -> nnx.Module:
    """As `perceptron_equinox`."""
    norms = [nnx.LayerNorm(200, rngs=rngs) for _ in range(2)]
    dense = [nnx.Linear(*sizes, rngs=rngs) for sizes in ((784, 200), (200, 200), (200, 62))]
    return Layers([dense[0], norms[0], nnx.relu, dense[1], norms[1], nnx.relu, dense[2]])


def perceptron_functions() -> tuple[Callable, Callable]:
    """As `perceptron_equinox`, with the zoo's layers."""

    def layers(key: jax.Array) -> list[Any]:
        a, b, c = jax.random.split(key, 3)
        dense = Dense(784, 200, key=a), Dense(200, 200, key=b), Dense(200, 62, key=c)
        return [dense[0], LayerNorm(200), jax.nn.relu, dense[1], LayerNorm(200), jax.nn.relu, dense[2]]

    made = layers(jax.random.key(0))

    def apply(params: Any, x: jax.Array) -> jax.Array:
        for layer in eqx.combine(params, made):
            x = layer(x)
        return x

    return lambda key: eqx.filter(layers(key), eqx.is_array), apply


VOCABULARY, EMBEDDING, UNITS, LENGTH = 80, 8, 128, 40


class RecurrentEquinox(eqx.Module):
    """An embedding, an LSTM, logits, as `zoo.lstm`."""

    embedding: eqx.nn.Embedding
    cell: eqx.nn.LSTMCell
    out: eqx.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        a, b, c = jax.random.split(key, 3)
        self.embedding = eqx.nn.Embedding(VOCABULARY, EMBEDDING, key=a)
        self.cell = eqx.nn.LSTMCell(EMBEDDING, UNITS, key=b)
        self.out = eqx.nn.Linear(UNITS, VOCABULARY, key=c)

    def __call__(self, x: jax.Array) -> jax.Array:
        def step(state: Any, now: jax.Array) -> Any:
            state = self.cell(now, state)
            return state, state[0]

        zero = jnp.zeros(UNITS)
        states = lax.scan(step, (zero, zero), jax.vmap(self.embedding)(x))[1]
        return jax.vmap(self.out)(states)


class RecurrentNNX(nnx.Module):
    """As `RecurrentEquinox`."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embedding = nnx.Embed(VOCABULARY, EMBEDDING, rngs=rngs)
        self.cell = nnx.OptimizedLSTMCell(EMBEDDING, UNITS, rngs=rngs)
        self.out = nnx.Linear(UNITS, VOCABULARY, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        zero = jnp.zeros((len(x), UNITS))
        states: Any = nnx.RNN(self.cell)(self.embedding(x), initial_carry=(zero, zero))
        return self.out(states)


def torch_models() -> dict[str, Callable[[], Any]]:
    """The same models as PyTorch's users write them."""
    from torch import nn

    class Separable(nn.Sequential):
        def __init__(self) -> None:
            layers: list[Any] = [nn.Conv2d(3, WIDTHS[0], 3, padding=1), nn.GroupNorm(8, WIDTHS[0])]
            for before, after in itertools.pairwise(WIDTHS):
                stride = 1 + (after > before)
                depth = nn.Conv2d(before, before, 3, stride, padding=1, groups=before, bias=False)
                layers += [nn.ReLU(), depth, nn.GroupNorm(8, before), nn.ReLU()]
                layers += [nn.Conv2d(before, after, 1), nn.GroupNorm(8, after)]
            layers += [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 10)]
            super().__init__(*layers)

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, EMBEDDING)
            self.lstm = nn.LSTM(EMBEDDING, UNITS, batch_first=True)
            self.out = nn.Linear(UNITS, VOCABULARY)

        def forward(self, x: Any) -> Any:
            return self.out(self.lstm(self.embedding(x))[0])

    def cnn(rates: tuple[float, float] = (0.0, 0.0)) -> Any:
        return nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(rates[0]),
            nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(rates[1]), nn.Linear(128, 62),
        )  # fmt: skip

    def pools() -> Any:
        return nn.Sequential(
            nn.Conv2d(3, 32, 5, 2, 2), nn.GroupNorm(8, 32), nn.ReLU(), nn.AvgPool2d(3, 1, 1),
            nn.Conv2d(32, 64, 3, padding=2, dilation=2), nn.GroupNorm(8, 64), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(7 * 7 * 64, 62),
        )  # fmt: skip

    def perceptron() -> Any:
        return nn.Sequential(
            nn.Linear(784, 200), nn.LayerNorm(200), nn.ReLU(), nn.Linear(200, 200), nn.LayerNorm(200), nn.ReLU(),
            nn.Linear(200, 62),
        )  # fmt: skip

    return {
        "cnn": cnn,
        "c2": lambda: cnn((0.25, 0.5)),
        "pools": pools,
        "separable": Separable,
        "perceptron": perceptron,
        "lstm": Recurrent,
    }


TORCH = torch_models() if find_spec("torch") else {}


def in_torch(
    name: str, columns: dict[str, np.ndarray], task: Callable
) -> dict[str, tuple[Any, dict[str, np.ndarray], Callable]]:
    """A way to write a model, if PyTorch is installed."""
    return {"PyTorch": (TORCH[name](), columns, task)} if TORCH else {}


MODELS: dict[str, Callable[[], dict[str, tuple[Any, dict[str, np.ndarray], Callable]]]] = {
    "cnn": lambda: {
        "Equinox": (cnn_equinox, images(28, 1, first=True), fr.classification),
        "Flax NNX": (cnn_nnx, images(28, 1, first=False), fr.classification),
        **in_torch("cnn", images(28, 1, first=True), fr.classification),
        "zoo": (zoo.cnn(rates=(0.0, 0.0)), images(28, 1, first=False), fr.classification),
    },
    "c2": lambda: {  # with its dropout
        **in_torch("c2", images(28, 1, first=True), fr.classification),
        "zoo": (zoo.c2(), images(28, 1, first=False), fr.classification),
    },
    "pools": lambda: {
        "Equinox": (pools_equinox, images(32, 3, first=True), fr.classification),
        "Flax NNX": (pools_nnx, images(32, 3, first=False), fr.classification),
        **in_torch("pools", images(32, 3, first=True), fr.classification),
        "functions": (pools_functions(), images(32, 3, first=False), fr.classification),
    },
    "separable": lambda: {
        "Equinox": (separable_equinox, images(32, 3, first=True, classes=10), fr.classification),
        "Flax NNX": (separable_nnx, images(32, 3, first=False, classes=10), fr.classification),
        **in_torch("separable", images(32, 3, first=True, classes=10), fr.classification),
        "zoo": (zoo.mobilenet(widths=WIDTHS), images(32, 3, first=False, classes=10), fr.classification),
    },
    "perceptron": lambda: {
        "Equinox": (perceptron_equinox, vectors(784), fr.classification),
        "Flax NNX": (perceptron_nnx, vectors(784), fr.classification),
        **in_torch("perceptron", vectors(784), fr.classification),
        "functions": (perceptron_functions(), vectors(784), fr.classification),
    },
    "lstm": lambda: {
        "Equinox": (RecurrentEquinox, tokens(LENGTH, VOCABULARY), fr.next_token),
        "Flax NNX": (RecurrentNNX, tokens(LENGTH, VOCABULARY), fr.next_token),
        **in_torch("lstm", tokens(LENGTH, VOCABULARY), fr.next_token),
        "zoo": (
            zoo.lstm(VOCABULARY, embedding=EMBEDDING, units=UNITS, layers=1),
            tokens(LENGTH, VOCABULARY),
            fr.next_token,
        ),
    },
}


def compare(name: str, repeats: int) -> dict[str, dict[str, float]]:
    """Let the ways to write a model take turns; parameters, the best CPU seconds of a step, and its ratio to the best way's."""
    ways = {way: Way(*given) for way, given in MODELS[name]().items()}
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(repeats):
        for way, trained in ways.items():
            best[way] = min(best[way], trained.turn())
    least = min(best.values())
    return {
        way: {"parameters": ways[way].parameters, "seconds": seconds, "ratio": seconds / least}
        for way, seconds in best.items()
    }


def main() -> None:
    """Compare the ways of the models asked for, and print a table."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument(
        "--model", action="append", choices=list(MODELS), help="only this model; may be repeated"
    )
    arguments.add_argument("--repeats", type=int, default=7, help="turns of each way")
    arguments.add_argument("--json", type=Path, help="write the results here")
    options = arguments.parse_args()
    here = introduce(f"one core, JAX {jax.__version__}, Equinox {eqx.__version__}")
    print(f"one step of local SGD, a batch of {BATCH}; ratio to the best way to write the model\n")
    print(
        f"{'model':12s}{'written in':12s}{'parameters':>12s}{'ms a step':>12s}{'examples/s':>12s}{'ratio':>8s}"
    )
    models = {}
    for name in options.model or MODELS:
        models[name] = compare(name, options.repeats)
        for way, got in models[name].items():
            print(
                f"{name:12s}{way:12s}{got['parameters']:12,d}{got['seconds'] * 1e3:12.3f}"
                f"{BATCH / got['seconds']:12,.0f}{got['ratio']:8.2f}",
                flush=True,
            )
        keep(options.json, here, models=models)


if __name__ == "__main__":
    sys.exit(main())
