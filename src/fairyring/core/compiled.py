"""Compiled programs: each is compiled once, whoever asks for it, in this process and in later ones."""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any, NamedTuple, TypeVar

import jax
from jax.experimental.serialize_executable import deserialize_and_load, serialize

from fairyring.core.interrupts import interruptible
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
        self._lock = threading.Lock()

    def on(self, processor: Processor) -> jax.stages.Compiled:
        """The program on a processor."""
        with self._lock:
            if processor not in self._loaded:
                self._loaded[processor] = self._load(processor)
            return self._loaded[processor]

    def _load(self, processor: Processor) -> jax.stages.Compiled:
        if self._packed is None and self._cache is not None and not self._loaded:
            self._packed = self._cache.read(self._key)
        if self._packed is not None:
            with suppress(Exception):  # it is from another build of the same version, say
                packed, structures = self._packed, self._source.structures
                return call_apart(
                    lambda: deserialize_and_load(
                        packed, *structures, backend=processor.client, execution_devices=[processor]
                    )
                )
        # Only what XLA does is done in another thread: a trace belongs to the thread that began it.
        program = call_apart(self._source.lower(processor).compile)
        self.compilations += 1
        return self._pack(program)

    def _pack(self, program: jax.stages.Compiled) -> jax.stages.Compiled:
        """`program`, of which a copy is kept for other processors and processes."""
        # A program that calls Python, such as jax.debug.print does, cannot be packed, and JAX raises various errors. It is
        # compiled for each processor. Nor can one that JAX found in its own cache, but there the others find it, too.
        if _jax_keeps_programs():
            return program
        with suppress(Exception):
            self._packed = call_apart(partial(serialize, program))[0]
            if self._cache is not None:
                self._cache.write(self._key, self._packed)
        return program


def call_apart(call: Callable[[], Made]) -> Made:
    """What `call` returns, made in another thread if this is the main one, so that Ctrl-C is answered meanwhile.

    Each thread has its own settings of JAX, within such as `jax.enable_x64(True)`: they are carried over. Where this thread has one
    that cannot be, the call is made in this thread.
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

    (made,) = interruptible(call_as_here)
    return made[0] if made is not None else call()


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
