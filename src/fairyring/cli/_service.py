"""The commands around a service: serving, submitting plans, and what operators do. They speak to a service over HTTP, wherever it is."""

import getpass
import os
import secrets
import signal
import ssl
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from fairyring.cli._plan_file import PlanFile, modules_beside
from fairyring.cli._result import Result
from fairyring.cli._screen import say, show_table
from fairyring.core.errors import FairyringError, PlanError, RunError
from fairyring.core.extras import require
from fairyring.core.files import replace_file

TOKEN, PASSWORD = "FAIRYRING_TOKEN", "FAIRYRING_PASSWORD"


def serve(
    data: Path,
    *,
    database: str | None,
    blobs: str | None,
    host: str,
    port: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    without_tls: bool,
    conducts: bool,
) -> Result:
    """Serve until SIGTERM or Ctrl-C; see the command `serve`."""
    from fairyring.cli._conduct import conductor
    from fairyring.service import Service

    if (tls_cert is None) != (tls_key is None):
        raise PlanError(
            "TLS", given="one of --tls-cert and --tls-key", expected="both, or neither", do="Give both."
        )
    certificate = (tls_cert, tls_key) if tls_cert is not None and tls_key is not None else None
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Service(
        data,
        conductor if conducts else None,
        database=database,
        blobs=blobs,
        host=host,
        port=port,
        certificate=certificate,
        plain=without_tls,
    ) as service:
        say(f"serving at {service.url}")
        say(f"key          {service.identity.public.hex()}")
        if service.fingerprint is not None:
            say(f"certificate  {service.fingerprint}")
        operators = service.storage.operators.all()
        if not operators:
            who = (
                "whoever is on this machine"
                if service.local
                else "nobody, before fairyring operator adds one"
            )
            say(f"operators    none yet: {who}")
        sys.stdout.flush()
        while not stop.wait(1.0):
            pass
    return Result({"url": service.url}, lambda: say("stopped; runs go on when the service is started again"))


def migrate(database: str) -> Result:
    """Bring a database of an older version up to this one."""
    from fairyring.service.storage import Database

    with Database(database) as kept:
        kept.migrate()
    return Result({"database": kept.name}, lambda: say(f"{kept.name} is of this version"))


def operator(name: str, role: str, database: str) -> Result:
    """Add an operator, with a password that is asked for."""
    from fairyring.service.storage import Storage

    with Storage(database) as storage:
        storage.operators.add(name, _password(name), role)  # pyright: ignore[reportArgumentType] it checks
        storage.audit.note("command line", "add operator", {"name": name, "role": role})
    return Result({"operator": name, "role": role}, lambda: say(f"{name} is {role}"))


def token(name: str, days: float, database: str) -> Result:
    """A token for a program that signs in as an operator or viewer."""
    from fairyring.service.storage import Storage

    with Storage(database) as storage:
        text = storage.operators.login(name, _password(name), seconds=days * 86400.0)
        if text is None:
            raise RunError(
                f"operator {name!r}",
                given="another name or password",
                expected="those of an operator or viewer",
                do="Add one: fairyring service operator.",
            )
        storage.audit.note("command line", "create login token", {"name": name, "days": days})
    return Result({"token": text, "days": days}, lambda: say(text))


def key(path: Path) -> Result:
    """Make the key pair of an author of plans, or show the public half of one."""
    from fairyring.secagg import Identity

    if not path.exists():
        replace_file(path, Identity.generate().private_bytes(), mode=0o600)
    public = _author(path).public.hex()
    return Result({"file": path, "public": public}, lambda: say(public))


