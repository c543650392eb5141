"""The machine that a run is computed on, for its record."""

import os
import platform
from pathlib import Path
from typing import Any

from fairyring.core.cores import available_cores
from fairyring.core.program import Processor


def machine(processors: list[Processor]) -> dict[str, Any]:
    """CPU, number of cores, memory, system, and the processors that a run uses."""
    memory = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    )
    return {
        "cpu": _processor(),
        "cores": available_cores(),
        "memory_gib": round(memory, 1) if memory else None,
        "system": f"{platform.system()} {platform.machine()}",
        "devices": [processor.device_kind for processor in processors],
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
