"""What load does a service hold? Rounds of a thousand devices, check-ins of ten thousand, and memory over many rounds.

    python benchmarks/service.py [--part round --part check-ins --part memory --part up] [--devices 1000] [--json FILE]

The service is `fairyring serve` in a process of its own, with its database (SQLite) and blobs in a folder, on loopback, with default
settings. `fairyring conduct`, which it starts, computes the server's half of every round in another process. The devices are those of
`_service_devices.py`, all in one more process: their cost is in the figures, and is printed apart.

- `round`: a masked round of 1000 devices and 10^5 parameters (semi-honest, modulo 2^32), from the opening of the session to its end, as the
  database has them. All devices have checked in before. The limit is the CPU time of the secure sum alone: the devices' steps as they
  were timed in the generator, and the server's as `secagg.py` times it, here in this process.
- `check-ins`: 10,000 enrolled devices, 300 check-ins a second for 20 seconds at random times, each from a device with a new
  connection. They say that they may not train now, so no answer is held back until a round begins. A time counts from when the check-in was due, so that a generator that is late shows.
- `memory`: resident memory of the service after 10 and after 50 rounds of 20 devices.
- `up`: `fairyring up examples/on_devices.py`, which starts a service and 20 devices, each a process: what it takes to start, and a
  round.

Load on the machine makes these numbers worth nothing; it is printed.
"""

import argparse
import itertools
import json
import os
import re
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from _machine import introduce, keep

from fairyring.secagg import Identity

PARTS = ("round", "check-ins", "memory", "up")
MIB = 1 << 20
HERE = Path(__file__).resolve().parent
PLAN = """
import optax
import fairyring as fr

plan = fr.Plan(
    fr.classification(fr.zoo.logistic_regression(features={features}, classes={classes})),
    local=fr.LocalTraining(optax.sgd(0.1), epochs=1, batch_size=10),
    cohort={devices},
    aggregation=fr.chain(fr.weight_uniformly(), fr.clip(1.0), fr.quantize(bits=16), fr.secure_sum({bits})),
)
"""


class Table:
    """The lines as they are printed, and kept for `--json`."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    def row(self, what: str, measured: float, target: float | None, unit: str, note: str = "") -> None:
        """Print a figure, its target, and how they compare; every target is a most."""
        line = f"{what:52}{measured:10.4g} {unit:6}"
        if target is not None:
            line += f"{target:8.4g}{measured / target:7.2f}  {'met' if measured <= target else 'MISSED'}"
        print(f"{line}  {note}".rstrip(), flush=True)
        self.rows[what.strip()] = {"measured": measured, "unit": unit, "target": target, "note": note}


# -- processes -------------------------------------------------------------------------------------------------


def resident(process: int, name: str = "VmRSS") -> int:
    """Bytes of a process: `VmRSS` now, `VmHWM` at most so far."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def cpu(process: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def child_of(process: int) -> int:
    """The newest child of a process."""
    found = Path(f"/proc/{process}/task").glob("*/children")
    return max(int(child) for children in found for child in children.read_text().split())


class Served:
    """A service, and what an operator of it does."""

    features = 0  # of an example of the plan

    def __init__(self, folder: Path, process: subprocess.Popen[str], url: str) -> None:
        import httpx2

        self.folder, self.process, self.url = folder, process, url
        self.client = httpx2.Client(base_url=url, headers={"fairyring-intent": "command"}, timeout=60.0)

    @property
    def pid(self) -> int:
        """The process that serves."""
        return self.process.pid

    def enrol(self, devices: int) -> tuple[Path, list[bytes]]:
        """Enrol so many devices; the file with their private keys, and their public keys."""
        identities = [Identity.generate() for _ in range(devices)]
        file = self.folder / "keys"
        file.write_bytes(b"".join(identity.private_bytes() for identity in identities))
        public = [identity.public for identity in identities]
        for at in range(0, devices, 5000):
            some = [key.hex() for key in public[at : at + 5000]]
            self.client.post("/v1/devices", content=msgspec.json.encode(some)).raise_for_status()
        return file, public

    def submit(self, text: str, rounds: int, devices: list[bytes]) -> str:
        """Submit a plan, signed; the id of the run."""
        from fairyring.cli._plan_file import PlanFile
        from fairyring.publishing import package
        from fairyring.service.options import RunOptions, Submission

        file = self.folder / "plan.py"
        file.write_text(text)
        plan = PlanFile.read(file, population=False).plan
        columns = {"x": ((self.features,), "float32"), "y": ((), "int32")}
        signed = package(
            plan,
            Identity.generate(),
            name="load",
            rounds=rounds,
            columns=columns,
            examples=10,
            targets=("jax",),
        )
        for digest, blob in signed.blobs.items():
            self.client.put(f"/v1/blobs/{digest.hex()}", content=blob).raise_for_status()
        options = RunOptions(
            rounds=rounds, devices=[key.hex() for key in devices], tries=1, seconds=300.0, stage_seconds=120.0
        )
        body = Submission(
            secrets.token_bytes(16), signed.signed, options, {"plan.py": text.encode()}, "plan.py"
        )
        answer = self.client.post("/v1/runs", content=msgspec.msgpack.encode(body))
        answer.raise_for_status()
        return answer.json()["run"]

    def devices(self, keys: Path, *what: str) -> subprocess.Popen[str]:
        """Start the devices, and wait until they are ready."""
        command = [sys.executable, str(HERE / "_service_devices.py"), self.url, str(keys), *what]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise SystemExit("the devices did not start")
        return process


