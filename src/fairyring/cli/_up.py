"""`up`: a service and devices on this machine. The plan of a file runs over a network as it would among strangers."""

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fairyring.cli._plan_file import PlanFile, settings_from
from fairyring.cli._result import Interrupted, Result
from fairyring.cli._screen import say, screen
from fairyring.cli._terminal import show_cautions, summarise, summary, without_warnings
from fairyring.core.errors import FairyringError, PlanError, RunError
from fairyring.core.reading import read_json
from fairyring.records.layout import RUN

_READY = 60.0  # seconds in which the devices have to come


def up(
    file: Path,
    *,
    devices: int | None = None,
    rounds: int | None = None,
    seed: int | None = None,
    settings: Sequence[str] = (),
    out: Path | None = None,
    rehearse: bool = False,
    target: str | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Result:
    """Run the plan of a file on a service and devices; see the command `up`."""
    from fairyring.learning import override
    from fairyring.messages import Manifest
    from fairyring.publishing import package, targets_of_this_machine
    from fairyring.secagg import Identity

    with without_warnings(), ExitStack() as stack:
        given = PlanFile.read(file)
        changes = settings_from(settings)
        plan = override(given.plan, changes) if changes else given.plan
        planned = given.planned_rounds(file, rounds)
        participants = given.participants
        if participants is not None:
            _check_participants(participants, given.population, devices)
        population = shares_of(given.population, devices)
        _check_cohort(plan, len(population))
        folder = _new_folder(out, file.stem)
        console = screen()
        show_cautions(console, plan, population, planned)
        if target is None:
            native = [one for one in targets_of_this_machine() if one not in ("jax", "iree-vmvx")]
            compiles = (
                bool(native) and find_spec("iree") is not None and find_spec("iree.compiler") is not None
            )
            target = native[0] if compiles else "jax"
        say(f"A service and {len(population)} devices on this machine; {plan_words(plan)}.")
        author = Identity.generate()
        signed = package(
            plan,
            author,
            name=file.stem,
            rounds=planned,
            columns=plan.task.columns_of(population),
            examples=int(np.max(population.sizes)),
            targets=(target,),
            participants=participants is not None,
        )
        size = len(next(iter(signed.blobs.values())))
        say(f"The plan is signed; its program for {target} has {size / 1000:,.0f} kB.")
        number = seed if seed is not None else given.seed or 0
        entropy = secrets.token_bytes(32) if rehearse and plan.protection is not None else None
        served = _Served(plan, given.test, folder, host, port, planned, console)
        service = stack.enter_context(served.service)
        keys = _enrolled(
            population,
            folder,
            service,
            signed.manifest,
            number,
            entropy,
            rehearse,
            target,
            participants is not None,
        )
        running = stack.enter_context(
            _Processes(folder, len(population)) if participants is None else _Threads(folder, participants)
        )
        run = served.submit(signed, planned, number, keys, population, entropy, given.evaluate_every)
        say(f"Watch it: {service.url}", "")
        try:
            state = served.wait(run, running)
        except KeyboardInterrupt:
            raise Interrupted("Stopped. Devices and service have ended.") from None
        assert isinstance(signed.manifest, Manifest)
    runs = folder / "service" / "runs" / run
    facts = read_json((runs / RUN).read_bytes(), dict[str, Any])
    if state != "finished":
        raise RunError(
            f"run {run}",
            given=f"a run that ended as {state}",
            expected="one that finished",
            do=f"See {runs}.",
        )
    page, records = served.page, served.records
    left = served.left()
    if not any(record.clients for record in records):
        raise RunError(
            f"run {run}",
            given=f"no round with a sum; devices left: {left or 'none said why'}",
            expected="devices that report",
            do=f"See fairyring device status --folder {_device_folder(folder, 0)}.",
        )

    def show() -> None:
        summarise(screen(), records, facts, runs, page)
        up_bytes = sum(record.bytes_up for record in records)
        if left:
            say(f"devices left rounds: {left}")
        say(f"{len(population)} devices sent {up_bytes / 1e6:,.1f} MB in {len(records)} rounds.")

    found = summary(records, facts, runs, page)
    return Result({**found, "devices": len(population), "service": str(folder / "service")}, show)


def plan_words(plan: Any) -> str:
    """What is done with updates, in a few words."""
    if plan.terms is not None:
        return "masks hide each device's update"
    return "nothing masks the devices' updates"


def shares_of(population: Any, devices: int | None) -> Any:
    """The population as so many clients: its own, or several of them together on each device."""
    from fairyring.population import Population

    clients = np.flatnonzero(np.asarray(population.sizes) > 0)
    wanted = len(clients) if devices is None else devices
    if wanted < 1 or wanted > len(clients):
        raise PlanError(
            "--devices",
            given=f"{wanted}",
            expected=f"1 to {len(clients)}, the clients that have examples",
            do=f"Give --devices {min(20, len(clients))}.",
        )
    if wanted == len(population):
        return population
    rows: dict[str, list[np.ndarray]] = {}
    owners: list[np.ndarray] = []
    for device in range(wanted):
        for client in clients[device::wanted]:
            columns = population.client(int(client))
            for name, column in columns.items():
                rows.setdefault(name, []).append(np.asarray(column))
            owners.append(np.full(len(next(iter(columns.values()))), device))
    joined = {name: np.concatenate(parts) for name, parts in rows.items()}
    return Population.from_arrays(joined, client=np.concatenate(owners))


class _Served:
    """The service, and the run that this process conducts."""

    def __init__(
        self, plan: Any, test: Any, folder: Path, host: str, port: int, rounds: int, console: Any
    ) -> None:
        from fairyring.rounds.progress import LiveProgress
        from fairyring.service import Service

        self._plan, self._test = plan, test
        self._progress = LiveProgress(console, rounds)
        self.records: list[Any] = []
        self.page: Path | None = None
        self.state: str | None = None
        self.error: BaseException | None = None
        self._failures: dict[str, int] = {}
        self.service = Service(folder / "service", self._conduct, host=host, port=port)

    def submit(
        self,
        signed: Any,
        rounds: int,
        seed: int,
        keys: list[bytes],
        population: Any,
        entropy: bytes | None,
        evaluate_every: int | None,
    ) -> str:
        """Submit the plan; returns the id of the run."""
        from fairyring.service import RunOptions

        service = self.service
        for blob in signed.blobs.values():
            service.blobs.put(blob)
        options = RunOptions(
            rounds=rounds,
            seed=seed,
            evaluate_every=evaluate_every,
            devices=[key.hex() for key in keys],
            sizes=[int(size) for size in population.sizes],
            entropy=entropy.hex() if entropy is not None else None,
            seconds=600.0,
        )
        manifest = signed.manifest
        run = service.storage.runs.submit(
            manifest.name, service.blobs.put(signed.signed), manifest.author, options.plain(), by="up"
        )
        service.wake()
        return run

    def wait(self, run: str, running: "_Processes | _Threads") -> str:
        """Wait until the run has ended; returns the state that it ended in."""
        with self._progress:
            while self.state is None:
                if self.error is not None:
                    raise self.error
                running.check()
                time.sleep(0.05)
        return self.state

    def left(self) -> str:
        """How many devices left rounds, for which reasons."""
        return ", ".join(f"{reason} {count}" for reason, count in self._failures.items())

    def _conduct(self, service: Any, run: str) -> "_Thread":
        return _Thread(lambda: self._go(service, run))

    def _go(self, service: Any, run: str) -> None:
        from fairyring.report import write_report
        from fairyring.service import Runner

        try:
            stored = service.storage.runs.get(run)
            runner = Runner(
                service.storage,
                service.blobs,
                stored,
                self._plan,
                self._test,
                service.runs,
                owner="up",
                opened=service.front.wake,
            )
            try:
                state = runner.go(self._round)
                try:
                    self.page = write_report(service.runs / run)
                except FairyringError:
                    self.page = None
                runner.end(state)
                self._failures = dict(runner.failures)
            finally:
                runner.close()
            self.state = state
        except BaseException as error:
            self.error = error

    def _round(self, record: Any) -> None:
        self.records.append(record)
        self._progress(record)


class _Thread:
    """Conducts in a thread of this process, which has the plan already."""

    def __init__(self, go: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=go, name="conductor", daemon=True)
        self._thread.start()

    def poll(self) -> int | None:
        return None if self._thread.is_alive() else 0

    def terminate(self) -> None:
        """It ends with this process."""


def _enrolled(
    population: Any,
    folder: Path,
    service: Any,
    manifest: Any,
    seed: int,
    entropy: bytes | None,
    rehearse: bool,
    target: str,
    participants: bool,
) -> list[bytes]:
    """A folder for each device, with its examples; returns their keys."""
    from fairyring.device import DeviceFolder, ExampleStore
    from fairyring.device.settings import DeviceSettings, Rehearsal

    keys = []
    for client in range(len(population)):
        with DeviceFolder(_device_folder(folder, client)) as kept:
            keys.append(kept.identity.public)
            with ExampleStore(kept.examples) as store:
                columns = {c.name: np.asarray(population.client(client)[c.name]) for c in manifest.columns}
                store.add("share", columns, consent="training")
            DeviceSettings(
                server=service.url,
                service=service.identity.public.hex(),
                fingerprint=service.fingerprint,
                name=f"device {client}",
                authors=(manifest.author.hex(),),
                targets=() if participants else (target,),
                cores=1,
                rehearsal=Rehearsal(seed, entropy.hex() if entropy is not None else None)
                if rehearse
                else None,
            ).write(kept.path)
    service.storage.devices.allow(keys)
    return keys


class _Processes:
    """The devices' processes."""

    def __init__(self, folder: Path, devices: int) -> None:
        self._folder, self._devices = folder, devices
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "_Processes":
        for device in range(self._devices):
            folder = _device_folder(self._folder, device)
            with (folder / "log").open("ab") as log:
                self._running.append(
                    subprocess.Popen(
                        [
                            *(sys.executable, "-m", "fairyring.device.command", "run", "--with-parent"),
                            *("--folder", str(folder)),
                        ],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                        start_new_session=True,
                    )
                )
        return self

    def check(self) -> None:
        """Raise `RunError` if a device has ended."""
        for device, process in enumerate(self._running):
            if process.poll() is not None:
                log = (_device_folder(self._folder, device) / "log").read_text(errors="replace")
                raise RunError(
                    f"device {device}",
                    given=f"ended with {process.returncode}: {log.strip()[-500:]}",
                    expected="a device that goes on",
                    do="Mend that, and run the command again.",
                )

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.terminate()
        until = time.monotonic() + 10.0
        for process in self._running:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class _Threads:
    """Participants with a training of their own, each in a thread of this process."""

    def __init__(self, folder: Path, participants: Sequence[Any]) -> None:
        self._stop, self._error = threading.Event(), None
        self._threads = [
            threading.Thread(target=self._run, args=(_device_folder(folder, place), one), daemon=True)
            for place, one in enumerate(participants)
        ]

    def _run(self, folder: Path, participant: Any) -> None:
        from fairyring.device import take_part

        try:
            take_part(folder, participant, stop=self._stop)
        except BaseException as error:
            self._error = error

    def __enter__(self) -> "_Threads":
        for thread in self._threads:
            thread.start()
        return self

    def check(self) -> None:
        """Raise what ended a participant."""
        if self._error is not None:
            raise self._error

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30.0)


