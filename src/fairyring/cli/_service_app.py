"""The commands around a service and its devices, and their options."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter

from fairyring.cli._result import Result

SERVICE = Group("Service", sort_key=4)
DEVICES = Group("Devices", sort_key=4)
PORT = 8440

Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
Strings = Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)]
Url = Annotated[str, Parameter(name="--server")]
User = Annotated[str | None, Parameter(name="--user")]

_HERE = f"http://127.0.0.1:{PORT}"
_DATA = Path("fairyring-service")


def add_service_commands(app: App) -> None:
    """Add the commands to the command line."""
    for command in (serve, submit, runs, top, pause, resume, cancel, logs):
        app.command(command, group=SERVICE)
    for command in (enrol, devices, revoke, key):
        app.command(command, group=DEVICES)
    app.command(conduct, show=False)
    service = App(name="service", help="Look after what a service keeps.", group=SERVICE)
    service.command(migrate)
    service.command(operator)
    service.command(token)
    app.command(service)
    device = App(name="device", help="Take part with a device, and see what it did.", group=DEVICES)
    device.default(device_run)
    for name, command in {
        "status": device_status,
        "on": device_on,
        "off": device_off,
        "forget": device_forget,
        "leave": device_leave,
    }.items():
        device.command(command, name=name)
    app.command(device)


def serve(
    *,
    data: Path = _DATA,
    database: str | None = None,
    blobs: str | None = None,
    host: str = "127.0.0.1",
    port: int = PORT,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    traffic_is_encrypted_by_a_proxy: Flag = False,
    front_only: Flag = False,
) -> Result:
    """Serve devices and operators, and conduct runs, until SIGTERM or Ctrl-C.

    On an address that only this machine reaches nothing needs to be configured. On any other there is TLS, and nobody is an operator before
    `fairyring service operator` adds one. Several processes may serve one database.

    Parameters
    ----------
    data:
        Folder of the service: keys and runs, and unless they are elsewhere database and blobs. Processes of one service share it.
    database:
        URL of a PostgreSQL database, or path of an SQLite file; by default a file in the folder.
    blobs:
        URL of a bucket (s3://bucket/prefix), or a folder; by default a folder in the folder.
    host:
        Address to listen on; 0.0.0.0 for all.
    port:
        Port to listen on.
    tls_cert:
        File of a certificate; by default one of the service's own, whose fingerprint it prints for devices.
    tls_key:
        File of its key.
    traffic_is_encrypted_by_a_proxy:
        Serve without TLS on an address that others reach, since a proxy in front has TLS.
    front_only:
        Leave it to other processes to conduct runs.
    """
    from fairyring.cli import _service

    return _service.serve(
        data,
        database=database,
        blobs=blobs,
        host=host,
        port=port,
        tls_cert=tls_cert,
        tls_key=tls_key,
        without_tls=traffic_is_encrypted_by_a_proxy,
        conducts=not front_only,
    )


def submit(
    file: Path,
    /,
    *,
    sign: Path,
    server: Url = _HERE,
    user: User = None,
    fingerprint: str | None = None,
    rounds: int | None = None,
    seed: int | None = None,
    name: str | None = None,
    examples: int | None = None,
    target: Strings = (),
    selection: Literal["plan", "available"] = "available",
    invite: float = 1.0,
    seconds: float = 600.0,
    stage_seconds: float = 60.0,
) -> Result:
    """Sign the plan of a Python file, and submit it to a service.

    The service runs the file to know the plan, in a process of its own, without its population: write `def population(): ...`. The population
    is only looked at here, for the form of the examples.

    Parameters
    ----------
    file:
        The Python file, as for train.
    sign:
        File with the author's key; see the command key. It does not leave this machine.
    server:
        Address of the service.
    user:
        Sign in with this name. The password is that of the variable FAIRYRING_PASSWORD, or is asked for.
    fingerprint:
        SHA-256 of the service's certificate, where no authority has signed it.
    rounds:
        Number of rounds, instead of the one in the file.
    seed:
        Seed of cohorts and of the first model.
    name:
        Of the plan, for people; by default that of the file.
    examples:
        The most examples that a device trains on in a round; by default as many as the largest client of the population has.
    target:
        What the program is compiled for: iree-x86_64, iree-aarch64, iree-vmvx or jax. May be repeated.
    selection:
        Who is invited to a round: as the plan's cohort samples from all devices (plan), or any of those that are there (available).
    invite:
        With available, how many times as many devices are invited as a round takes.
    seconds:
        That devices have to train, from their invitation on.
    stage_seconds:
        That they have for each further message of a secure sum.
    """
    from fairyring.cli import _service

    return _service.submit(
        file,
        sign,
        _service.Server(server, user, fingerprint),
        rounds=rounds,
        seed=seed,
        name=name,
        examples=examples,
        targets=target,
        selection=selection,
        invite=invite,
        seconds=seconds,
        stage_seconds=stage_seconds,
    )


def runs(*, server: Url = _HERE, user: User = None, fingerprint: str | None = None) -> Result:
    """List the runs of a service.

    Parameters
    ----------
    server:
        Address of the service.
    user:
        Sign in with this name; see submit.
    fingerprint:
        Of the service's certificate; see submit.
    """
    from fairyring.cli import _service

    return _service.runs(_service.Server(server, user, fingerprint))


def top(
    server: str = _HERE, /, *, once: Flag = False, user: User = None, fingerprint: str | None = None
) -> Result:
    """Show the runs and the devices of a service, as its dashboard does, until Ctrl-C.

    Parameters
    ----------
    server:
        Address of the service.
    once:
        Show them once. So it is, too, where the output is no terminal.
    user:
        Sign in with this name; see submit.
    fingerprint:
        Of the service's certificate; see submit.
    """
    from fairyring.cli import _service, _top

    one = _service.Server(server, user, fingerprint, patience=_top.PATIENCE)
    return _top.top(one, once=once)


def pause(run: str, /, *, server: Url = _HERE, user: User = None, fingerprint: str | None = None) -> Result:
    """Let a run pause after the round that it is in.

    Parameters
    ----------
    run:
        Its id.
    server:
        Address of the service.
    user:
        Sign in with this name; see submit.
    fingerprint:
        Of the service's certificate; see submit.
    """
    from fairyring.cli import _service

    return _service.want(_service.Server(server, user, fingerprint), run, "pause")


def resume(run: str, /, *, server: Url = _HERE, user: User = None, fingerprint: str | None = None) -> Result:
    """Let a run go on that was to pause.

    Parameters
    ----------
    run:
        Its id.
    server:
        Address of the service.
    user:
        Sign in with this name; see submit.
    fingerprint:
        Of the service's certificate; see submit.
    """
    from fairyring.cli import _service

    return _service.want(_service.Server(server, user, fingerprint), run, "run")


def cancel(run: str, /, *, server: Url = _HERE, user: User = None, fingerprint: str | None = None) -> Result:
    """End a run. Its rounds so far stay.

    Parameters
    ----------
    run:
        Its id.
    server:
        Address of the service.
    user:
        Sign in with this name; see submit.
    fingerprint:
        Of the service's certificate; see submit.
    """
    from fairyring.cli import _service

    return _service.want(_service.Server(server, user, fingerprint), run, "cancel")


def logs(run: str, /, *, server: Url = _HERE, user: User = None, fingerprint: str | None = None) -> Result:
    """Print what the process that conducts a run has said.

    Parameters
    ----------
    run:
        Its id.
    server:
        Address of the service.
    user:
        Sign in with this name; see submit.
    fingerprint:
        Of the service's certificate; see submit.
    """
    from fairyring.cli import _service

    return _service.logs(_service.Server(server, user, fingerprint), run)


def conduct(run: str, /, *, data: Path = _DATA) -> Result:
    """Conduct a run of a service on this machine to its end. A service does that by itself.

    Parameters
    ----------
    run:
        Its id.
    data:
        Folder of the service.
    """
    from fairyring.cli import _conduct

    return _conduct.conduct(run, data)


def migrate(*, data: Path = _DATA, database: str | None = None) -> Result:
    """Bring the database of an older version up to this one, while nothing else uses it.

    Parameters
    ----------
    data:
        Folder of the service.
    database:
        URL of its database, if that is not in the folder.
    """
    from fairyring.cli import _service

    return _service.migrate(database or str(data / "service.sqlite"))


def operator(
    name: str,
    /,
    *,
    role: Literal["viewer", "operator"] = "operator",
    data: Path = _DATA,
    database: str | None = None,
) -> Result:
    """Add somebody who may see a service (viewer), or also submit, pause, cancel and revoke (operator).

    The password is that of the variable FAIRYRING_PASSWORD, or is asked for.

    Parameters
    ----------
    name:
        Of the operator.
    role:
        What the operator may do.
    data:
        Folder of the service.
    database:
        URL of its database, if that is not in the folder.
    """
    from fairyring.cli import _service

    return _service.operator(name, role, database or str(data / "service.sqlite"))


def token(name: str, /, *, days: float = 365.0, data: Path = _DATA, database: str | None = None) -> Result:
    """Make a token for a program that signs in as an operator or viewer, such as Prometheus. It is shown once.

    Programs send it as `Authorization: Bearer TOKEN`; commands take it from the variable FAIRYRING_TOKEN.

    Parameters
    ----------
    name:
        Of the operator or viewer, whose password is asked for.
    days:
        How long it is good.
    data:
        Folder of the service.
    database:
        URL of its database, if that is not in the folder.
    """
    from fairyring.cli import _service

    return _service.token(name, days, database or str(data / "service.sqlite"))


def key(file: Path, /) -> Result:
    """Make the key of an author of plans, or show the public half of one. Devices trust authors by it.

    Parameters
    ----------
    file:
        Where it is kept. Nobody else should have it.
    """
    from fairyring.cli import _service

    return _service.key(file)


def enrol(
    *,
    quota: int = 1,
    hours: float = 24.0,
    keys: Path | None = None,
    server: Url = _HERE,
    user: User = None,
    fingerprint: str | None = None,
) -> Result:
    """Make a token with which devices enrol, or enrol devices from a list of their keys.

    Parameters
    ----------
    quota:
        How many devices the token enrols.
    hours:
        How long it is good.
    keys:
        File with a public key on each line.
    server:
        Address of the service.
    user:
        Sign in with this name; see submit.
    fingerprint:
        Of the service's certificate; see submit.
    """
    from fairyring.cli import _service

    return _service.enrol(_service.Server(server, user, fingerprint), quota=quota, hours=hours, keys=keys)


def devices(*, server: Url = _HERE, user: User = None, fingerprint: str | None = None) -> Result:
    """List the devices of a service.

    Parameters
    ----------
    server:
        Address of the service.
    user:
        Sign in with this name; see submit.
    fingerprint:
        Of the service's certificate; see submit.
    """
    from fairyring.cli import _service

    return _service.devices(_service.Server(server, user, fingerprint))


def revoke(
    device: str,
    /,
    *,
    reason: str,
    server: Url = _HERE,
    user: User = None,
    fingerprint: str | None = None,
) -> Result:
    """Let a device take part no more.

    Parameters
    ----------
    device:
        The first digits of its key.
    reason:
        For the audit log.
    server:
        Address of the service.
    user:
        Sign in with this name; see submit.
    fingerprint:
        Of the service's certificate; see submit.
    """
    from fairyring.cli import _service

    return _service.revoke(_service.Server(server, user, fingerprint), device, reason)


_FOLDER = Path("fairyring-device")


def device_run(
    *,
    folder: Path = _FOLDER,
    server: str | None = None,
    token: str = "",
    name: str = "",
    fingerprint: str | None = None,
    trust: Strings = (),
    trust_service: Flag = False,
    examples: Annotated[tuple[Path, ...], Parameter(negative=(), show_default=False)] = (),
    consent: Flag = False,
    page: int | None = None,
) -> Result:
    """Take part in rounds with a device, until SIGTERM or Ctrl-C.

    Parameters
    ----------
    folder:
        Of the device: its keys, examples and ledger.
    server:
        Address of the service; needed the first time, to enrol.
    token:
        From the operator of the service, to enrol.
    name:
        Of the device, as the service will know it.
    fingerprint:
        SHA-256 of the service's certificate, where no authority has signed it.
    trust:
        Public key of an author whose plans are run here. May be repeated.
    trust_service:
        When enrolling, trust the authors of the plans that the service runs now.
    examples:
        File with examples: .npz, .csv or .parquet. Each is a source, read anew each time. May be repeated.
    consent:
        The people whose examples these are have agreed to training with them.
    page:
        Serve the owner's page on this port of this machine; 0 for any free one.
    """
    from fairyring.cli import _device

    return _device.run(
        folder,
        server=server,
        token=token,
        name=name,
        fingerprint=fingerprint,
        trust=trust,
        trust_service=trust_service,
        examples=examples,
        consent=consent,
        page=page,
    )


def device_status(*, folder: Path = _FOLDER) -> Result:
    """Show what a device holds, took part in, sent and refused.

    Parameters
    ----------
    folder:
        Of the device.
    """
    from fairyring.cli import _device

    return _device.status(folder)


def device_on(*, folder: Path = _FOLDER) -> Result:
    """Let a device take part, from its next start on.

    Parameters
    ----------
    folder:
        Of the device.
    """
    from fairyring.cli import _device

    return _device.switch(folder, on=True)


def device_off(*, folder: Path = _FOLDER) -> Result:
    """Let a device take part no more, from its next start on. The owner's page stops one that runs.

    Parameters
    ----------
    folder:
        Of the device.
    """
    from fairyring.cli import _device

    return _device.switch(folder, on=False)


def device_forget(*, folder: Path = _FOLDER, source: str | None = None) -> Result:
    """Delete the examples of a device.

    Parameters
    ----------
    folder:
        Of the device.
    source:
        Only those of this source.
    """
    from fairyring.cli import _device

    return _device.forget(folder, source)


def device_leave(*, folder: Path = _FOLDER) -> Result:
    """Delete the keys, examples and settings of a device. What it took part in stays noted.

    Parameters
    ----------
    folder:
        Of the device.
    """
    from fairyring.cli import _device

    return _device.leave(folder)