@contextmanager
def serving() -> Iterator[Served]:
    """`fairyring serve` with a new folder."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        command = [
            sys.executable,
            "-m",
            "fairyring",
            "serve",
            "--data",
            str(folder / "service"),
            "--port",
            "0",
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = process.stdout.readline()
        url = re.search(r"http://\S+", said)
        if url is None:
            raise SystemExit(f"the service did not start: {said}")
        served = Served(folder, process, url[0])
        try:
            yield served
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def finish(process: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
    """What the devices say at their end."""
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise SystemExit("the devices did not end in time") from None
    if process.returncode:
        raise SystemExit(f"the devices ended with {process.returncode}")
    return json.loads(said.splitlines()[-1])


# -- the parts -------------------------------------------------------------------------------------------------


def round_of_many(table: Table, devices: int) -> None:
    """One masked round."""
    from fairyring.service.storage import Storage

    with serving() as served:
        keys, public = served.enrol(devices)
        served.features = 1999
        plan = PLAN.format(features=1999, classes=50, devices=devices, bits=32)
        load = served.devices(keys, "rounds")
        time.sleep(2.0)
        run = served.submit(plan, 1, public)
        with Storage(served.folder / "service" / "service.sqlite") as storage:
            while not (sessions := storage.sessions.of_run(run)):
                if (stored := storage.runs.get(run)) is not None and stored.state == "failed":
                    raise SystemExit(f"{stored.progress}")
                time.sleep(0.02)
            conductor = child_of(served.pid)
            before = cpu(served.pid), cpu(conductor), cpu(load.pid)
            Path(f"/proc/{served.pid}/clear_refs").write_text("5")
            while (session := storage.sessions.get(sessions[0].id)) is not None and session.outcome is None:
                time.sleep(0.05)
            after = cpu(served.pid), cpu(conductor), cpu(load.pid)
            peak, conducting = resident(served.pid, "VmHWM"), resident(conductor, "VmHWM")
            found = finish(load, 120.0)
            while (stored := storage.runs.get(run)) is not None and stored.state not in (
                "finished",
                "failed",
            ):
                time.sleep(0.05)
        assert session is not None
        assert session.ended is not None
        wall = session.ended - session.opened
        spent = [b - a for a, b in zip(before, after, strict=True)]
        what = f"round: {devices} devices, 10^5 parameters"
        table.row(
            what, wall, 90.0, "s", f"{session.outcome} {session.count}, {found['outcomes']} {session.reason}"
        )
        at, last = session.opened, "opened"
        for phase, when in sorted(found["phases"]["1"].items(), key=lambda one: one[1]):
            table.row(f"  {last} -> {phase}", when - at, None, "s")
            at, last = when, phase
        server = secagg_server(devices)
        table.row("  CPU: service", spent[0], None, "s", f"of it the secure sum {server:.2f}")
        table.row("  CPU: conductor", spent[1], None, "s")
        table.row("  CPU: devices", spent[2], None, "s", f"of it the secure sum {found['secagg']:.2f}")
        limit = max(server, found["secagg"], (server + found["secagg"]) / (os.cpu_count() or 1))
        table.row("  limit: the secure sum on these cores", limit, None, "s", f"{wall / limit:.1f} times")
        table.row(
            "  requests a second", found["requests"] / wall, None, "", f"{found['requests']:,} requests"
        )
        table.row("  up", found["up"] / MIB, None, "MiB")
        table.row("  down", found["down"] / MIB, None, "MiB")
        table.row("  resident at most: service", peak / MIB, None, "MiB", f"conductor {conducting / MIB:.0f}")
        if found["refused"]:
            print(f"  refused: {found['refused']}")


def secagg_server(devices: int) -> float:
    """CPU seconds of the server's part of the secure sum, without a service; see `secagg.py`."""
    from secagg import drive, terms_of

    return drive(terms_of(devices, 100_000, "semi_honest")).server