def submit(
    file: Path,
    sign: Path,
    server: "Server",
    *,
    rounds: int | None,
    seed: int | None,
    name: str | None,
    examples: int | None,
    targets: Sequence[str],
    selection: str,
    invite: float,
    seconds: float,
    stage_seconds: float,
) -> Result:
    """Sign a plan, and submit it to a service; see the command `submit`."""
    from fairyring.publishing import package, targets_of_this_machine
    from fairyring.service import RunOptions, Submission

    given = PlanFile.read(file)
    plan = given.plan
    planned = given.planned_rounds(file, rounds)
    signed = package(
        plan,
        _author(sign),
        name=name or file.stem,
        rounds=planned,
        columns=plan.task.columns_of(given.population),
        examples=examples or int(max(given.population.sizes)),
        targets=tuple(targets) or tuple(one for one in targets_of_this_machine() if one != "iree-vmvx"),
        participants=True,
    )
    number = seed if seed is not None else given.seed or 0
    options = RunOptions(
        rounds=planned,
        seed=number,
        evaluate_every=given.evaluate_every,
        selection=selection,  # pyright: ignore[reportArgumentType] the command line offers no others
        invite=invite,
        seconds=seconds,
        stage_seconds=stage_seconds,
    )
    folder = file.resolve().parent
    files = {file.name: file.read_bytes()}
    for module in modules_beside(file):
        path = Path(str(module.__file__)).resolve()
        files[str(path.relative_to(folder))] = path.read_bytes()
    for digest, blob in signed.blobs.items():
        server.put(f"/v1/blobs/{digest.hex()}", blob)
    body = Submission(secrets.token_bytes(16), signed.signed, options, files, file.name)
    run = server.post_bytes("/v1/runs", msgspec.msgpack.encode(body))["run"]

    def show() -> None:
        say(f"run {run}: {planned} rounds, signed by {signed.manifest.author.hex()[:16]}")
        say(f"watch it at {server.url}, or with fairyring top {server.url}")

    return Result({"run": run, "manifest": signed.digest.hex(), "author": signed.manifest.author.hex()}, show)


def runs(server: "Server") -> Result:
    """The runs of a service."""
    found = server.get("/v1/snapshot")["runs"]

    def show() -> None:
        columns = ("run", "name", "state", "round", "loss", "epsilon")
        rows = [
            (
                run["id"],
                run["name"],
                run["state"] if run["wanted"] != "pause" else f"{run['state']}, to pause",
                f"{run['round']}/{run['rounds']}",
                "" if run["loss"] is None else f"{run['loss']:.4g}",
                "" if run["epsilon_spent"] is None else f"{run['epsilon_spent']:.3g}",
            )
            for run in found
        ]
        show_table(columns, rows) if rows else say("no runs yet: fairyring submit FILE.py --sign KEY")

    return Result({"runs": found}, show)


def want(server: "Server", run: str, what: str) -> Result:
    """Let a run pause, go on or end."""
    server.post(f"/v1/runs/{run}/want", {"what": what})
    words = {"pause": "pauses after its round", "run": "goes on", "cancel": "ends"}
    return Result({"run": run, "wanted": what}, lambda: say(f"{run} {words[what]}"))


def logs(server: "Server", run: str) -> Result:
    """What the process that conducts a run has said."""
    text = server.text(f"/v1/runs/{run}/log")
    return Result({"run": run, "log": text}, lambda: print(text, end=""))


def enrol(server: "Server", *, quota: int, hours: float, keys: Path | None) -> Result:
    """A token with which devices enrol; or devices from a list of keys."""
    if keys is not None:
        listed = [line.strip() for line in keys.read_text("utf-8").splitlines() if line.strip()]
        new = server.post("/v1/devices", listed)["new"]
        return Result({"new": new}, lambda: say(f"{new} devices are new"))
    token = server.post("/v1/tokens", {"quota": quota, "seconds": hours * 3600})["token"]

    def show() -> None:
        say(token)
        print(f"for {quota} devices, {hours:g} hours; shown once", file=sys.stderr)

    return Result({"token": token, "quota": quota, "hours": hours}, show)


def devices(server: "Server") -> Result:
    """The devices of a service."""
    found = server.get("/v1/devices")

    def when(device: Mapping[str, Any]) -> str:
        return "never" if device["seen"] is None else f"{(time.time() - device['seen']) / 60:.0f} min ago"

    def show() -> None:
        rows = [
            (
                device["key"][:16],
                device["name"],
                when(device),
                device["version"],
                device["runtime"],
                "good" if device["revoked"] is None else f"revoked: {device['reason']}",
            )
            for device in found
        ]
        show_table(("key", "name", "seen", "version", "runtime", "standing"), rows) if rows else say(
            "no devices yet"
        )

    return Result({"devices": found}, show)


