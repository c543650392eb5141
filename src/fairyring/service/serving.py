"""A process of the service: it listens, serves devices and operators, and sees that every run has somebody who conducts it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol, Self

from fairyring.core.errors import FairyringError, PlanError, RunError, StorageError
from fairyring.core.extras import require
from fairyring.core.files import make_folder, replace_file
from fairyring.core.lock import Lock
from fairyring.core.platforms import open_many
from fairyring.secagg import Identity
from fairyring.service.app import application
from fairyring.service.blobs import Blobs
from fairyring.service.connections import impatient
from fairyring.service.front import Front, new_owner
from fairyring.service.limits import Rates
from fairyring.service.operator_routes import Operating
from fairyring.service.pace import REHEARSAL, Pace
from fairyring.service.snapshots import Snapshots
from fairyring.service.storage import OVER, Storage
from fairyring.service.tls import Certificate, own_certificate

AT_MOST = 20_000  # connections at a time
AT_ONCE = 2  # runs that one process conducts
LOOK = 1.0  # seconds between two looks for runs that nobody conducts
RESTARTS = 5  # of what conducts a run, before the run counts as failed


class Conductor(Protocol):
    """Something that conducts a run beside the service, such as a process."""

    def poll(self) -> int | None:
        """Its exit status; None while it goes on."""
        ...

    def terminate(self) -> None:
        """End it."""
        ...


class Service:
    """A process of the service: `with Service(data) as service` serves until the block ends.

    Args:
        data: the folder of the service: database and blobs, unless they are elsewhere, keys and the runs' folders. Processes of one service
            share it.
        conduct: begins to conduct a run, by its id; None if other processes do.
        database: its URL; by default a file of SQLite in `data`.
        blobs: a folder or URL; by default a folder in `data`.
        host, port: to listen on; port 0 is any free one.
        certificate: files of a certificate and its key; None for one of its own, where TLS is needed.
        plain: serve without TLS although others can reach the address, as behind a proxy that has TLS.
        pace: how often devices come; by default seldom, and often where only this machine's devices can come.

    Raises:
        PlanError: the address cannot be used.
        StorageError: the data cannot.
        MissingExtra: a package is missing.

    Attributes:
        url: of the service.
        front: serves devices.
        storage, blobs: what it keeps.
        local: whether only this machine reaches it.
    """

    def __init__(
        self,
        data: Path,
        conduct: Callable[["Service", str], Conductor] | None = None,
        *,
        database: str | None = None,
        blobs: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        certificate: tuple[Path, Path] | None = None,
        plain: bool = False,
        pace: Pace | None = None,
        addresses: Rates | None = None,
    ) -> None:
        require("uvicorn", extra="service", purpose="a service")
        open_many(2 * AT_MOST)
        make_folder(data, private=True)
        self.data, self._conduct = data, conduct
        self.runs = data / "runs"
        make_folder(self.runs, private=True)
        self.database, self.blob_place = (
            database or str(data / "service.sqlite"),
            blobs or str(data / "blobs"),
        )
        self.local = local = is_local(host)
        self._certificate: Certificate | None = None
        with _alone(data):  # processes of one service have one key and one certificate
            self.identity = _identity(data / "service.key")
            if certificate is not None:
                from fairyring.service.tls import fingerprint_of

                file, key = certificate
                self._certificate = Certificate(file, key, fingerprint_of(file))
            elif not local and not plain:
                self._certificate = own_certificate(data, host)
        self.owner = new_owner()
        self.storage = Storage(self.database).open()
        self._socket = _listening(host, port)
        self.port = self._socket.getsockname()[1]
        shown = {"0.0.0.0": socket.gethostname(), "": socket.gethostname(), "::": socket.gethostname()}.get(
            host, host
        )
        scheme = "http" if self._certificate is None else "https"
        self.url = f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{self.port}"
        self.blobs = Blobs(self.blob_place)
        self.front = Front(
            self.storage,
            self.blobs,
            self.identity,
            owner=self.owner,
            address=self.url,
            pace=pace or (REHEARSAL if local else Pace()),
            addresses=addresses,
            rates=Rates(rate=200.0, burst=1000.0) if local else None,
        )
        snapshots = Snapshots(self.front, self.runs, self.url)
        self._woken = threading.Event()
        self._ending = threading.Event()
        operating = Operating(
            snapshots,
            self.runs,
            local=local,
            secure=self._certificate is not None,
            submitted=self._woken.set,
        )
        self.snapshots = snapshots
        self._server = self._uvicorn(
            application(
                self.front, operating, self._certificate.file if self._certificate is not None else None
            )
        )
        self._threads: list[threading.Thread] = []
        self._conducting: dict[str, Conductor] = {}
        self._restarts: dict[str, tuple[int, int]] = {}  # in which round of a run, and how often

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 of the certificate in hexadecimal digits; None without TLS."""
        return self._certificate.fingerprint if self._certificate is not None else None

    def wake(self) -> None:
        """Look for runs at once."""
        self._woken.set()

    def __enter__(self) -> Self:
        serving = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="service", daemon=True
        )
        serving.start()
        self._threads.append(serving)
        while not self._server.started:
            if not serving.is_alive():
                raise StorageError(
                    self.url,
                    given="a server that ended as it began",
                    expected="one that listens",
                    do="See its log.",
                )
            time.sleep(0.005)
        if self._conduct is not None:
            watching = threading.Thread(target=self._watch, name="runs", daemon=True)
            watching.start()
            self._threads.append(watching)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop serving. Runs that it conducts are ended, and go on when the service does."""
        self._ending.set()
        self._woken.set()
        for conductor in self._conducting.values():
            conductor.terminate()
        self._server.should_exit = True
        for thread in self._threads:
            thread.join(timeout=30.0)
        self._socket.close()
        self.storage.close()

    # -- runs -------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._ending.is_set():
            self._woken.wait(LOOK)
            self._woken.clear()
            try:
                self._attend()
            except FairyringError:
                continue  # the database cannot be reached: look again

    def _attend(self) -> None:
        assert self._conduct is not None
        for run, conductor in list(self._conducting.items()):
            status = conductor.poll()
            if status is None:
                continue
            del self._conducting[run]
            stored = self.storage.runs.get(run)
            if stored is None or stored.state in OVER:
                continue
            round = stored.progress.get("round", 0)
            at, times = self._restarts.get(run, (round, 0))
            self._restarts[run] = round, times + 1 if at == round else 1
            if self._restarts[run][1] > RESTARTS:
                why = f"what conducts it ended {RESTARTS} times in one round, the last time with {status}; see its log"
                self.storage.runs.update(run, "failed", stored.progress | {"error": why})
                self.storage.sessions.clear(run, "the run has failed")
        for stored in self.storage.runs.all():
            if self._ending.is_set() or len(self._conducting) >= AT_ONCE:
                return
            if stored.state in OVER or stored.id in self._conducting:
                continue
            if self.storage.leases.holder(f"run {stored.id}") is None:
                self._conducting[stored.id] = self._conduct(self, stored.id)

    def _uvicorn(self, app: Any) -> Any:
        import uvicorn

        certificate = self._certificate
        config = uvicorn.Config(
            app,
            log_config=None,  # whoever runs the service decides where its log goes
            log_level="warning",
            access_log=False,
            http=impatient(),
            ws="none",
            lifespan="on",
            timeout_keep_alive=75,
            limit_concurrency=AT_MOST,
            backlog=4096,
            server_header=False,
            ssl_certfile=str(certificate.file) if certificate is not None else None,
            ssl_keyfile=str(certificate.key) if certificate is not None else None,
            timeout_graceful_shutdown=2,
        )
        if certificate is not None:
            import ssl

            config.load()
            assert config.ssl is not None
            config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # pyright: ignore[reportAttributeAccessIssue] the caller's signals stay its own
        return server


def is_local(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Wait until no other process begins."""
    until = time.monotonic() + 30.0
    while True:
        try:
            lock = Lock(data / "begin.lock", what="folder of a service", why="both would make its key")
            break
        except StorageError:
            raise
        except RunError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
    try:
        yield
    finally:
        lock.release()


def _identity(path: Path) -> Identity:
    if not path.exists():
        replace_file(path, Identity.generate().private_bytes(), mode=0o600)
    return Identity(path.read_bytes())


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(4096)
    except (OSError, OverflowError) as error:
        listening.close()
        raise PlanError(
            "address",
            given=f"{host}:{port}: {getattr(error, 'strerror', None) or error}",
            expected="a free port of this machine",
            do="Choose another --port, or 0 for any free one.",
        ) from error
    return listening
