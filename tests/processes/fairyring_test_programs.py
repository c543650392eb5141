"""How programs are compiled in tests, in this process and in those it starts.

Most of what tests cost is compiling. Two means against it:

- Compiled programs are kept in a folder that all test processes share, and later runs of the tests too. JAX names an
  entry by program, flags and versions; the folder is named by the rest of what an entry depends on, the processor.
- A quick compiler: XLA without its optimising passes, and with its older, cheaper emitters. It computes the same
  function, in other roundings. Tests in which bits, speed or memory are the point compile as users do: they are marked
  `optimised`.
"""

import contextlib
import gc
import hashlib
import importlib.metadata
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = "FAIRYRING_TEST_PROGRAMS"  # where compiled programs are kept; set by whoever wants them elsewhere
COMPILER = "FAIRYRING_TEST_COMPILER"  # "quick" or "optimised": what processes that this one starts do
# Not in one piece (xla_cpu_parallel_codegen_split_count of 1), though that is quicker still: some convolutions come out wrong then.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
ROOM = 15_000  # memory maps: Linux allows a process 65,530, and a compiled program takes dozens
WORTH_KEEPING = (
    0.0  # seconds of compiling: to load the smallest program takes a millisecond, to compile it a dozen
)
loaded_by = ""  # which compiler made the programs that this process holds
FORGOTTEN = 3 * 86_400  # seconds after which a program that nobody asked for is deleted


def as_users() -> dict[str, str]:
    """The environment of a process that compiles as users' do, and keeps nothing."""
    ours = (COMPILER, "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | {"FAIRYRING_PROGRAMS": "none"}


def processor() -> str:
    """What this machine's instructions are, as far as it says so."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told = {line.split(":")[0].strip(): line for line in lines}
        return "\n".join(told[name] for name in ("vendor_id", "model name", "flags") if name in told)
    return f"{platform.machine()} {platform.processor()} {platform.node()}"


def folder(root: Path) -> Path:
    """Where programs for this processor and these versions are kept under `root`; created if need be."""
    versions = [importlib.metadata.version(name) for name in ("jax", "jaxlib")]
    name = hashlib.sha256("\n".join([*versions, processor(), "not compressed"]).encode()).hexdigest()[:16]
    (root / name).mkdir(parents=True, exist_ok=True)
    return root / name


def forget(folder: Path) -> None:
    """Delete what nobody asked for in a while."""
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > FORGOTTEN:
                path.unlink()


def crowded() -> bool:
    """Whether this process holds so many programs that a module's more might not fit."""
    with contextlib.suppress(OSError):
        return Path("/proc/self/maps").read_bytes().count(b"\n") > ROOM
    return True


def unload() -> None:
    """Let go of all programs that this process holds: JAX's, and those that the package itself keeps."""
    import jax

    jax.clear_caches()
    if held := sys.modules.get("fairyring.core.compiled"):
        held.forget()
    if running := sys.modules.get("fairyring.ecology.history.running"):
        running.compiled.cache_clear()
    if program := sys.modules.get("fairyring.core.program"):
        # Plans of modules that are done with would hold theirs to the end, and leave no room for others'.
        for kept in [one for one in gc.get_objects() if type(one) is program._Kept]:
            kept.clear()
    gc.collect()


@contextlib.contextmanager
def kept_in(folder: str | None) -> Iterator[None]:
    """Meanwhile programs are kept in another folder, or not at all, and none from before is used.

    JAX asks for the folder once: it has to be told to ask again.
    """
    import jax
    from jax._src import compilation_cache

    def keep(folder: str | None) -> None:
        jax.config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()
        jax.clear_caches()
        if held := sys.modules.get("fairyring.core.compiled"):
            held.forget()

    before: Any = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    keep(folder)
    try:
        yield
    finally:
        keep(before)


def put_whole(self: Any, key: str, value: bytes) -> None:
    """JAX writes in place: another process may read half an entry, and one that is killed leaves half of it for ever."""
    final = Path(str(self.path)) / f"{key}-cache"
    if final.exists():
        return
    with tempfile.NamedTemporaryFile(dir=final.parent, delete=False) as file:
        file.write(value)
    os.replace(file.name, final)


def _as_it_is(executable: bytes) -> bytes:
    return executable


def install() -> None:
    """Change what this process's JAX does; it is told by the environment, which processes it starts inherit."""
    from jax._src import compilation_cache, compiler, lru_cache

    if lru_cache.LRUCache.put.__name__ == "put_whole":
        return
    find, options = lru_cache.LRUCache.get, compiler.get_compile_options

    def get(self: Any, key: str) -> bytes | None:
        value = find(self, key)
        if value is not None:
            with contextlib.suppress(FileNotFoundError):
                os.utime(Path(str(self.path)) / f"{key}-cache")
        return value

    def compile_options(*args: Any, **settings: Any) -> Any:
        given = options(*args, **settings)
        if os.environ.get(COMPILER) == "quick":
            given.env_option_overrides = [*given.env_option_overrides, *QUICK.items()]
        return given

    lru_cache.LRUCache.get, lru_cache.LRUCache.put = get, put_whole
    compiler.get_compile_options = compile_options
    # To compress a program takes longer than to write it, and the folder does not last.
    compilation_cache.compress_executable = compilation_cache.decompress_executable = _as_it_is


def main() -> None:
    """Run a command whose Python processes compile as users' do, and keep their programs where the tests keep theirs."""
    kept = folder(Path(os.environ[FOLDER]))
    os.environ[COMPILER] = "optimised"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(kept)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = str(WORTH_KEEPING)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
