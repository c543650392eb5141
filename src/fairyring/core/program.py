"""Programs that run on each of some devices by itself, compiled once."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import jax
import numpy as np
from jax.experimental.serialize_executable import deserialize_and_load, serialize

Tree = Any
Processor = Any  # jax.Device, which type checkers take for a variable


class Program:
    """A function compiled for the device that calls it first, and loaded on the others.

    Args:
        function: of arrays; the same shapes at each call.
        devices: all of one kind.
        options: of the compiler.
        donate: places of the arguments whose memory the results may take.

    Attributes:
        compilations: how often it was compiled so far.
        loaded: the compiled program of each place that has it.
    """

    def __init__(
        self,
        function: Callable[..., Tree],
        processors: list[Processor],
        *,
        options: Mapping[str, str | int] | None = None,
        donate: tuple[int, ...] = (),
    ) -> None:
        self.processors, self.compilations = processors, 0
        self._jitted = jax.jit(function, donate_argnums=donate, compiler_options=dict(options or {}))
        self.loaded: dict[int, Callable[..., Tree]] = {}
        self._packed: tuple[Any, ...] | None = None

    def __call__(self, place: int, *arguments: Tree) -> Tree:
        """Start the program on device `place`; returns arrays that may still be on their way.

        Args:
            place: which device.
            arguments: arrays on that device, or NumPy arrays.
        """
        if place not in self.loaded:
            self.loaded[place] = self._load(self.processors[place], arguments)
        return self.loaded[place](*arguments)

    def _load(self, processor: Processor, arguments: tuple[Tree, ...]) -> Callable[..., Tree]:
        if self._packed is not None:
            return deserialize_and_load(*self._packed, backend=processor.client, execution_devices=[processor])
        # Of shapes alone: where arguments lie is written into a program, and JAX's cache would take it for another.
        shapes = jax.tree.map(_shape, arguments)
        with jax.default_device(processor):
            compiled = self._jitted.lower(*shapes).compile()
        self.compilations += 1
        # What comes from JAX's cache of compiled programs cannot be packed again; but the other devices find it there.
        cache = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
        if len(self.processors) > 1 and cache is None:
            # A program that calls back into Python, as jax.debug.print does, cannot be packed, which JAX says in
            # several ways: it is compiled for each device.
            with suppress(Exception):
                self._packed = serialize(compiled)
        return compiled


def _shape(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=getattr(leaf, "weak_type", False))


def transfer(tree: Tree, processor: Processor) -> Tree:
    """`tree` of another device, as a program on `processor` takes it. CPU devices read each other's memory."""
    return jax.tree.map(np.asarray, tree) if processor.platform == "cpu" else jax.device_put(tree, processor)


def replicate(tree: Tree, processors: list[Processor]) -> list[Tree]:
    """`tree` put on each device, to stay. CPU devices all read the same memory."""
    first = jax.device_put(tree, processors[0])
    return [first, *(jax.device_put(transfer(first, processor), processor) for processor in processors[1:])]
