"""Compiled programs: each is compiled once, whoever asks for it, in this process and in later ones."""

import hashlib
import os
import platform
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from jax.experimental.serialize_executable import deserialize_and_load, serialize

from fairyring.core.program_cache import ProgramCache

Processor = Any  # a jax.Device
Lower = Callable[[Processor], jax.stages.Lowered]

HELD = 256  # programs of this process that are kept for whoever asks for them next

_held: "OrderedDict[str, Compiled]" = OrderedDict()
_lock = threading.Lock()


class Compiled:
    """A compiled program, which runs on every processor of a kind.

    Args:
        lower: the program, of arrays, lowered for a processor.
        cache: where it may be found, and is kept; None if nowhere.
        key: its name there.

    Attributes:
        compilations: how often it was compiled.
    """

    def __init__(self, lower: Lower, cache: ProgramCache | None, key: str) -> None:
        self._lower, self._cache, self._key = lower, cache, key
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
        lowered = self._lower(processor)
        if self._packed is None:
            self.compilations += 1
            return self._pack(lowered.compile())
        structures = jax.tree.structure(lowered.args_info), jax.tree.structure(lowered.out_info)
        return deserialize_and_load(
            self._packed, *structures, backend=processor.client, execution_devices=[processor]
        )

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


def compiled(lower: Lower, processor: Processor, options: Mapping[str, str | int]) -> Compiled:
    """A program for processors like this one; the one from before if the same was asked for.

    Args:
        lower: the program, of arrays, lowered for a processor.
        processor: on which it is needed first.
        options: of the compiler, with which it was lowered.
    """
    text = lower(processor).as_text()
    if "callback" in text:  # into Python: two that read the same may call different functions
        return Compiled(lower, None, "")
    parts = [
        text,
        repr(sorted(options.items())),
        _versions(),
        _kind(processor),
        os.environ.get("XLA_FLAGS", ""),
    ]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    with _lock:
        if key not in _held:
            _held[key] = Compiled(lower, None if _jax_keeps_programs() else ProgramCache.of_user(), key)
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
    return f"{kind} {_instructions()}" if client.platform == "cpu" else kind


@lru_cache
def _instructions() -> str:
    """Which instructions the CPU has, as far as the system says."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        fields = {line.partition(":")[0].strip(): line for line in lines}
        return "\n".join(
            fields[name] for name in ("model name", "flags", "Features", "isa") if name in fields
        )
    return f"{platform.machine()} {platform.processor()} {platform.node()}"
