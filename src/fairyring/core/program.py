"""Programs that are compiled once and run on several processors independently."""

import math
import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial, update_wrapper
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.core import Tracer
from jax.extend import core

from fairyring.core.collecting import collector_at_rest
from fairyring.core.compiled import Compiled, Source, call_apart, compiled
from fairyring.core.numbers import lift, literal_numbers

Tree = Any
Kept = TypeVar("Kept")
Processor = Any  # a jax.Device; type checkers take that name for a variable

ALIGNMENT = 64  # bytes, of the arrays that XLA on a CPU takes as they are
LONG = 0.05  # seconds of a call, from which on it is made so that Ctrl-C is answered meanwhile

# Settings of JAX that change what a function traces to.
_SETTINGS = (
    "jax_enable_x64",
    "jax_threefry_partitionable",
    "jax_default_prng_impl",
    "jax_default_matmul_precision",
    "jax_numpy_dtype_promotion",
)


def _settings() -> tuple[Any, ...]:
    return tuple(getattr(jax.config, name) for name in _SETTINGS)


class Program:
    """A function that is compiled for the first processor that runs it, and loaded on the others.

    It is compiled for the shapes that it is called with, and again when they or JAX's settings change. Its numbers (see `fairyring.core.numbers`)
    are arguments of what is compiled. So a program that differs from one before in its numbers only, or not at all, is not compiled
    again: see `fairyring.core.compiled`.

    Args:
        function: of arrays.
        processors: all of the same kind.
        options: of the compiler.
        donate: positions of the arguments whose memory the results may use.

    Attributes:
        loaded: by the place of its processor, what runs there for each of the shapes it was called with.
    """

    def __init__(
        self,
        function: Callable[..., Tree],
        processors: list[Processor],
        *,
        options: Mapping[str, str | int] | None = None,
        donate: tuple[int, ...] = (),
    ) -> None:
        self.processors = processors
        self._function, self._options, self._donate = function, dict(options or {}), donate
        self._variants: dict[Any, _Variant] = {}
        self.loaded: list[dict[Any, Loaded]] = [{} for _ in processors]

    def __call__(self, place: int, *arguments: Tree) -> Tree:
        """Start the program on a processor. It returns arrays at once, while they are being computed.

        Args:
            place: index of the processor.
            arguments: arrays on this processor, or NumPy arrays.
        """
        leaves, shapes = _flat(arguments)
        run = self.loaded[place].get(shapes)
        if run is None:
            self._prepare(place, shapes, arguments)
            run = self.loaded[place][shapes] = self._variants[shapes].on(self.processors[place])
        return run(leaves)

    def begin(self, *arguments: Tree) -> None:
        """Begin to compile it for arguments like these, and go on; a call waits until that is done.

        Args:
            arguments: as for a call; shapes and dtypes are enough.
        """
        self._prepare(0, _flat(arguments)[1], arguments)

    def _prepare(self, place: int, shapes: Any, arguments: tuple[Tree, ...]) -> None:
        if shapes not in self._variants:
            with collector_at_rest():
                variant = self._variants[shapes] = self._compile(self.processors[place], arguments)
            here, others = self.processors[place], self.processors[:place] + self.processors[place + 1 :]
            variant.compiled.begin([here, *others])

    @property
    def compilations(self) -> int:
        """How often this program was compiled in this process, for whomever."""
        return sum(variant.compiled.compilations for variant in self._variants.values())

    def _compile(self, processor: Processor, arguments: tuple[Tree, ...]) -> "_Variant":
        # For shapes only: a program also contains where its arguments are.
        shapes = jax.tree.map(_shape, arguments)
        traced = jax.jit(self._function).trace(*shapes)
        program, numbers = lift(traced.jaxpr)
        run = core.jaxpr_as_fun(program)

        def flat(*values: Any) -> list[Any]:
            return run(*values)

        flat.__name__ = getattr(self._function, "__name__", "program")  # which profiles show
        # Places of each argument's leaves, after the numbers.
        ends = accumulate((len(jax.tree.leaves(one)) for one in shapes), initial=len(numbers))
        leaves = [range(*ends) for ends in pairwise(ends)]
        donated = [place for argument in self._donate for place in leaves[argument]]
        # What is not used is kept: programs of one text take one list of arguments.
        jitted = jax.jit(flat, donate_argnums=donated, keep_unused=True, compiler_options=self._options)
        avals = [*map(_shape, program.in_avals)]

        @lru_cache(1)
        def lower(processor: Processor) -> jax.stages.Lowered:
            with jax.default_device(processor):
                return jitted.lower(*avals)

        source = Source(lower, len(avals), len(program.out_avals), self._options)
        return _Variant(compiled(source, processor), numbers, jax.tree.structure(traced.out_info))


