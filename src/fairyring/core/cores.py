"""The cores of this machine, as devices that JAX can run programs on."""

import os
from typing import Any

POOL = "PJRT_NPROC"  # how many threads XLA gives to a client that is being made

_devices: list[Any] = []


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def core_processors(count: int) -> list[Any]:
    """`count` CPU devices of one thread each; the same ones for every caller.

    A client's matrices are too small to share among cores. JAX's own CPU devices share one pool of threads, and XLA
    cuts every larger operation in pieces for that pool: with a device a core, cores then wait for each other within
    each operation. So each device here is an XLA client of its own, with a pool of one thread, and its programs are
    compiled whole.

    The first device runs in the thread that calls it, which returns when the work is done; the others work in threads
    of their own. Whoever shares work among them calls the first last, and no core has two threads to run.

    They are not among `jax.devices()`: what else a process does with JAX is left as it is.
    """
    while len(_devices) < count:
        _devices.append(_one_thread_device(own_thread=bool(_devices)))
    return _devices[:count]


def _one_thread_device(*, own_thread: bool) -> Any:
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