def _device_folder(folder: Path, device: int) -> Path:
    return folder / "devices" / f"{device:04d}"


def _check_participants(participants: Any, population: Any, devices: int | None) -> None:
    clients = int(np.count_nonzero(np.asarray(population.sizes)))
    if devices is not None or not isinstance(participants, Sequence) or len(participants) != clients:
        raise PlanError(
            "participants",
            given=f"{len(participants) if isinstance(participants, Sequence) else participants!r:.80}"
            + (", and --devices" if devices is not None else ""),
            expected=f"a list of one for each of the {clients} clients",
            do="Give each client of the population its participant, in order.",
        )


def _check_cohort(plan: Any, devices: int) -> None:
    maximum = plan.rule.maximum
    if maximum > devices:
        raise PlanError(
            "cohort",
            given=f"{maximum} devices a round, of {devices}",
            expected=f"at most {devices}",
            do=f"Give --devices {maximum} or more, or --set cohort={devices}.",
        )


def _new_folder(out: Path | None, name: str) -> Path:
    """The folder for this time: what an earlier one left, a ledger among it, stays."""
    if out is not None:
        if out.exists() and any(out.iterdir()):
            raise RunError(
                str(out),
                given="a folder with something in it",
                expected="a new one",
                do="Give another with --out.",
            )
        return out
    number = 1
    while (folder := Path("runs") / (f"{name}-devices" + (f"-{number}" if number > 1 else ""))).exists():
        number += 1
    return folder