def check_ins(table: Table, devices: int, rate: float, seconds: float) -> None:
    """Check-ins, while nothing else happens."""
    with serving() as served:
        keys, _ = served.enrol(devices)
        load = served.devices(keys, "check-ins", "--rate", str(rate), "--seconds", str(seconds))
        before = cpu(served.pid)
        found = finish(load, seconds + 60.0)
        spent, peak = cpu(served.pid) - before, resident(served.pid, "VmHWM")
    what = f"check-ins: {rate:g} a second for {seconds:g} s, p99"
    note = f"{found['count']} of {devices:,} devices in {found['seconds']:.1f} s, {len(found['failed'])} failed, {found['refused']}"
    table.row(what, 1e3 * found["p99"], 250.0, "ms", note)
    table.row(
        "  p50",
        1e3 * found["p50"],
        None,
        "ms",
        f"most {1e3 * found['most']:.0f}, generator late {1e3 * found['late']:.0f}",
    )
    table.row(
        "  CPU of the service a check-in",
        1e3 * spent / found["count"],
        None,
        "ms",
        f"{spent / found['seconds']:.2f} cores",
    )
    table.row("  CPU of the generator a check-in", 1e3 * found["cpu"] / found["count"], None, "ms")
    table.row("  resident at most", peak / MIB, None, "MiB")


def memory(table: Table, devices: int, rounds: tuple[int, int]) -> None:
    """Memory over many rounds."""
    from fairyring.service.storage import Storage

    with serving() as served:
        keys, public = served.enrol(devices)
        served.features = 64
        plan = PLAN.format(features=64, classes=10, devices=devices, bits=24)
        load = served.devices(keys, "rounds", "--rounds", str(rounds[1]))
        run = served.submit(plan, rounds[1], public)
        sizes: dict[int, tuple[int, int]] = {}
        began = 0.0
        with Storage(served.folder / "service" / "service.sqlite") as storage:
            while len(sizes) < 2:
                stored = storage.runs.get(run)
                if stored is None or stored.state == "failed":
                    raise SystemExit(f"{stored}")
                done = stored.progress.get("round", 0)
                began = began or (time.monotonic() if done else 0.0)
                for wanted in rounds:
                    if done >= wanted and wanted not in sizes:
                        sizes[wanted] = resident(served.pid), resident(child_of(served.pid))
                time.sleep(0.05)
            seconds = time.monotonic() - began
        finish(load, 60.0)
    first, last = (sizes[wanted] for wanted in rounds)
    what = f"memory: service after {rounds[1]} rounds / after {rounds[0]}"
    table.row(what, last[0] / first[0], 1.05, "times", f"{first[0] / MIB:.1f} -> {last[0] / MIB:.1f} MiB")
    table.row(
        "  conductor", last[1] / first[1], None, "times", f"{first[1] / MIB:.1f} -> {last[1] / MIB:.1f} MiB"
    )
    table.row(f"  a round of {devices} devices", seconds / (rounds[1] - 1), None, "s")


def up(table: Table, rounds: int) -> None:
    """A service and devices, from one command."""
    with tempfile.TemporaryDirectory() as place:
        example = HERE.parent / "examples" / "on_devices.py"
        command = [
            sys.executable,
            "-m",
            "fairyring",
            "up",
            str(example),
            "--rounds",
            str(rounds),
            "--out",
            f"{place}/up",
        ]
        began = time.time()
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wall = time.time() - began
        if done.returncode:
            raise SystemExit(done.stdout)
        from fairyring.service.storage import Storage

        with Storage(f"{place}/up/service/service.sqlite") as storage:
            (run,) = storage.runs.all()
            sessions = storage.sessions.of_run(run.id)
    opened = [session.opened for session in sessions]
    between = [b - a for a, b in itertools.pairwise(opened)]
    table.row(f"up: {rounds} rounds of 10 of 20 devices", wall, None, "s")
    table.row("  until the plan was submitted", run.created - began, None, "s")
    table.row("  from there to the first session", opened[0] - run.created, None, "s")
    first = sessions[0].ended or 0.0
    table.row("  first session: until all devices are there", first - opened[0], None, "s")
    table.row(
        "  a round after that, median",
        statistics.median(between[1:]),
        1.0,
        "s",
        f"{min(between[1:]):.2f} to {max(between[1:]):.2f}",
    )
    inside = [s.ended - s.opened for s in sessions[2:] if s.ended is not None]
    table.row("    of it the session", statistics.median(inside), None, "s")
    table.row("  from the last sum to the end", began + wall - (sessions[-1].ended or 0.0), None, "s")


def main() -> None:
    """Measure the parts asked for, and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--part", action="append", choices=PARTS)
    arguments.add_argument("--devices", type=int, default=1000, help="of the part `round`")
    arguments.add_argument("--enrolled", type=int, default=10_000, help="of the part `check-ins`")
    arguments.add_argument("--rate", type=float, default=300.0)
    arguments.add_argument("--seconds", type=float, default=20.0)
    arguments.add_argument("--json", type=Path, help="write every line here")
    given = arguments.parse_args()
    here, table = introduce(), Table()
    print(f"\n{'':52}{'measured':>10} {'':6}{'at most':>8}{'ratio':>7}")
    for part in given.part or PARTS:
        match part:
            case "round":
                round_of_many(table, given.devices)
            case "check-ins":
                check_ins(table, given.enrolled, given.rate, given.seconds)
            case "memory":
                memory(table, 20, (10, 50))
            case "up":
                up(table, 6)
        keep(given.json, here, rows=table.rows)


if __name__ == "__main__":
    main()
