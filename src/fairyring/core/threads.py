"""How JAX is asked to use this machine, before it starts.

Called when `fairyring` is imported. JAX reads these once, when its backend starts: they cost nothing here, and have
no effect where the user's own environment already says something.
"""

import os
import sys


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_device_a_core() -> None:
    """Ask JAX for one CPU device a core, and XLA for the schedule that keeps a training step in cache.

    On a CPU, clients sharded over one XLA device a core run faster than one device with as many threads: the
    matrices of one client are too small to share.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(available_cores()))
    if "xla_cpu_scheduler_type" not in flags:
        os.environ["XLA_FLAGS"] = (
            f"{flags} --xla_cpu_scheduler_type=CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED".strip()
        )
    if "jax" in sys.modules and "JAX_NUM_CPU_DEVICES" in os.environ:
        import jax

        try:
            jax.config.update("jax_num_cpu_devices", int(os.environ["JAX_NUM_CPU_DEVICES"]))
        except RuntimeError:
            return  # the backend runs already: simulation uses the devices there are
