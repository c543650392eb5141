"""What the devices at hand ask of the engine."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax

from fairyring.core.cores import available_cores, core_processors
from fairyring.core.errors import PlanError
from fairyring.core.program import Processor
from fairyring.lowering import Storage, align_dense, lower_for_cpu

SMALL_MODEL = 400_000  # parameters; below, a loop's turn costs as much as a training step

# XLA's other schedules keep more of a training step alive than fits in cache, and its loops keep to vectors half as
# wide as the machine's.
OPTIONS: Mapping[str, str | int] = {
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    "xla_cpu_prefer_vector_width": 512,
}


class Hardware(NamedTuple):
    """Devices, and how programs are shaped for them.

    Attributes:
        devices: clients are shared among them.
        rewrite: applied to a loss before its gradient is taken.
        align: how dense layers are stored between training steps; None for as they are.
        together: clients vectorised together.
        unroll: full batches a loop iteration.
        options: of the compiler, for programs of training steps.
    """

    processors: list[Processor]
    rewrite: Callable[[Callable], Callable]
    align: Callable[..., Storage] | None
    clients_per_batch: int
    unroll: int
    options: Mapping[str, str | int]


def hardware(parameters: int, *, processors: int | None = None, clients_per_batch: int | None = None) -> Hardware:
    """The target for a model of so many parameters.

    Args:
        devices: on a CPU, use so many cores; elsewhere at most so many accelerators. All without it.
        together: clients vectorised together; by default 1 on a CPU, where one client's matrices fill a core, and
            16 on an accelerator, where they do not.

    Raises:
        PlanError: less than one device or client.
    """
    for name, value in (("devices", processors), ("together", clients_per_batch)):
        if value is not None and value < 1:
            raise PlanError(
                name, given=value, expected="a whole number >= 1", do=f"Leave out {name}= for the default."
            )
    found = jax.local_devices()
    on_cpu = found[0].platform == "cpu"
    width = clients_per_batch or (1 if on_cpu else 16)
    return Hardware(
        core_processors(processors or available_cores()) if on_cpu else found[:processors],
        lower_for_cpu if on_cpu else lambda loss: loss,
        align_dense if on_cpu and width == 1 else None,
        width,
        8 if on_cpu and width == 1 and parameters < SMALL_MODEL else 1,
        OPTIONS if on_cpu else {},
    )
