"""A device from its folder: the agent with all its parts, and what its owner is shown of it."""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import msgspec

from fairyring.device.agent import Agent, Trains
from fairyring.device.eligibility import Always, Conditions, LinuxConditions, Rules
from fairyring.device.examples import ExampleStore
from fairyring.device.folder import DeviceFolder
from fairyring.device.ledger import Caps, DeviceLedger
from fairyring.device.owner import owner_state
from fairyring.device.page import OwnerPage, OwnerState
from fairyring.device.randomness import Own, Randomness, Rehearsed
from fairyring.device.settings import FILE, DeviceSettings
from fairyring.device.training import Trainer
from fairyring.device.transport import Transport
from fairyring.messages import Enrol, Enrolled


class RunningDevice:
    """The device in a folder: `with RunningDevice(path) as device: device.agent.run()`.

    Args:
        path: of the folder of a device that was enrolled.
        conditions: when it may train; by default as its settings say.
        trainer: trains; by default the plan's program in a process of its own.

    Attributes:
        agent: of the device.
        page: the owner's page; None without one.

    Raises:
        StorageError, RunDamaged, RunError: the folder is none of a device, or is in use.
    """

    def __init__(
        self, path: Path, *, conditions: Conditions | None = None, trainer: Trains | None = None
    ) -> None:
        self.settings = DeviceSettings.read(path)
        settings = self.settings
        self._stack = ExitStack()
        try:
            self.folder = self._stack.enter_context(DeviceFolder(path))
            self.store = self._stack.enter_context(ExampleStore(self.folder.examples))
            self.ledger = self._stack.enter_context(
                DeviceLedger(self.folder.ledger, Caps(per_day=settings.per_day))
            )
            self.conditions = conditions or _conditions(settings)
            trainer = trainer or Trainer(cores=settings.cores)
            self._stack.callback(trainer.close)
            self.transport = Transport(
                settings.server,
                self.folder.identity,
                service=bytes.fromhex(settings.service),
                fingerprint=settings.fingerprint,
            )
            self._stack.callback(self.transport.close)
            self.agent = Agent(
                self.folder,
                self.transport,
                self.store,
                self.ledger,
                trainer,
                randomness_of(settings, self.folder),
                authors=[bytes.fromhex(author) for author in settings.authors],
                conditions=self.conditions,
                targets=settings.targets or trainer.targets,
            )
            self.agent.on = settings.on
            self.page: OwnerPage | None = None
            if settings.page is not None:
                self.page = self._stack.enter_context(OwnerPage(self.state, self, settings.page))
        except BaseException:
            self._stack.close()
            raise

    def state(self) -> OwnerState:
        """What the owner is shown."""
        return owner_state(self.settings, self.folder, self.store, self.ledger, self.agent, self.conditions)

    def switch(self, on: bool) -> None:
        """Let the device take part, or stop it; nothing leaves it while it is off."""
        self.agent.on = on
        self.settings = msgspec.structs.replace(self.settings, on=on)
        self.settings.write(self.folder.path)

    def forget(self, source: str | None) -> int:
        """Delete the examples of a source, or all of them."""
        return self.store.forget(source)

    def close(self) -> None:
        """End what it runs."""
        self.agent.stopping.set()
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def enrol(
    path: Path,
    server: str,
    token: str,
    *,
    name: str = "",
    fingerprint: str | None = None,
    service: bytes | None = None,
    trust: Callable[[tuple[bytes, ...]], tuple[bytes, ...]] = lambda offered: (),
    change: Callable[[DeviceSettings], DeviceSettings] = lambda settings: settings,
) -> DeviceSettings:
    """Enrol the device in a folder, which is made if there is none.

    Args:
        path: of the folder.
        server: address of the service.
        token: from its operator; empty for a device whose key is on the service's list.
        name: of the device, as the service will know it.
        fingerprint: of the service's certificate, where no authority has signed it.
        service: its public key, if that is known.
        trust: of the authors whose plans run there, those that the owner trusts.
        change: further settings.

    Raises:
        ServiceRefused, ServiceUnreachable: it was not enrolled.
    """
    with DeviceFolder(path) as folder:
        transport = Transport(server, folder.identity, service=service, fingerprint=fingerprint)
        try:
            answer: Enrolled = transport.post("/v1/enrol", Enrol(token, name), Enrolled)
            authors = trust(answer.authors)
            settings = DeviceSettings(
                server=server,
                service=transport.service.hex(),
                fingerprint=fingerprint,
                name=answer.name,
                authors=tuple(author.hex() for author in authors),
            )
        finally:
            transport.close()
        settings = change(settings)
        settings.write(folder.path)
        return settings


def take_part(
    path: str | os.PathLike[str],
    participant: Trains | None = None,
    *,
    server: str | None = None,
    token: str = "",
    name: str = "",
    fingerprint: str | None = None,
    trust: Sequence[str] = (),
    page: int | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Take part in rounds until `stop` is set, or SIGTERM or Ctrl-C where this is called in the main thread.

    Args:
        path: folder of the device, which is enrolled if it is not.
        participant: trains; by default the plan's own training on the examples in the folder.
        server: address of the service; needed to enrol.
        token: from its operator.
        name: of this device, as the service will know it.
        fingerprint: of the service's certificate, where no authority has signed it.
        trust: public keys of authors whose plans are run here, in hexadecimal digits.
        page: port of the owner's page on this machine; 0 for any free one, None for none.
        stop: ends it.

    Raises:
        ServiceRefused, ServiceUnreachable: the device could not be enrolled.
        StorageError, RunError: its folder cannot be used.
    """
    folder = Path(path)
    if server is not None and not (folder / FILE).exists():
        enrol(folder, server, token, name=name, fingerprint=fingerprint)
    settings = DeviceSettings.read(folder)
    added = [key for key in trust if key not in settings.authors]
    msgspec.structs.replace(settings, authors=(*settings.authors, *added), page=page).write(folder)
    stop = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    with RunningDevice(folder, trainer=participant) as device:
        run_until(device, stop)


def randomness_of(settings: DeviceSettings, folder: DeviceFolder) -> Randomness:
    """The device's own randomness; in a rehearsal that of a simulation."""
    rehearsal = settings.rehearsal
    if rehearsal is None:
        return Own(folder.secret)
    entropy = bytes.fromhex(rehearsal.entropy) if rehearsal.entropy is not None else None
    return Rehearsed(rehearsal.seed, entropy)


def _conditions(settings: DeviceSettings) -> Conditions:
    if not (settings.charging or settings.idle or settings.unmetered):
        return Always()
    return LinuxConditions(
        Rules(idle=settings.idle, charging=settings.charging, unmetered=settings.unmetered)
    )


def run_until(device: RunningDevice, stop: threading.Event) -> None:
    """Let a device take part until `stop` is set."""
    thread = threading.Thread(target=device.agent.run, name="agent", daemon=True)
    thread.start()
    while thread.is_alive() and not stop.wait(0.5):
        pass
    device.agent.stopping.set()
    thread.join(timeout=30.0)
