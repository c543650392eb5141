"""Compiled programs: each is compiled once, whoever asks for it, in this process and in later ones."""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any, NamedTuple, TypeVar

import jax
from jax.experimental.serialize_executable import deserialize_and_load, serialize

from fairyring.core.interrupts import interruptible, meanwhile
from fairyring.core.platforms import instructions
from fairyring.core.program_cache import ProgramCache

Processor = Any  # a jax.Device
Made = TypeVar("Made")

HELD = 256  # programs of this process that are kept for whoever asks for them next

_held: "OrderedDict[str, Compiled]" = OrderedDict()
_lock = threading.Lock()


class Source(NamedTuple):
    """A program of arrays, to be compiled.

    Attributes:
        lower: it lowered for a processor.
        arguments: how many arrays it takes.
        results: how many arrays it returns, in a list.
        options: of the compiler, with which it is lowered.
    """

    lower: Callable[[Processor], jax.stages.Lowered]
    arguments: int
    results: int
    options: Mapping[str, str | int]

    @property
    def structures(self) -> tuple[Any, Any]:
        """The structures of its arguments and of its results."""
        return jax.tree.structure((tuple(range(self.arguments)), {})), jax.tree.structure([0] * self.results)


class Compiled:
    """A compiled program, which runs on every processor of a kind.

    Args:
        source: the program.
        cache: where it may be found, and is kept; None if nowhere.
        key: its name there.

    Attributes:
        compilations: how often it was compiled.
    """

    def __init__(self, source: Source, cache: ProgramCache | None, key: str) -> None:
        self._source, self._cache, self._key = source, cache, key
        self._loaded: dict[Processor, jax.stages.Compiled] = {}
        self._packed: bytes | None = None
        self.compilations = 0
        self._packing = (
            threading.Lock()
        )  # of whoever compiles: what the others load of that, they load side by side
        self._loading: dict[Processor, threading.Lock] = {}

    def on(self, processor: Processor) -> jax.stages.Compiled:
        """The program on a processor."""
        program = self._loaded.get(processor)
        return program if program is not None else call_apart(lambda: self._on(processor))

    def begin(self, processors: Iterable[Processor]) -> None:
        """Begin to load it for these processors, or to compile it for the first of them, in threads of their own.

        Whoever asks for it on a processor before it is there waits. What fails here fails again when it is asked for.
        """
        waiting = [processor for processor in processors if processor not in self._loaded]
        if not self._packing.acquire(blocking=False):
            return  # another thread is at it
        try:
            self._read()
        finally:
            self._packing.release()
        for processor in waiting if self._packed is not None else waiting[:1]:
            begin_apart(partial(self._on, processor))

    def _on(self, processor: Processor) -> jax.stages.Compiled:
        with self._loading.setdefault(processor, threading.Lock()):
            if processor not in self._loaded:
                self._loaded[processor] = self._load(processor)
            return self._loaded[processor]

    def _load(self, processor: Processor) -> jax.stages.Compiled:
        with self._packing:
            self._read()
            if self._packed is None:
                return self._pack(self._compile(processor))
            packed = self._packed
        with suppress(Exception):  # it is from another build of the same version, say
            return deserialize_and_load(
                packed,
                *self._source.structures,
                backend=processor.client,
                execution_devices=[processor],
            )
        with self._packing:
            if self._packed is packed:
                return self._pack(self._compile(processor))
        return self._load(processor)  # what another thread has compiled meanwhile

    def _read(self) -> None:
        """Look for what another process compiled."""
        if self._packed is None and self._cache is not None and not self._loaded:
            self._packed = self._cache.read(self._key)

    def _compile(self, processor: Processor) -> jax.stages.Compiled:
        program = self._source.lower(processor).compile()
        self.compilations += 1
        return program

    def _pack(self, program: jax.stages.Compiled) -> jax.stages.Compiled:
        """`program`, of which a copy is kept for other processors and processes."""
        # A program that calls Python, such as jax.debug.print does, cannot be packed, and JAX raises various errors. It is
        # compiled for each processor. Nor can one that JAX found in its own cache, but there the others find it, too.
        if _jax_keeps_programs():
            return program
        with suppress(Exception):
            self._packed = serialize(program)[0]
            if self._cache is not None:
                self._cache.write(self._key, self._packed)
        return program


def call_apart(call: Callable[[], Made]) -> Made:
    """What `call` returns, made in another thread if this is the main one, so that Ctrl-C is answered meanwhile.

    Where this thread has a setting of JAX that cannot be carried over to another, the call is made in this thread.
    """
    (made,) = interruptible(_with_settings(call))
    return made[0] if made is not None else call()


def begin_apart(call: Callable[[], object]) -> None:
    """Begin a call in another thread, and go on. Neither what it returns nor what it raises is ever seen."""
    meanwhile(_with_settings(call))


def _with_settings(call: Callable[[], Made]) -> Callable[[], tuple[Made] | None]:
    """`call` for another thread, in a tuple; None where a setting of this one cannot be carried over.

    Each thread has its own settings of JAX, within such as `jax.enable_x64(True)`.
    """
    here = jax.config.values

    def call_as_here() -> tuple[Made] | None:
        with ExitStack() as settings:
            for name, value in jax.config.values.items():
                if value is not here[name] and value != here[name]:
                    within = getattr(jax, name.removeprefix("jax_"), None)
                    if within is None:
                        return None
                    settings.enter_context(within(here[name]))
            return (call(),)

    return call_as_here


def compiled(source: Source, processor: Processor) -> Compiled:
    """A program for processors like this one; the one from before if the same was asked for.

    Args:
        source: the program.
        processor: on which it is needed first.
    """
    text = source.lower(processor).as_text()
    # Calls into Python: two that read the same may call different functions. And constants that are not in the text.
    if "callback" in text or jax.config.jax_use_simplified_jaxpr_constants:  # pyright: ignore[reportAttributeAccessIssue]
        return Compiled(source, None, "")
    parts = [
        text,
        repr(sorted(source.options.items())),
        _versions(),
        _kind(processor),
        os.environ.get("XLA_FLAGS", ""),
    ]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    with _lock:
        if key not in _held:
            _held[key] = Compiled(source, None if _jax_keeps_programs() else ProgramCache.of_user(), key)
            while len(_held) > HELD:
                _held.popitem(last=False)
        _held.move_to_end(key)
        return _held[key]


def forget() -> None:
    """Let go of all programs that are held for whoever asks for them next. Those in use go on."""
    with _lock:
        _held.clear()


def _jax_keeps_programs() -> bool:
    """Whether JAX was told to keep programs itself."""
    return jax.config.jax_compilation_cache_dir is not None  # pyright: ignore[reportAttributeAccessIssue]


@lru_cache
def _versions() -> str:
    return " ".join(version(name) for name in ("jax", "jaxlib"))


@lru_cache
def _kind(processor: Processor) -> str:
    """What a compiled program depends on of a processor."""
    client = processor.client
    kind = f"{client.platform} {client.platform_version} {processor.device_kind}"
    return f"{kind} {instructions()}" if client.platform == "cpu" else kind
