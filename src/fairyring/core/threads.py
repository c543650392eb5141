"""How JAX is asked to use this machine, before it starts.

Called when `fairyring` is imported. JAX reads these once, when its backend starts: they cost nothing here, and have
no effect where the user's own environment already says something.
"""

import os
import sys

PATIENCE = (
    "xla_cpu_collective_call_warn_stuck_timeout_seconds",
    "xla_cpu_collective_call_terminate_timeout_seconds",
)


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_device_a_core() -> None:
    """Ask JAX for one CPU device a core, and for patience where one waits for another.

    On a CPU, clients sharded over one XLA device a core run faster than one device with as many threads: the
    matrices of one client are too small to share. At the end of a round the devices wait for each other; by
    itself XLA calls that stuck after 20 seconds and ends the process after 40, which one large client among small
    ones can take.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    patient = [f"--{name}={1 << 20}" for name in PATIENCE if name not in flags]
    if patient:
        os.environ["XLA_FLAGS"] = " ".join([flags, *patient]).strip()
    if "xla_force_host_platform_device_count" not in flags:
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(available_cores()))
    if "jax" in sys.modules and "JAX_NUM_CPU_DEVICES" in os.environ:
        import jax

        try:
            jax.config.update("jax_num_cpu_devices", int(os.environ["JAX_NUM_CPU_DEVICES"]))
        except RuntimeError:
            return  # the backend runs already: simulation uses the devices there are
