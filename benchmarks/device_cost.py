"""What does a round cost a device? Ours with IREE, and Flower's SuperNode with PyTorch: same model, same examples, same machine.

    python benchmarks/peers/environments.py flower      once
    python benchmarks/device_cost.py [--devices 2] [--rounds 8] [--system fairyring --system flower]

The model is C2 (the CNN for FEMNIST's shape, dropout on), a client has 100 examples, batches have 20, a round is one epoch; updates are sent
in the clear and averaged. Ours is `fairyring up`: a service and devices, each a process with a child that trains. Flower's is its SuperLink and
SuperNodes over HTTP with the default isolation: a SuperNode starts a process for every message. A device's memory is the most that its processes
had resident together, looked at every 50 ms; its CPU time counts its processes that have ended, too. The first rounds (`--warmup`) are left
out of CPU time and pace. Bytes are of the device's updates and models, without headers.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from _machine import introduce

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from environments import python
from work import WORKS

PEERS = Path(__file__).resolve().parent / "peers"
MIB = 1 << 20
TICK = os.sysconf("SC_CLK_TCK")
PLAN = """
import sys
from dataclasses import replace
sys.path.insert(0, {peers!r})
import numpy as np
import optax
import fairyring as fr
from work import WORKS, data

work = replace(WORKS["c2"], clients={devices}, examples=100, cohort={devices})
x, y = data(work)
population = fr.Population.from_arrays(
    {{"x": x.reshape(-1, 28, 28, 1), "y": y.reshape(-1)}}, client=np.repeat(np.arange({devices}), 100)
)
plan = fr.Plan(
    fr.classification(fr.zoo.c2()), local=fr.LocalTraining(optax.sgd(0.1), epochs=1, batch_size=20), cohort={devices}
)
rounds = {rounds}
"""


class Watched:
    """A device: a process, and all that it starts."""

    def __init__(self, process: int) -> None:
        self.process, self.most, self.cpu = process, 0, 0.0
        self._seen: dict[int, float] = {}

    def look(self, children: dict[int, list[int]]) -> None:
        """Note memory and CPU time now."""
        total, waiting = 0, [self.process]
        while waiting:
            one = waiting.pop()
            waiting += children.get(one, [])
            try:
                fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
            self._seen[one] = (int(fields[11]) + int(fields[12])) / TICK
        self.most, self.cpu = max(self.most, total), sum(self._seen.values())


def children_of_all() -> dict[int, list[int]]:
    """Parent -> its children."""
    found: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        found.setdefault(parent, []).append(int(path.parent.name))
    return found


def follow(
    find: Callable[[dict[int, list[int]]], list[int]],
    done: Callable[[], list[float]],
    rounds: int,
    warmup: int,
    alive: Callable[[], bool],
) -> tuple[list[Watched], list[float], list[float]]:
    """Watch devices until all rounds are done; also their CPU seconds from the end of warm-up, and when rounds ended."""
    watched: dict[int, Watched] = {}
    before: dict[int, float] = {}
    until = time.monotonic() + 240
    while len(times := done()) < rounds:
        if not alive() or time.monotonic() > until:
            raise SystemExit(f"it ended, or took too long, after {len(times)} rounds")
        children = children_of_all()
        for process in find(children):
            watched.setdefault(process, Watched(process))
        for device in watched.values():
            device.look(children)
        if len(times) >= warmup and not before:
            before = {process: device.cpu for process, device in watched.items()}
        time.sleep(0.05)
    return list(watched.values()), [d.cpu - before[p] for p, d in watched.items() if p in before], times


def report(
    name: str, found: tuple[list[Watched], list[float], list[float]], warmup: int, megabytes: str
) -> None:
    """A line of the table."""
    devices, spent, times = found
    counted = len(times) - warmup
    pace = (times[-1] - times[warmup - 1]) / counted
    memory, cpu = max(device.most for device in devices) / MIB, sum(spent) / len(spent) / counted
    print(f"{name:12}{memory:14.0f}{cpu:16.2f}{3600 / pace:16.0f}  {megabytes}", flush=True)


def ours(devices: int, rounds: int, warmup: int) -> None:
    """`fairyring up`."""
    with tempfile.TemporaryDirectory() as place:
        file, out = Path(place, "plan.py"), Path(place, "out")
        file.write_text(PLAN.format(peers=str(PEERS), devices=devices, rounds=rounds))
        command = [sys.executable, "-m", "fairyring", "up", str(file), "--out", str(out)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def find(children: dict[int, list[int]]) -> list[int]:
            return [one for one in children.get(process.pid, []) if b"fairyring.device.command" in line(one)]

        def done() -> list[float]:
            from fairyring.service.storage import Storage

            database = out / "service" / "service.sqlite"
            if not database.exists():
                return []
            with Storage(database) as kept:
                return [s.ended for run in kept.runs.all() for s in kept.sessions.of_run(run.id) if s.ended]

        found = follow(find, done, rounds, warmup, lambda: process.poll() is None or len(done()) >= rounds)
        process.wait(60)
        size = WORKS["c2"].parameters * 4 / 1e6
        report("fairyring", found, warmup, f"{size:.2f} MB up, at most as much down")


def flower(devices: int, rounds: int, warmup: int) -> None:
    """Flower's SuperLink and SuperNodes."""
    if not python("flower").exists():
        print(f"Flower is left out: run python {PEERS / 'environments.py'} flower")
        return
    programs = python("flower").parent
    with tempfile.TemporaryDirectory() as place:
        app, home, times = Path(place, "app"), Path(place, "home"), Path(place, "times")
        shutil.copytree(PEERS / "flower_deployed", app)
        for name in ("work.py", "torch_models.py"):
            shutil.copy(PEERS / name, app)
        home.mkdir()
        link, *ports = free_ports(devices + 1)
        address = f"127.0.0.1:{link}"
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{address}"\ninsecure = true\n'
        )
        own = {
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "PEERS_DEVICES": str(devices),
        }
        own |= {
            "PEERS_ROUNDS": str(rounds),
            "PEERS_TIMES": str(times),
            "PATH": f"{programs}:{os.environ['PATH']}",
        }
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | own
        started: list[subprocess.Popen[bytes]] = []

        def start(*command: str) -> subprocess.Popen[bytes]:
            log = (Path(place) / f"{len(started)}.log").open("wb")
            process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
            started.append(process)
            return process

        try:
            start(
                str(programs / "flower-superlink"), "--insecure", "--host", "127.0.0.1", "--port", str(link),
                "--disable-runtime-dependency-installation",
            )  # fmt: skip
            time.sleep(6)
            nodes = [
                start(
                    str(programs / "flower-supernode"), "--insecure", "--superlink", address, "--host", "127.0.0.1",
                    "--port", str(port), "--node-config", f"partition-id={number} num-partitions={devices}",
                )
                for number, port in enumerate(ports)
            ]  # fmt: skip
            time.sleep(6)
            subprocess.run(
                [str(programs / "flwr"), "run", str(app), "here"],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )

            def done() -> list[float]:
                return [float(at) for at in times.read_text().split()] if times.exists() else []

            found = follow(
                lambda _: [node.pid for node in nodes], done, rounds, warmup,
                lambda: all(one.poll() is None for one in started),
            )  # fmt: skip
            size = WORKS["c2"].parameters * 4 / 1e6
            report("Flower", found, warmup, f"{size:.2f} MB up, as much down")
        finally:
            for process in started:
                os.killpg(process.pid, signal.SIGTERM)
            for process in started:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def line(process: int) -> bytes:
    """The command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def main() -> None:
    """Measure, and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--devices", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=8)
    arguments.add_argument("--warmup", type=int, default=2)
    arguments.add_argument("--system", action="append", choices=("fairyring", "flower"))
    given = arguments.parse_args()
    introduce(f"{given.devices} devices")
    print(
        f"\n{'':12}{'resident MiB':>14}{'CPU s a round':>16}{'rounds an hour':>16}  bytes a round, a device"
    )
    for system in given.system or ("fairyring", "flower"):
        (ours if system == "fairyring" else flower)(given.devices, given.rounds, given.warmup)


if __name__ == "__main__":
    main()
