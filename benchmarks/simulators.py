"""fairyring against other simulators, and against its targets: same work, same two cores, one run.

    python benchmarks/peers/environments.py      once: the peers' own environments
    python benchmarks/simulators.py [--quick] [--work lr] [--repeats 3] [--system pfl]

`torch` is fairyring again, which trains the module that the peers train: what a PyTorch user gets, beside the zoo's model.

The systems take turns (A B C, A B C, ...), each time in a fresh process; the number kept of a turn is its median
round, and of a system the median of its turns. Cores that are shared with other programs make all of this
meaningless, PyTorch's numbers first of all: its threads spin while they wait for each other. The load is printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from _machine import introduce, keep

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from environments import python
from work import WORKS

PEERS = Path(__file__).resolve().parent / "peers"

# Seconds a turn may take before it is given up, and rounds timed in it: full, quick.
PATIENCE = 900
ROUNDS = {
    "fairyring": {"lr": (300, 60), "2nn": (150, 30), "c1": (8, 3), "c2": (8, 3)},
    "torch": {"c1": (8, 3), "c2": (8, 3)},
    "pfl": {"lr": (40, 10), "2nn": (25, 6), "c1": (4, 2), "c2": (4, 2)},
    "pfl-2": {"lr": (40, 10), "2nn": (25, 6), "c1": (4, 2), "c2": (4, 2)},
    "flower": {"lr": (8, 3), "2nn": (8, 3), "c1": (4, 2), "c2": (4, 2)},
}
TARGETS = {
    "pfl": {"lr": 12.0, "2nn": 8.0, "c1": 2.0, "c2": 2.0},
    "pfl-2": {"c1": 1.6, "c2": 1.6},
    "flower": {"lr": 40.0, "2nn": 40.0, "c1": 3.0, "c2": 3.0},
}
NAMES = {
    "fairyring": "fairyring",
    "torch": "fairyring, peers' module",
    "pfl": "pfl, 1 process x 2 threads",
    "pfl-2": "pfl, 2 processes x 1 thread",
    "flower": "Flower, 2 Ray actors",
}
ENVIRONMENT = {"pfl": "pfl", "pfl-2": "pfl", "flower": "flower"}


def command(system: str) -> list[str]:
    """How a system is started."""
    match system:
        case "pfl":
            return [str(python("pfl")), str(PEERS / "run_pfl.py"), "--threads", "2"]
        case "pfl-2":
            launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
            return [str(python("pfl")), *launch, str(PEERS / "run_pfl.py"), "--threads", "1"]
        case "flower":
            return [str(python("flower")), str(PEERS / "run_flower.py")]
        case "torch":
            return [sys.executable, str(PEERS / "run_fairyring.py"), "--torch"]
        case _:
            return [sys.executable, str(PEERS / "run_fairyring.py")]


def turn(system: str, work: str, quick: bool) -> dict | None:
    """One turn of a system in a fresh process; None where it failed or took too long."""
    rounds = ROUNDS[system][work][quick]
    warmup = 64 if system == "fairyring" and work in ("lr", "2nn") else 2
    environment = {**os.environ, "OMP_NUM_THREADS": "1" if system in ("pfl-2", "flower") else "2"}
    try:
        ran = subprocess.run(
            [*command(system), "--work", work, "--rounds", str(rounds), "--warmup", str(warmup)],
            capture_output=True, text=True, timeout=PATIENCE, env=environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        print(f"    {NAMES[system]} on {work}: given up after {PATIENCE} s", flush=True)
        return None
    lines = [line for line in ran.stdout.splitlines() if line.startswith('{"system"')]
    if not lines:
        print(f"    {NAMES[system]} on {work}: failed\n{ran.stderr[-2000:]}", flush=True)
        return None
    result = json.loads(lines[-1])
    if not result["train_loss_last"] < result["train_loss_first"]:
        print(f"    {NAMES[system]} on {work}: its loss did not fall: {result}", flush=True)
    return result


def compare(work: str, systems: list[str], repeats: int, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Let the systems take turns on a work; what each turn of each system printed."""
    turns: dict[str, list[dict[str, Any]]] = {system: [] for system in systems}
    for _ in range(repeats):
        for system in systems:
            if work not in ROUNDS[system]:
                continue
            if result := turn(system, work, quick):
                turns[system].append(result)
    return turns


def report(work: str, turns: dict[str, list[dict[str, Any]]]) -> None:
    """Print medians, ratios and targets."""
    speeds = {system: [one["examples_per_second"] for one in took] for system, took in turns.items()}
    ours = statistics.median(speeds["fairyring"]) if speeds["fairyring"] else None
    print(f"\n{work:32}{'examples/s':>12}{'spread':>9}{'ratio':>9}{'target':>9}")
    for system, speed in speeds.items():
        if work not in ROUNDS[system]:
            continue
        if not speed:
            print(f"  {NAMES[system]:30}{'-':>12}")
            continue
        median = statistics.median(speed)
        spread = (max(speed) - min(speed)) / median
        row = f"  {NAMES[system] + ' ' + turns[system][-1]['version']:36}{median:10,.0f}{spread:9.0%}"
        target = TARGETS.get(system, {}).get(work)
        if system != "fairyring" and ours:
            row += f"{ours / median:8.1f}x"
            if target:
                row += f"{target:8.1f}x  {'met' if ours / median >= target else 'MISSED'}"
        print(row, flush=True)


def main() -> None:
    """Let the systems take turns and print medians, ratios and targets."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="one turn each, few rounds")
    arguments.add_argument("--work", action="append", choices=list(WORKS))
    arguments.add_argument("--system", action="append", choices=["torch", *ENVIRONMENT])
    arguments.add_argument("--repeats", type=int, default=None)
    arguments.add_argument("--json", type=Path, help="write every turn here")
    options = arguments.parse_args()
    here = introduce()
    systems = ["fairyring"]
    for system in options.system or ["torch", *ENVIRONMENT]:
        if system == "torch":
            if find_spec("torch"):
                systems.append(system)
            else:
                print(f"{NAMES[system]} is left out: pip install 'fairyring[torch]'")
        elif python(ENVIRONMENT[system]).exists():
            systems.append(system)
        else:
            print(
                f"{NAMES[system]} is left out: run python {PEERS / 'environments.py'} {ENVIRONMENT[system]}"
            )
    works = {}
    for work in options.work or WORKS:
        works[work] = compare(work, systems, options.repeats or (1 if options.quick else 3), options.quick)
        report(work, works[work])
        keep(options.json, here, works=works)


if __name__ == "__main__":
    main()
