"""What the machine allows: the local training of a round in hand-written compiled loops, without any federation.

    python benchmarks/limit.py [--work lr --work c2] [--repeats 3] [--seconds 3] [--processors 2] [--json FILE]

Each core loops over its part of a cohort's clients: from the same weights, one epoch of SGD on batches gathered by a
fresh permutation, and then the weights are dropped. No aggregation, no server, no metrics. The cores are fairyring's
own processors of one thread (JAX's devices are slower). Two loops are timed, and `engine`, a simulation of the same work:

- `plain`: `jax.grad` of the textbook model, a tree map of `w - 0.1 g`, and for the CNNs fairyring's lowered
  convolutions. It is what the engine is held against: a round may cost at most 1.1 times as much.
- `aligned`: the same numbers from a dense layer written for tiny batches. Outputs are padded to whole vectors of 16,
  because XLA's loops and Eigen's products are up to three times slower on rows of 62 or 200 than of 64 or 208; and a
  weight's gradient is a sum of outer products, which fuses with its update into one pass over the weights.

The loops take turns (A B C, A B C, ...), each in a process of its own, with XLA's flags set before JAX starts. Prints the
medians, and what a round costs by the median against the plain loop.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _machine import introduce, keep

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from work import LEARNING_RATE, WORKS, Work, data

LANES = 16  # float32 in the widest vector
FLAGS = {
    "plain": "--xla_cpu_scheduler_type=CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    # XLA keeps to half-width vectors on its own; its products do not care, its loops do.
    "aligned": "--xla_cpu_scheduler_type=CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED --xla_cpu_prefer_vector_width=512",
}
UNROLL = {"lr": 5, "2nn": 5, "c1": 1, "c2": 1}
ROUNDS_A_CALL = {"lr": 20, "2nn": 5, "c1": 1, "c2": 1}


def dense_plain(x, weight, bias):
    """A dense layer."""
    return x @ weight + bias


def dense_aligned() -> Callable:
    """A dense layer whose weight gradient is a sum of outer products, one an example of the batch."""
    import jax
    from jax import lax

    @jax.custom_vjp
    def product(x, weight):
        return x @ weight

    def backward(kept, g):
        x, weight = kept
        # Without the barrier XLA computes x and g again for every element of the weight.
        x, g = lax.optimization_barrier((x, g))
        return g @ weight.T, sum(x[i][:, None] * g[i][None, :] for i in range(x.shape[0]))

    product.defvjp(lambda x, weight: (product(x, weight), (x, weight)), backward)
    return lambda x, weight, bias: product(x, weight) + bias


def network(work: Work, aligned: bool) -> tuple[Any, Callable]:
    """Initial parameters as NumPy arrays, and `(params, x, key) -> logits`."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax import lax

    rng = np.random.default_rng(0)
    dense = dense_aligned() if aligned else dense_plain

    def wide(n: int) -> int:
        return -(-n // LANES) * LANES if aligned else n

    def layer(inputs: int, outputs: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
        weight = np.zeros((rows, wide(outputs)), np.float32)
        weight[:inputs, :outputs] = rng.normal(size=(inputs, outputs)) / np.sqrt(inputs)
        return weight, np.zeros(wide(outputs), np.float32)

    if not work.convolutional:
        widths = (work.shape[0], *work.hidden, work.classes)
        rows = (work.shape[0], *map(wide, work.hidden))
        params = [layer(a, b, r) for a, b, r in zip(widths, widths[1:], rows, strict=False)]

        def apply(params, x, key):
            for weight, bias in params[:-1]:
                x = jax.nn.relu(dense(x, weight, bias))
            return dense(x, *params[-1])[:, : work.classes]

        return params, apply

    height, width, channels = work.shape
    flat = 64 * ((height - 4) // 2) * ((width - 4) // 2)
    kernels = [
        (rng.normal(size=(3, 3, a, b)) / np.sqrt(9 * a)).astype(np.float32)
        for a, b in ((channels, 32), (32, 64))
    ]
    params = {
        "conv": [(kernel, np.zeros(kernel.shape[-1], np.float32)) for kernel in kernels],
        "dense": [layer(flat, 128, flat), layer(128, work.classes, 128)],
    }

    def dropped(x, key, rate: float):
        keep = jax.random.bernoulli(key, 1 - rate, x.shape)
        return jnp.where(keep, x / (1 - rate), 0)

    def apply_cnn(params, x, key):
        for kernel, bias in params["conv"]:
            x = lax.conv_general_dilated(
                x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x + bias)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        one, two = jax.random.split(key)
        x = dropped(x, one, 0.25).reshape(x.shape[0], -1)
        x = dropped(jax.nn.relu(dense(x, *params["dense"][0])), two, 0.5)
        return dense(x, *params["dense"][1])[:, : work.classes]

    return params, apply_cnn


def measure(work: Work, variant: str, processors: int, seconds: float) -> dict[str, Any]:
    """Time one loop in this process."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax import lax

    from fairyring.core.cores import core_processors

    params, apply = network(work, variant == "aligned")
    rounds, share = ROUNDS_A_CALL[work.name], work.cohort // processors
    whole = work.examples // work.batch * work.batch

    def loss(params, x, y, key):
        logits = apply(params, x, key)
        shifted = logits - lax.stop_gradient(logits.max(-1, keepdims=True))
        true = jnp.where(y[:, None] == jnp.arange(work.classes), shifted, 0).sum(-1)
        return jnp.mean(jnp.log(jnp.exp(shifted).sum(-1)) - true)

    if work.convolutional:
        from fairyring.lowering import lower_for_cpu

        loss = lower_for_cpu(loss)

    def train(params, x, y, rounds_clients, key):
        def step(params, rows, key):
            gradient = jax.grad(loss)(params, x[rows], y[rows], key)
            return jax.tree.map(lambda w, g: w - LEARNING_RATE * g, params, gradient)

        def client(kept, numbered):
            number, client = numbered
            order, noise = jax.random.split(jax.random.fold_in(key, number))
            rows = client * work.examples + jax.random.permutation(order, work.examples)
            steps = whole // work.batch
            keys = jax.random.split(noise, steps + 1)  # dead code where there is no dropout
            trained, _ = lax.scan(
                lambda p, batch: (step(p, *batch), None),
                params,
                (rows[:whole].reshape(steps, work.batch), keys[:steps]),
                unroll=min(UNROLL[work.name], steps),
            )
            if whole < work.examples:
                trained = step(trained, rows[whole:], keys[steps])
            # The barrier keeps all of the training alive though one number of it is used.
            return kept + jax.tree.leaves(lax.optimization_barrier(trained))[0].ravel()[0], None

        clients = rounds_clients.reshape(-1)
        kept, _ = lax.scan(client, jnp.float32(0), (jnp.arange(clients.shape[0]), clients))
        return kept

    program = jax.jit(train)
    x, y = data(work)
    cores = core_processors(processors)
    fixed = [jax.device_put((params, x.reshape(-1, *work.shape), y.reshape(-1)), core) for core in cores]
    rng = np.random.default_rng(1)

    def call() -> tuple[float, float]:
        cohorts = np.stack([rng.permutation(work.clients)[: share * processors] for _ in range(rounds)])
        parts = np.split(cohorts.astype(np.int32), processors, axis=1)
        key = jax.random.key(int(rng.integers(1 << 30)))
        given = [jax.device_put((part, key), core) for part, core in zip(parts, cores, strict=True)]
        wall, cpu = time.perf_counter(), time.process_time()
        # The first core is this thread's own: it begins last.
        jax.block_until_ready([program(*fixed[i], *given[i]) for i in reversed(range(processors))])
        return time.perf_counter() - wall, time.process_time() - cpu

    began = time.perf_counter()
    call()
    compile_seconds = time.perf_counter() - began
    calls = [call()]
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(calls) < 5:
        calls.append(call())
    examples = rounds * share * processors * work.examples
    walls = [wall for wall, _ in calls]
    return {
        "work": work.name,
        "variant": variant,
        "devices": processors,
        "calls": len(calls),
        "best": round(examples / min(walls)),
        "median": round(examples / statistics.median(walls)),
        # What all cores would give if nothing else ran on them: sound even on a busy machine.
        "by_cpu_time": round(processors * examples / statistics.median(cpu for _, cpu in calls)),
        "first_call_seconds": round(compile_seconds, 1),
        "flags": os.environ.get("XLA_FLAGS", ""),
    }


def engine(work: Work, processors: int, seconds: float) -> dict[str, Any]:
    """Time the same work in `fairyring.simulate`, in a process of its own."""
    command = [sys.executable, str(Path(__file__).parent / "peers" / "run_fairyring.py"), "--work", work.name]
    command += ["--threads", str(processors), "--rounds"]
    few = json.loads(_output([*command, "5"]))
    ran = json.loads(_output([*command, str(max(5, round(seconds / min(few["seconds_per_round"]))))]))
    return {
        "work": work.name,
        "variant": "engine",
        "devices": processors,
        "calls": ran["rounds"],
        "best": round(work.examples_a_round / min(ran["seconds_per_round"])),
        "median": round(ran["examples_per_second"]),
    }


def timed(work: Work, variant: str, processors: int, seconds: float) -> dict[str, Any]:
    """Time one loop, or the engine, in a process of its own."""
    if variant == "engine":
        return engine(work, processors, seconds)
    command = [sys.executable, __file__, "--here", "--work", work.name, "--variant", variant]
    command += ["--processors", str(processors), "--seconds", str(seconds)]
    flags = f"{FLAGS[variant]} {os.environ.get('XLA_FLAGS', '')}".strip()
    return json.loads(_output(command, XLA_FLAGS=flags))


def _output(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


def main() -> None:
    """Time the loops asked for, each in a process of its own, and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--work", action="append", choices=list(WORKS))
    arguments.add_argument("--variant", action="append", choices=[*FLAGS, "engine"])
    arguments.add_argument("--processors", type=int, default=2)
    arguments.add_argument("--repeats", type=int, default=1, help="turns of each loop")
    arguments.add_argument(
        "--seconds", type=float, default=3.0, help="least time to measure a loop in a turn"
    )
    arguments.add_argument("--json", type=Path, help="write every turn here")
    arguments.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    works, variants = options.work or list(WORKS), options.variant or [*FLAGS, "engine"]
    if options.here:
        print(json.dumps(measure(WORKS[works[0]], variants[0], options.processors, options.seconds)))
        return
    here = introduce("examples a second")
    print(f"{'work':6}{'loop':10}{'best':>12}{'median':>12}{'cost':>8}")
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name in works:
        turns = results[name] = {variant: [] for variant in variants}
        for _ in range(options.repeats):
            for variant in variants:
                turns[variant].append(timed(WORKS[name], variant, options.processors, options.seconds))
        medians = {
            variant: statistics.median(turn["median"] for turn in took) for variant, took in turns.items()
        }
        for variant, took in turns.items():
            cost = f"{medians['plain'] / medians[variant]:8.2f}" if "plain" in medians else ""
            best = max(turn["best"] for turn in took)
            print(f"{name:6}{variant:10}{best:12,}{medians[variant]:12,.0f}{cost}", flush=True)
        keep(options.json, here, works=results)


if __name__ == "__main__":
    main()
