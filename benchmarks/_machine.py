"""What every benchmark says of the machine it runs on, and the file its results are kept in."""

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

# Cores that other programs may use before figures are not worth quoting.
QUIET = 0.25


def machine() -> dict[str, Any]:
    """The machine, as far as it is told, and how busy others keep it now."""
    cpu, flags = platform.processor() or platform.machine(), ""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = [line.split(":", 1) for line in information.read_text().splitlines() if ":" in line]
        told = {name.strip(): value.strip() for name, value in lines}
        cpu, flags = told.get("model name", cpu), told.get("flags", "")
    return {
        "cpu": cpu,
        "avx512": "avx512f" in flags.split(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        "busy": busy(),
    }


def busy(seconds: float = 1.0) -> float | None:
    """How many cores are busy while this process sleeps; None where the system does not tell.

    Unlike the load average, it forgets at once what this process itself did before.
    """
    before = ticks()
    time.sleep(seconds if before else 0)
    after = ticks()
    if not before or not after or after[1] == before[1]:
        return None
    idle = (after[0] - before[0]) / (after[1] - before[1])
    return round((os.cpu_count() or 1) * (1 - idle), 2)


def ticks() -> tuple[int, int] | None:
    """Ticks of all cores since the machine started: idle, and in all."""
    statistics = Path("/proc/stat")
    if not statistics.is_file():
        return None
    counts = [int(count) for count in statistics.read_text().splitlines()[0].split()[1:9]]
    return counts[3] + counts[4], sum(counts)


def is_busy(here: dict[str, Any]) -> bool:
    """Whether others used so much of a machine that its figures are not worth quoting."""
    return (here["load"] if here["busy"] is None else here["busy"]) > QUIET


def introduce(more: str = "") -> dict[str, Any]:
    """Print the machine, with what else there is to say; return it."""
    here = machine()
    others = "" if here["busy"] is None else f", {here['busy']:.1f} cores busy with something else"
    print(
        f"{here['cpu']}, {here['cores']} cores, {here['system']}, Python {here['python']}, "
        f"load {here['load']}{others}{f'; {more}' if more else ''}",
        flush=True,
    )
    if is_busy(here):
        print("The machine is busy: these are not numbers to quote.", flush=True)
    return here


def keep(path: Path | None, here: dict[str, Any], **results: Any) -> None:
    """Write results and the machine they were measured on to `path`, if there is one.

    A long benchmark keeps what it has after each of its works. Each time this looks again how busy others are; the most counts.
    """
    if path:
        now = busy()
        here["busy"] = now if here["busy"] is None else max(here["busy"], now or 0.0)
        path.write_text(json.dumps({"machine": here, **results}, indent=1))
