"""The machine that a run is computed on, for its record."""

import platform
from typing import Any

from fairyring.core.cores import available_cores
from fairyring.core.platforms import cpu, memory
from fairyring.core.program import Processor


def machine(processors: list[Processor]) -> dict[str, Any]:
    """CPU, number of cores, memory, system, and the processors that a run uses."""
    size = memory()
    return {
        "cpu": cpu(),
        "cores": available_cores(),
        "memory_gib": round(size / 2**30, 1) if size else None,
        "system": f"{platform.system()} {platform.machine()}",
        "devices": [processor.device_kind for processor in processors],
    }
