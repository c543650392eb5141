"""`fairyring-device`: what the owner of a device does at a command line. It needs nothing but the standard library beside the device itself."""

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from fairyring._version import __version__
from fairyring.core.errors import FairyringError, RunError
from fairyring.core.platforms import end_with_parent
from fairyring.device.eligibility import Always
from fairyring.device.examples import ExampleStore
from fairyring.device.folder import DeviceFolder
from fairyring.device.ledger import DeviceLedger
from fairyring.device.owner import owner_state
from fairyring.device.page import OwnerState
from fairyring.device.reading import from_file
from fairyring.device.running import RunningDevice, enrol, run_until
from fairyring.device.settings import FILE, DeviceSettings

Say = Callable[[str], object]


def begin(
    folder: Path,
    *,
    server: str | None = None,
    token: str = "",
    name: str = "",
    fingerprint: str | None = None,
    trust: Sequence[str] = (),
    trust_service: bool = False,
    examples: Sequence[Path] = (),
    consent: bool = False,
    page: int | None = None,
    say: Say = print,
) -> None:
    """Enrol the device in a folder, if it is not, and let it take part until SIGTERM or Ctrl-C.

    Args:
        folder: of the device.
        server: address of the service; needed to enrol.
        token: from its operator.
        name: of this device.
        fingerprint: of the service's certificate.
        trust: public keys of authors whose plans are run here.
        trust_service: trust the authors of the plans that the service runs now, as it names them.
        examples: files with examples, each of which is a source of its own; one that was read before is read anew.
        consent: the people whose examples these are have agreed to training with them.
        page: port of the owner's page on this machine; 0 for any free one, None for none.
        say: is told what happens.
    """
    if server is not None and not (folder / FILE).exists():

        def trusted(offered: tuple[bytes, ...]) -> tuple[bytes, ...]:
            given = tuple(bytes.fromhex(key) for key in trust)
            return (*given, *(key for key in offered if key not in given)) if trust_service else given

        settings = enrol(folder, server, token, name=name, fingerprint=fingerprint, trust=trusted)
        say(f"enrolled at {server} as {settings.name or 'a device without a name'}")
    settings = DeviceSettings.read(folder)
    added = [key for key in trust if key not in settings.authors]
    settings = msgspec.structs.replace(settings, authors=(*settings.authors, *added), page=page)
    settings.write(folder)
    if not settings.authors:
        say("No author is trusted, so no plan will be run: name one with --trust KEY.")
    with RunningDevice(folder) as device:
        for path in examples:
            columns = from_file(path)
            device.store.forget(path.name)
            device.store.add(path.name, columns, consent="training" if consent else "withheld")
            say(f"{path.name}: {len(next(iter(columns.values()))):,} examples")
        if examples and not consent:
            say("Nothing is trained with these examples before --consent says that their people agree.")
        if device.page is not None:
            say(f"the owner's page: {device.page.url}")
        stop = threading.Event()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stop.set())
        run_until(device, stop)


def status(folder: Path) -> OwnerState:
    """What a device holds, took part in and refused."""
    settings = DeviceSettings.read(folder)
    with (
        DeviceFolder(folder, locked=False) as kept,
        ExampleStore(kept.examples) as store,
        DeviceLedger(kept.ledger) as ledger,
    ):
        return owner_state(settings, kept, store, ledger, None, Always())


def switch(folder: Path, on: bool) -> None:
    """Let a device take part, or stop it, from its next start on."""
    msgspec.structs.replace(DeviceSettings.read(folder), on=on).write(folder)


def forget(folder: Path, source: str | None = None) -> int:
    """Delete the examples of a source, or all of them. Returns how many they were."""
    with DeviceFolder(folder, locked=False) as kept, ExampleStore(kept.examples) as store:
        return store.forget(source)


def leave(folder: Path) -> None:
    """Delete the device's keys, examples and settings: it is enrolled nowhere any more. Its ledger stays."""
    with DeviceFolder(folder) as kept:
        kept.forget()
        (folder / FILE).unlink(missing_ok=True)


def told(state: OwnerState) -> list[str]:
    """The lines of `status`."""
    said = [
        f"device {state.device} {state.name}".strip(),
        f"service    {state.service}",
        f"takes part {'yes' if state.on else 'no, it is switched off'}; {state.doing}",
        f"rounds     {state.totals.rounds}, {state.totals.bytes_up:,} bytes sent",
    ]
    said += [f"examples   {one.source}: {one.number:,}, {one.consent}" for one in state.examples]
    for one in state.taken_part[:10]:
        how = "under masks" if one.masked else "in the clear"
        said.append(f"round {one.round:<5}{one.plan}: {one.bytes_up:,} bytes {how}, {one.outcome}")
    said += [f"refused    {one.what}: {one.why}" for one in state.refused[:10]]
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="fairyring-device", description="Takes part in federated learning.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="enrol if need be, and take part")
    run.add_argument("--server", help="address of the service")
    run.add_argument("--token", default="", help="from the operator of the service")
    run.add_argument("--name", default="", help="of this device")
    run.add_argument("--fingerprint", help="SHA-256 of the service's certificate")
    run.add_argument(
        "--trust", action="append", default=[], help="public key of an author whose plans are run"
    )
    run.add_argument(
        "--trust-service", action="store_true", help="trust the authors that the service names now"
    )
    run.add_argument("--examples", action="append", default=[], type=Path, help=".npz, .csv or .parquet")
    run.add_argument("--consent", action="store_true", help="their people agree to training with them")
    run.add_argument("--page", type=int, help="port of the owner's page")
    run.add_argument(
        "--with-parent", action="store_true", help="end when the process that started this one does"
    )
    for name, about in (
        ("status", "what it holds, took part in and refused"),
        ("on", "let it take part"),
        ("off", "let it take part no more"),
        ("leave", "delete its keys, examples and settings"),
    ):
        commands.add_parser(name, help=about)
    forgetting = commands.add_parser("forget", help="delete examples")
    forgetting.add_argument("--source", help="only of this source")
    for command in commands.choices.values():
        command.add_argument("--folder", type=Path, default=Path("device"), help="of the device")
    given = vars(parser.parse_args(arguments))
    command, folder = given.pop("command"), given.pop("folder")
    try:
        match command:
            case "run":
                if given.pop("with_parent"):
                    end_with_parent()
                begin(folder, **given)
            case "status":
                print("\n".join(told(status(folder))))
            case "forget":
                print(f"{forget(folder, given['source']):,} examples deleted")
            case "leave":
                leave(folder)
                print("left")
            case _:
                switch(folder, command == "on")
    except (FairyringError, RunError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
