"""The hardware that programs are compiled for: which processors of this machine run them, and in which form."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import jax

from fairyring.core.checks import whole_number
from fairyring.core.cores import available_cores, core_processors
from fairyring.core.errors import PlanError
from fairyring.core.program import Processor
from fairyring.lowering._dense import Storage, align_dense
from fairyring.lowering._pass import lower_for_cpu

SMALL_MODEL = 400_000  # parameters; below, an iteration of a loop costs as much as a training step

# XLA's other schedulers keep more of a training step alive than fits into the cache, and by default its loops use
# vectors half as wide as the machine's.
OPTIONS: Mapping[str, str | int] = {
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    "xla_cpu_prefer_vector_width": 512,
}


class Hardware(NamedTuple):
    """Processors of this machine, and how programs are shaped for them. A processor is a core of the CPU, or an accelerator.

    Attributes:
        processors: the clients of a round are divided among them.
        rewrite: applied to a loss before its gradient is taken.
        align: how dense layers are stored between training steps; None to store them as they are.
        clients_per_batch: how many clients are vectorised in one batch.
        unroll: how many full batches of examples one loop iteration works through.
        options: compiler options for programs of training steps.
    """

    processors: list[Processor]
    rewrite: Callable[[Callable], Callable]
    align: Callable[..., Storage] | None
    clients_per_batch: int
    unroll: int
    options: Mapping[str, str | int]

    @property
    def alone(self) -> "Hardware":
        """The first of the processors, by itself."""
        return self._replace(processors=self.processors[:1])

    @property
    def key(self) -> Hashable:
        """Programs for hardware of one key are the same."""
        return (*self.processors, self.clients_per_batch, self.unroll)


def hardware(
    parameters: int,
    *,
    processors: int | Sequence[int] | None = None,
    clients_per_batch: int | None = None,
) -> Hardware:
    """The hardware of this machine, for a model with this many parameters.

    Args:
        parameters: how many parameters the model has.
        processors: how many to use, or which ones, counted from 0: cores where JAX runs on a CPU, otherwise accelerators, of
            which no more are used than there are. All of them by default.
        clients_per_batch: how many clients are vectorised in one batch. By default 1 on a CPU, where one client's
            matrices keep a core busy, and 16 on an accelerator, where they do not.

    Raises:
        PlanError: `processors` or `clients_per_batch` is below 1, or there is no such accelerator.
    """
    if clients_per_batch is not None:
        clients_per_batch = whole_number(
            "clients_per_batch", clients_per_batch, do="Leave it out for the default."
        )
    if isinstance(processors, str) or not isinstance(processors, Sequence | None):
        processors = whole_number("processors", processors, do="Leave it out for all.")
    local = jax.local_devices()
    on_cpu = local[0].platform == "cpu"
    width = clients_per_batch or (1 if on_cpu else 16)
    return Hardware(
        _chosen(processors, local, on_cpu=on_cpu),
        lower_for_cpu if on_cpu else lambda loss: loss,
        align_dense if on_cpu and width == 1 else None,
        width,
        8 if on_cpu and width == 1 and parameters < SMALL_MODEL else 1,
        OPTIONS if on_cpu else {},
    )


def _chosen(
    processors: int | Sequence[int] | None, accelerators: list[Processor], *, on_cpu: bool
) -> list[Processor]:
    if processors is None or isinstance(processors, int):
        return core_processors(processors or available_cores()) if on_cpu else accelerators[:processors]
    there = core_processors(max(processors, default=-1) + 1) if on_cpu else accelerators
    if not processors or not all(0 <= place < len(there) for place in processors):
        raise PlanError(
            "processors",
            given=list(processors),
            expected=f"numbers from 0 to {available_cores() - 1 if on_cpu else len(there) - 1}",
            do="Leave out processors= for all.",
        )
    return [there[place] for place in processors]