class _Variant(NamedTuple):
    """A program for some shapes: compiled, with the values of its numbers, and the structure of its results."""

    compiled: Compiled
    numbers: list[Any]
    results: Any

    def on(self, processor: Processor) -> "Loaded":
        """It on a processor."""
        numbers = [jax.device_put(number, processor) for number in self.numbers]
        return Loaded(self.compiled.on(processor), numbers, self.results)


class Loaded:
    """A program on a processor.

    Args:
        executable: compiled, of its numbers and of the leaves of its arguments.
        numbers: there.
        results: the structure of its results.
    """

    def __init__(self, executable: jax.stages.Compiled, numbers: list[Any], results: Any) -> None:
        self.executable, self.numbers, self.results = executable, numbers, results
        self._long = True  # whether its last call was

    def __call__(self, leaves: list[Any]) -> Tree:
        """Start it, given the leaves of its arguments."""
        began = time.perf_counter()
        if self._long:
            results = call_apart(partial(self.executable, *self.numbers, *leaves))
        else:
            results = self.executable(*self.numbers, *leaves)
        self._long = time.perf_counter() - began > LONG
        return self.results.unflatten(results)


def _flat(arguments: tuple[Tree, ...]) -> tuple[list[Any], Any]:
    """The leaves of arguments, and what a function of them is compiled for."""
    leaves, structure = jax.tree.flatten(arguments)
    return leaves, (structure, _settings(), *[(leaf.shape, leaf.dtype) for leaf in leaves])


def _shape(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=getattr(leaf, "weak_type", False))


def kept(owner: Any, key: Any, make: Callable[[], Kept]) -> Kept:
    """What `make` returned for this key before, else what it returns now: kept as long as `owner`, whose programs it holds.

    Args:
        owner: an object that never changes.
        key: tells apart what is kept of this owner.
        make: what is kept.
    """
    found = vars(owner).setdefault("_programs", _Kept())
    key = key, _settings()
    if key not in found:
        with collector_at_rest():
            found[key] = make()
    return found[key]


class _Kept(dict[Any, Any]):
    """What is kept with an owner. A copy of the owner in another process, or in a file, begins without."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _Kept, ()


class _SharedJit:
    """See `shared_jit`. A copy in another process compiles for itself."""

    def __init__(self, function: Callable[..., Tree]) -> None:
        self._function, self._traced = function, jax.jit(function)
        self._program: Program | None = None
        update_wrapper(self, function)

    def __call__(self, *arguments: Tree) -> Tree:
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments)):
            return self._traced(*arguments)
        return self._compiled()(0, *arguments)

    def begin(self, *arguments: Tree) -> None:
        """See `begin`."""
        self._compiled().begin(*arguments)

    def _compiled(self) -> Program:
        if self._program is None:
            self._program = Program(literal_numbers(self._function), jax.local_devices()[:1])
        return self._program

    def __reduce__(self) -> tuple[Any, ...]:
        return shared_jit, (self._function,)


def shared_jit(function: Callable[..., Tree]) -> Callable[..., Tree]:
    """`jax.jit(function)` for arrays, which is not compiled again if it is the same program as one before."""
    return _SharedJit(function)


def begin(function: Callable[..., Tree], *arguments: Tree) -> None:
    """Begin to compile a function, if it is one of `shared_jit`, for arguments like these; shapes and dtypes are enough."""
    if isinstance(function, _SharedJit):
        function.begin(*arguments)


def interruptible_jit(function: Callable[..., Tree]) -> Callable[..., Tree]:
    """`jax.jit(function)` for arrays, compiled and started so that Ctrl-C is answered meanwhile. It is compiled by itself: for what runs once."""
    jitted = jax.jit(function)

    def run(*arguments: Tree) -> Tree:
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments)):
            return jitted(*arguments)
        return call_apart(partial(jitted, *arguments))

    return run


def transfer(tree: Tree, processor: Processor) -> Tree:
    """`tree` in a form that a program on `processor` takes. Cores read each other's memory; to an accelerator it is copied."""
    return jax.tree.map(np.asarray, tree) if processor.platform == "cpu" else jax.device_put(tree, processor)


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros that a program on a core reads where they are, instead of a copy. They take no room before they are written."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % ALIGNMENT
    return memory[begin : begin + size].view(dtype).reshape(shape)


def replicate(tree: Tree, processors: list[Processor]) -> list[Tree]:
    """`tree` on each processor, to stay there. Cores share one copy."""
    first = jax.device_put(tree, processors[0])
    return [first, *(jax.device_put(transfer(first, processor), processor) for processor in processors[1:])]
