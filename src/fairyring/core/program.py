"""Programs that are compiled once and run on several processors independently."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import jax
import numpy as np
from jax.experimental.serialize_executable import deserialize_and_load, serialize

Tree = Any
Processor = Any  # a jax.Device; type checkers take that name for a variable


class Program:
    """A function that is compiled for the first processor that runs it, and loaded on the others.

    Args:
        function: of arrays, which have the same shapes in every call.
        processors: all of the same kind.
        options: of the compiler.
        donate: positions of the arguments whose memory the results may use.

    Attributes:
        compilations: how often it was compiled.
        loaded: the compiled program by the place of its processor.
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
        """Start the program on a processor. It returns arrays at once, while they are being computed.

        Args:
            place: index of the processor.
            arguments: arrays on this processor, or NumPy arrays.
        """
        if place not in self.loaded:
            self.loaded[place] = self._load(self.processors[place], arguments)
        return self.loaded[place](*arguments)

    def _load(self, processor: Processor, arguments: tuple[Tree, ...]) -> Callable[..., Tree]:
        if self._packed is not None:
            return deserialize_and_load(
                *self._packed, backend=processor.client, execution_devices=[processor]
            )
        # Compiled for shapes only: a program also contains where its arguments are, so JAX's cache would not find it.
        shapes = jax.tree.map(_shape, arguments)
        with jax.default_device(processor):
            compiled = self._jitted.lower(*shapes).compile()
        self.compilations += 1
        # A program from JAX's compilation cache cannot be serialised again, but the other processors find it there.
        cache = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
        if len(self.processors) > 1 and cache is None:
            # A program that calls Python, such as jax.debug.print does, cannot be serialised, and JAX raises various
            # errors. It is compiled for each processor.
            with suppress(Exception):
                self._packed = serialize(compiled)
        return compiled


def _shape(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=getattr(leaf, "weak_type", False))


def transfer(tree: Tree, processor: Processor) -> Tree:
    """`tree` in a form that a program on `processor` takes. Cores read each other's memory; to an accelerator it is copied."""
    return jax.tree.map(np.asarray, tree) if processor.platform == "cpu" else jax.device_put(tree, processor)


def replicate(tree: Tree, processors: list[Processor]) -> list[Tree]:
    """`tree` on each processor, to stay there. Cores share one copy."""
    first = jax.device_put(tree, processors[0])
    return [first, *(jax.device_put(transfer(first, processor), processor) for processor in processors[1:])]