def revoke(server: "Server", device: str, reason: str) -> Result:
    """Let a device take part no more."""
    matching = [one["key"] for one in server.get("/v1/devices") if one["key"].startswith(device)]
    if len(matching) != 1:
        raise RunError(
            f"device {device!r}",
            given=f"{len(matching)} devices whose key begins so",
            expected="one",
            do="See fairyring devices.",
        )
    revoked = server.post(f"/v1/devices/{matching[0]}/revoke", {"reason": reason})["revoked"]
    return Result(
        {"device": matching[0], "revoked": revoked},
        lambda: say("revoked" if revoked else "it was revoked before"),
    )


class Server:
    """A service, to who operates it.

    Args:
        url: its address.
        name: of the operator; None on the machine of a service without operators, or where the environment has a token.
        fingerprint: of its certificate, where no authority has signed it.
        patience: seconds after which a service that says nothing does not answer.

    Raises:
        MissingExtra: the HTTP client is not installed.
        RunError: name or password are not those of an operator.
    """

    def __init__(
        self, url: str, name: str | None = None, fingerprint: str | None = None, *, patience: float = 60.0
    ) -> None:
        require("httpx2", extra="service", purpose="speaking to a service")
        import httpx2

        self.url, self._http = url.rstrip("/"), httpx2
        self._verify = _trusting(self.url, fingerprint) if fingerprint is not None else True
        self._patience = patience
        self._headers = {"fairyring-intent": "command"}
        token = os.environ.get(TOKEN)
        if token is not None or name is not None:
            _refuse_plain(self.url)
        if token is None and name is not None:
            token = self.post("/v1/login", {"name": name, "password": _password(name)})["token"]
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"

    def get(self, path: str) -> Any:
        """What JSON is there."""
        return self._json("GET", path)

    def text(self, path: str) -> str:
        """What text is there."""
        return self._ask("GET", path).text

    def post(self, path: str, value: Any) -> Any:
        """Send JSON, receive JSON."""
        return self._json("POST", path, msgspec.json.encode(value))

    def post_bytes(self, path: str, body: bytes) -> Any:
        """Send bytes, receive JSON."""
        return self._json("POST", path, body)

    def put(self, path: str, body: bytes) -> Any:
        """Put bytes."""
        return self._json("PUT", path, body)

    def _json(self, method: str, path: str, body: bytes | None = None) -> Any:
        return msgspec.json.decode(self._ask(method, path, body).content)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        try:
            with self._http.Client(
                verify=self._verify, timeout=self._patience, headers=self._headers
            ) as client:
                answer = client.request(method, self.url + path, content=body)
        except self._http.HTTPError as error:
            raise RunError(
                self.url,
                given=f"{type(error).__name__}: {error}",
                expected="a service that answers",
                do="Start one: fairyring serve. Or check the address.",
            ) from None
        if answer.status_code < 400:
            return answer
        try:
            said = msgspec.json.decode(answer.content)["error"]
            raise FairyringError(said["what"], given=said["given"], expected=said["expected"], do=said["do"])
        except (msgspec.DecodeError, KeyError, TypeError):
            raise RunError(
                self.url,
                given=f"status {answer.status_code}",
                expected="an answer of a fairyring service",
                do="Check the address.",
            ) from None


def _refuse_plain(url: str) -> None:
    """Raise `RunError` where a password or a token would travel unencrypted to another machine."""
    from fairyring.service.serving import is_local

    parts = urlsplit(url)
    if parts.scheme != "https" and not is_local(parts.hostname or ""):
        raise RunError(
            url,
            given="an address without TLS, on another machine",
            expected="https: a password or a token is sent there",
            do="Give the https address of the service, with --fingerprint if its certificate is its own.",
        )


def _trusting(url: str, fingerprint: str) -> ssl.SSLContext:
    from fairyring.device.transport import pinned

    return pinned(url, fingerprint)


def _password(name: str) -> str:
    given = os.environ.get(PASSWORD)
    return given if given is not None else getpass.getpass(f"Password of {name}: ")


def _author(path: Path) -> Any:
    from fairyring.secagg import Identity

    try:
        private = path.read_bytes()
    except OSError as error:
        raise PlanError(
            str(path),
            given=f"{error.strerror}",
            expected="an author's key",
            do=f"Make one: fairyring key {path}.",
        ) from error
    if len(private) != 32:
        raise PlanError(
            str(path),
            given=f"{len(private)} bytes",
            expected="the 32 bytes of a key",
            do=f"Make another: fairyring key {path}.",
        )
    return Identity(private)
