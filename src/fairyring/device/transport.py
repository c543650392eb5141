"""How a device talks to its service: signed requests over HTTP, tried again where that helps, and blobs that go on where they stopped."""

import hashlib
import ssl
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fairyring.core.errors import ServiceRefused, ServiceUnreachable, WireError
from fairyring.core.extras import require
from fairyring.core.files import replace_file
from fairyring.messages import About, Leave, Left, Problem, Turn, decode, encode, patched, signed_request
from fairyring.messages.forms import MEDIA, SMALL
from fairyring.messages.signing import WINDOW
from fairyring.secagg.identity import Identity

HOLD = 60.0  # seconds for an answer that the service may hold back
PIECE = 4 << 20  # bytes of a blob that are asked for at a time
LARGEST_TURN = 256 << 20
LONGEST = 900.0  # seconds that an answer may take to arrive
_CHANGE = "fairyring-change"


class Transport:
    """Requests of one device to one service.

    Args:
        server: address, such as `https://learning.example.org`.
        identity: signs every request.
        service: public key of the service; None to take the one that it says it has, which is then kept by the caller.
        fingerprint: SHA-256 of the service's certificate in hexadecimal digits, for one that no authority has signed; None to
            trust the authorities of this machine.
        clock: seconds since 1970.

    Raises:
        MissingExtra: the HTTP client is not installed.
    """

    def __init__(
        self,
        server: str,
        identity: Identity,
        *,
        service: bytes | None = None,
        fingerprint: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        require("httpx2", extra="device", purpose="a device")
        import httpx2

        self._http = httpx2
        self.server, self.identity, self._service, self._clock = server.rstrip("/"), identity, service, clock
        self._fingerprint, self._opened, self._opening = fingerprint, None, threading.Lock()
        self._ahead = 0.0  # seconds by which the service's clock is ahead of this device's
        self.sent = self.received = 0  # bytes, for the device's owner

    @property
    def _client(self) -> Any:
        """Opened when it is needed: a device waits for a service that is not there."""
        with self._opening:
            if self._opened is None:
                verify = True if self._fingerprint is None else pinned(self.server, self._fingerprint)
                timeout = self._http.Timeout(HOLD, connect=10.0)
                # What is compressed may be any size.
                self._opened = self._http.Client(
                    verify=verify, timeout=timeout, headers={"accept-encoding": "identity"}
                )
            return self._opened

    @property
    def service(self) -> bytes:
        """Public key of the service.

        Raises:
            ServiceUnreachable: it was not known, and the service does not answer.
        """
        if self._service is None:
            self._service = self.about().service
        return self._service

    def about(self) -> About:
        """What the service says of itself, unsigned."""
        return decode(self._request("GET", "/v1/about", b"", sign=False), About)

    def post(self, path: str, form: Any, kind: Any) -> Any:
        """Send a form, and receive one of this kind.

        Raises:
            ServiceRefused: the service says no.
            ServiceUnreachable: it does not answer.
            WireError: what it answers is no such form.
        """
        return decode(self._request("POST", path, encode(form)), kind)

    def exchange(self, session: bytes, message: bytes, seen: str) -> Turn:
        """Send a message of a session, or none, and receive what comes next; see `post` for what is raised."""
        path = f"/v1/sessions/{session.hex()}?seen={seen}"
        return decode(self._request("POST", path, message, most=LARGEST_TURN), Turn, LARGEST_TURN)

    def leave(self, session: bytes, reason: str) -> None:
        """Tell the service that this device leaves a session. Nothing is raised if that cannot be told."""
        try:
            self.post(f"/v1/sessions/{session.hex()}/leave", Leave(reason), Left)
        except (ServiceRefused, ServiceUnreachable, WireError):
            return

    def blob(self, digest: bytes, folder: Path, most: int, earlier: Path | None = None) -> Path:
        """Fetch a blob into a file of a folder, named by its digest. What was fetched before an interruption is kept.

        Args:
            digest: SHA-256.
            folder: where it is kept.
            most: bytes that it may have.
            earlier: a file that it may be a change of, named by its digest; None if there is none.

        Raises:
            ServiceRefused, ServiceUnreachable: see `post`.
            WireError: it is larger, or has another digest.
        """
        path = folder / digest.hex()
        if path.exists() and hashlib.sha256(path.read_bytes()).digest() == digest:
            return path
        if earlier is not None:
            data = self._changed(digest, earlier, most)
            if data is not None:
                replace_file(path, data)
                return path
        part = folder / f"{digest.hex()}.part"
        size = part.stat().st_size if part.exists() else 0
        while True:
            answer = self._answer(
                "GET",
                f"/v1/blobs/{digest.hex()}",
                b"",
                headers={"range": f"bytes={size}-{size + PIECE - 1}"},
                most=max(most, SMALL),
            )
            if answer.status_code == 416 or not answer.content:
                break
            if size + len(answer.content) > most:
                part.unlink(missing_ok=True)
                raise _wrong(f"more than {most} bytes", "as many as the manifest allows")
            with part.open("ab") as file:
                file.write(answer.content)
            size += len(answer.content)
            total = answer.headers.get("content-range", "").rpartition("/")[2]
            if answer.status_code == 200 or not total.isdigit() or size >= int(total):
                break
        data = part.read_bytes() if part.exists() else b""
        part.unlink(missing_ok=True)
        if hashlib.sha256(data).digest() != digest:
            raise _wrong(
                "other bytes than those of this digest", "the blob that a manifest or an invitation names"
            )
        replace_file(path, data)
        return path

    def _changed(self, digest: bytes, earlier: Path, most: int) -> bytes | None:
        """The blob, from an earlier one and what changed since; None if the service has no change."""
        old = earlier.read_bytes()
        if len(old) > most:
            return None
        try:
            answer = self._answer(
                "GET", f"/v1/blobs/{digest.hex()}?from={earlier.name}", b"", most=max(most, SMALL)
            )
            data = answer.content if _CHANGE not in answer.headers else patched(old, answer.content)
        except WireError:  # the whole model may be right
            return None
        return data if hashlib.sha256(data).digest() == digest else None

    def close(self) -> None:
        """Close all connections."""
        if self._opened is not None:
            self._opened.close()

    def _request(
        self, method: str, target: str, body: bytes, *, sign: bool = True, most: int = SMALL
    ) -> bytes:
        return self._answer(method, target, body, sign=sign, most=most).content

    def _answer(
        self,
        method: str,
        target: str,
        body: bytes,
        *,
        sign: bool = True,
        headers: dict[str, str] | None = None,
        most: int = SMALL,
    ) -> "_Answer":
        answer = self._asked(method, target, body, sign, headers, most)
        if answer.status_code == 401 and sign and self._set_clock(answer):
            answer = self._asked(method, target, body, sign, headers, most)
        if answer.status_code < 400 or answer.status_code == 416:
            return answer
        try:
            problem = decode(answer.content, Problem, SMALL)
        except WireError:
            raise ServiceUnreachable(
                self.server,
                given=f"status {answer.status_code}, without a word why",
                expected="an answer of a fairyring service",
                do="Check the address.",
            ) from None
        raise ServiceRefused(
            problem.kind, given=problem.given, expected=problem.expected, do=problem.do, retry=problem.retry
        )

    def _asked(
        self, method: str, target: str, body: bytes, sign: bool, headers: dict[str, str] | None, most: int
    ) -> "_Answer":
        """One request, and its answer of at most so many bytes."""
        given = {"content-type": MEDIA, **(headers or {})}
        if sign:
            now = self._clock() + self._ahead
            given |= signed_request(self.identity, self.service, method, target, body, now).headers()
        until = time.monotonic() + LONGEST
        pieces: list[bytes] = []
        size = 0
        try:
            with self._client.stream(method, self.server + target, content=body, headers=given) as answer:
                if answer.headers.get("content-encoding", "identity") != "identity":
                    raise _wrong("a compressed answer", "one as it is")
                for piece in answer.iter_raw():
                    size += len(piece)
                    if size > most:
                        raise _wrong(f"more than {most} bytes", "no more than there can be")
                    if time.monotonic() > until:
                        raise self._unreachable(f"an answer of more than {LONGEST:g} s")
                    pieces.append(piece)
                found = _Answer(answer.status_code, answer.headers, b"".join(pieces))
        except self._http.HTTPError as error:
            raise self._unreachable(f"{type(error).__name__}: {error}"[:200]) from None
        self.sent += len(body)
        self.received += size
        return found

    def _set_clock(self, answer: "_Answer") -> bool:
        """Follow the service's clock where it differs by much; what is signed is for this service alone. Returns whether it does."""
        try:
            theirs = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
        except (ValueError, TypeError, OverflowError):
            return False
        ahead = theirs - self._clock()
        if abs(ahead - self._ahead) < WINDOW / 2:
            return False
        self._ahead = ahead
        return True

    def _unreachable(self, given: str) -> ServiceUnreachable:
        return ServiceUnreachable(
            self.server,
            given=given,
            expected="a service that answers",
            do="Check address and network; a device tries again by itself.",
        )


class _Answer(NamedTuple):
    status_code: int
    headers: Any
    content: bytes


def pinned(server: str, fingerprint: str) -> ssl.SSLContext:
    """A context that trusts the certificate with this fingerprint, and no other."""
    parts = urlsplit(server)
    host, port = parts.hostname or "", parts.port or 443
    try:
        pem = ssl.get_server_certificate((host, port), timeout=10.0)
    except OSError as error:
        raise ServiceUnreachable(
            server,
            given=f"{error}",
            expected="a service that answers",
            do="Check address and network.",
        ) from None
    found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    if found != fingerprint.lower().replace(":", ""):
        raise ServiceRefused(
            "certificate",
            given=f"a certificate with the fingerprint {found}",
            expected=fingerprint,
            do="Do not enrol: this is another service, or it has a new certificate. Ask its operator.",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the certificate itself is what is known
    context.load_verify_locations(cadata=pem)
    return context


def _wrong(given: str, expected: str) -> WireError:
    return WireError(
        "a blob", given=given, expected=expected, do="It is not used. Ask the operator of the service."
    )
