"""The device half as a separate program, which a real device runs without JAX.

The program takes flat arrays and raw key words, so a device needs to know nothing about pytrees or JAX's keys.
It is the same function as in simulation, so it computes the same numbers, up to what compilers round differently.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from fairyring.core.checks import whole_number
from fairyring.core.vector import Layout
from fairyring.learning.device import Broadcast, device_half
from fairyring.learning.example_steps import Drawn, Shapes
from fairyring.learning.local import Workload
from fairyring.learning.plan import Plan
from fairyring.lowering import lower_for_cpu


@dataclass(frozen=True)
class Argument:
    """One argument of a program: its name, shape and NumPy dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class Program:
    """An exported device half.

    Attributes:
        exported: the export, as `jax.export` makes it. JAX promises that it loads for months, not for ever.
        arguments: the program's arguments, in order.
        results: the program's results, in order: the encoded vector, the auxiliary values (none under a secure sum), the client's
            new state where the algorithm has one, and whether the update is finite. The vector may be sent whether or not it is,
            and under a noise stage or masks it must be: a missing message would tell the server.
    """

    exported: export.Exported
    arguments: tuple[Argument, ...]
    results: tuple[Argument, ...]

    def stablehlo(self) -> str:
        """The program as StableHLO text, for a compiler such as IREE."""
        return self.exported.mlir_module()

    def serialize(self) -> bytes:
        """The program as bytes, as `jax.export` stores it."""
        return bytes(self.exported.serialize())


def exported(
    function: Callable[..., tuple[jax.Array, ...]], shapes: Sequence[jax.ShapeDtypeStruct]
) -> export.Exported:
    """A function of arrays as a program for devices. It takes every argument, including those that are not used.

    JAX notes for each operation in which file it was written. That is left out: a program that is sent would tell where its author's files
    are, and would have another digest on another machine.
    """
    frames = jax.config.values["jax_traceback_in_locations_limit"]
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        return export.export(jax.jit(function, keep_unused=True), platforms=["cpu"])(*shapes)
    finally:
        jax.config.update("jax_traceback_in_locations_limit", frames)


def program(plan: Plan, columns: Mapping[str, tuple[tuple[int, ...], Any]], examples: int) -> Program:
    """Export the device half of a plan: local training and the stages, up to the vector that is summed.

    Args:
        plan: the plan whose device half is exported.
        columns: name -> (shape of a row, dtype) of each column that the task reads.
        examples: number of rows in a device's columns. A device with fewer examples fills the rest with any finite values.

    Returns:
        A program with these arguments, in order. `params`: float32 `[parameters]`. `server_state`: float32, flat, if the algorithm has
        one. `round`: int32 scalar. `size`: int32 scalar, the number of the device's examples. The columns: `[examples, ...]`.
        `client_state`: float32, flat, if the algorithm has one. `client_key` and `shared_key`: uint32 `[2]`, the raw words of the keys
        of this client and of this round's stages. Where there is noise in every local step, also `noise` and `batches`: the int32
        arrays of `example_steps.Drawn`, without those that are empty.

    Raises:
        PlanError: `examples` is not a whole number of at least 1.
    """
    do = "Give the largest number of examples that a device holds."
    examples = whole_number("program examples", examples, do=do)
    shapes = plan.params_shape
    layouts = {
        "params": plan.layout,
        "server_state": Layout.of(jax.eval_shape(plan.algorithm.server_state, shapes)),
        "client_state": Layout.of(jax.eval_shape(plan.algorithm.client_state, shapes)),
    }
    # A device may have any size up to `examples`, so its last batch may have any length: one capacity serves them all.
    tails = (min(plan.local.batch_size, examples),)
    update = device_half(
        plan.task,
        plan.local,
        plan.algorithm,
        plan.bound,
        Workload(examples, 1, tails),
        rewrite=lower_for_cpu,
        stages=plan.example_stages,
    )
    stages = plan.example_stages
    drawn = Shapes.of(plan.local, stages, examples).drawn._asdict() if stages is not None else {}
    kinds: list[tuple[str, tuple[int, ...], Any]] = [
        ("params", (layouts["params"].size,), jnp.float32),
        ("server_state", (layouts["server_state"].size,), jnp.float32),
        ("round", (), jnp.int32),
        ("size", (), jnp.int32),
        *((name, (examples, *shape), dtype) for name, (shape, dtype) in columns.items()),
        ("client_state", (layouts["client_state"].size,), jnp.float32),
        ("client_key", (2,), jnp.uint32),
        ("shared_key", (2,), jnp.uint32),
        *((name, array.shape, array.dtype) for name, array in drawn.items() if array.size),
    ]
    taken = [kind for kind in kinds if kind[1] != (0,)]

    def device(*values: jax.Array) -> tuple[jax.Array, ...]:
        by_name = dict(zip((name for name, _, _ in taken), values, strict=True))
        trees = {n: layout.unflatten(by_name.get(n, jnp.zeros(0))) for n, layout in layouts.items()}
        outcome = update(
            Broadcast(trees["params"], trees["server_state"], by_name["round"]),
            {name: by_name[name] for name in columns},
            jnp.int32(0),
            by_name["size"],
            trees["client_state"],
            jax.random.wrap_key_data(by_name["client_key"]),
            jax.random.wrap_key_data(by_name["shared_key"]),
            Drawn(*(by_name.get(name, jnp.zeros(kind.shape, kind.dtype)) for name, kind in drawn.items()))
            if drawn
            else (),
        )
        client_state = layouts["client_state"].flatten(outcome.client_state)
        return (outcome.message.vector, outcome.message.auxiliary, client_state, outcome.finite)

    arguments = [jax.ShapeDtypeStruct(shape, dtype) for _, shape, dtype in taken]
    shapes_out = jax.eval_shape(device, *arguments)
    names = ("vector", "side", "client_state", "finite")
    returned = [(n, i, s) for i, (n, s) in enumerate(zip(names, shapes_out, strict=True)) if s.shape != (0,)]
    return Program(
        exported(lambda *values: tuple(device(*values)[i] for _, i, _ in returned), arguments),
        tuple(Argument(name, shape, np.dtype(dtype)) for name, shape, dtype in taken),
        tuple(Argument(name, shape.shape, np.dtype(shape.dtype)) for name, _, shape in returned),
    )
