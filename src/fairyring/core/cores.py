"""The cores of this machine, as processors on which JAX runs programs."""

import os
import platform
from typing import Any

from fairyring.core.platforms import cores, cpu, memory

POOL = "PJRT_NPROC"  # the number of threads of an XLA client that is being created

_processors: list[Any] = []


def available_cores() -> int:
    """The number of cores that this process may use."""
    return cores()


def core_processors(count: int) -> list[Any]:
    """`count` processors, each a JAX device with one thread. Every caller gets the same ones.

    A client's matrices are too small to be divided among cores. JAX's own CPU devices share one pool of threads, and
    XLA splits every larger operation for this pool. With one such device per core, the cores would wait for each other
    within each operation. So each processor here is a separate XLA client with a pool of one thread, and its
    operations are not split.

    The first processor runs programs in the thread that calls it, and the call returns when the work is done. The others
    run them in threads of their own. If you call the first one last, no core has to run two threads.

    These processors are not in `jax.devices()`, so other uses of JAX in the process are not affected.
    """
    while len(_processors) < count:
        _processors.append(_one_thread_processor(own_thread=bool(_processors)))
    return _processors[:count]


def _one_thread_processor(*, own_thread: bool) -> Any:
    from jaxlib import xla_client

    before = os.environ.get(POOL)
    os.environ[POOL] = "1"
    try:
        return xla_client.make_cpu_client(asynchronous=own_thread, num_devices=1).local_devices()[0]
    finally:
        if before is None:
            del os.environ[POOL]
        else:
            os.environ[POOL] = before


def machine(processors: list[Any]) -> dict[str, Any]:
    """CPU, number of cores, memory, system, and the processors that a run uses, for its record."""
    size = memory()
    return {
        "cpu": cpu(),
        "cores": available_cores(),
        "memory_gib": round(size / 2**30, 1) if size else None,
        "system": f"{platform.system()} {platform.machine()}",
        "devices": [processor.device_kind for processor in processors],
    }
