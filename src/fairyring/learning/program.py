"""The device half as a program of its own: what a real device runs, without JAX.

The program takes flat arrays and raw key words, so that a device needs to know nothing of pytrees or of JAX's keys.
Its numbers are those of the simulation, because it is the same function.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from fairyring.core.errors import MissingExtra, PlanError
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
        exported: what `jax.export` made; promised to load for months, not for ever.
        arguments: what the program takes, in order.
        results: what it gives: the encoded vector, the side values (none under a secure sum), the client's new
            state where the algorithm has one, and whether the update is finite. The vector may be sent whatever that
            says, and under a noise stage or masks it must be: one more or less would tell the server.
    """

    exported: export.Exported
    arguments: tuple[Argument, ...]
    results: tuple[Argument, ...]

    def stablehlo(self) -> str:
        """The program as StableHLO text, for a compiler such as IREE."""
        return self.exported.mlir_module()

    def serialize(self) -> bytes:
        """The program as `jax.export` stores it.

        Raises:
            MissingExtra: flatbuffers is not installed.
        """
        try:
            return bytes(self.exported.serialize())
        except ImportError:
            raise MissingExtra("flatbuffers", extra="export", purpose="a stored program") from None


def program(plan: Plan, columns: Mapping[str, tuple[tuple[int, ...], Any]], examples: int) -> Program:
    """Export the device half of a plan: local training and the stages, up to the vector that is summed.

    Args:
        plan: whose device half.
        columns: name -> (shape of a row, dtype) of each column the task reads.
        examples: rows a device's columns hold; a device with fewer fills up with anything finite.

    Returns:
        A program of `params` float32 `[parameters]`, `shared` float32 (where the algorithm has any), `round` int32,
        `size` int32, the columns, `mine` float32 (where clients have a memory), `client_key` and `shared_key`
        uint32 `[2]`, the raw words of the keys of this client and of this round's stages; and, where there is noise in every
        local step, `noise` and `batches`, the int32 arrays of `example_steps.Drawn`.

    Raises:
        PlanError: `examples` is not a whole number of at least 1.
    """
    if isinstance(examples, bool) or not isinstance(examples, int) or examples < 1:
        raise PlanError(
            "program examples",
            given=examples,
            expected="a whole number >= 1",
            do="Give the most examples a device holds.",
        )
    shapes = plan.params_shape
    layouts = {
        "params": plan.layout,
        "shared": Layout.of(jax.eval_shape(plan.algorithm.shared, shapes)),
        "mine": Layout.of(jax.eval_shape(plan.algorithm.mine, shapes)),
    }
    # Any size up to `examples` may come, so the last batch may hold any number of rows: one capacity, one copy.
    tails = () if plan.local.steps is not None else (min(plan.local.batch_size, examples),)
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
        ("shared", (layouts["shared"].size,), jnp.float32),
        ("round", (), jnp.int32),
        ("size", (), jnp.int32),
        *((name, (examples, *shape), dtype) for name, (shape, dtype) in columns.items()),
        ("mine", (layouts["mine"].size,), jnp.float32),
        ("client_key", (2,), jnp.uint32),
        ("shared_key", (2,), jnp.uint32),
        *((name, given.shape, given.dtype) for name, given in drawn.items() if given.size),
    ]
    used = [kind for kind in kinds if kind[1] != (0,)]

    def device(*values: jax.Array) -> tuple[jax.Array, ...]:
        given = dict(zip((name for name, _, _ in used), values, strict=True))
        trees = {n: layout.unflatten(given.get(n, jnp.zeros(0))) for n, layout in layouts.items()}
        outcome = update(
            Broadcast(trees["params"], trees["shared"], given["round"]),
            {name: given[name] for name in columns},
            jnp.int32(0),
            given["size"],
            trees["mine"],
            jax.random.wrap_key_data(given["client_key"]),
            jax.random.wrap_key_data(given["shared_key"]),
            Drawn(*(given.get(name, jnp.zeros(kind.shape, kind.dtype)) for name, kind in drawn.items()))
            if drawn
            else (),
        )
        mine = layouts["mine"].flatten(outcome.mine)
        return (outcome.message.vector, outcome.message.auxiliary, mine, outcome.finite)

    arguments = [jax.ShapeDtypeStruct(shape, dtype) for _, shape, dtype in used]
    shapes_out = jax.eval_shape(device, *arguments)
    names = ("vector", "side", "mine", "finite")
    given_back = [
        (n, i, s) for i, (n, s) in enumerate(zip(names, shapes_out, strict=True)) if s.shape != (0,)
    ]
    exported = export.export(
        # A device passes every argument, also one that this plan's program makes no use of.
        jax.jit(lambda *values: tuple(device(*values)[i] for _, i, _ in given_back), keep_unused=True),
        platforms=["cpu"],
    )(*arguments)
    return Program(
        exported,
        tuple(Argument(name, shape, np.dtype(dtype)) for name, shape, dtype in used),
        tuple(Argument(name, shape.shape, np.dtype(shape.dtype)) for name, _, shape in given_back),
    )
