"""What devices meet: enrolment, check-ins, blobs and sessions. It knows forms and their senders, and no HTTP.

Any number of processes may serve the devices of one database. Each session belongs to the process that holds its lease, and the others pass
its messages on. When a lease is lost, another process takes the session over, and goes on from its log.
"""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import msgspec

from fairyring._version import __version__
from fairyring.core.errors import LeaseLost, RunDamaged, RunMismatch, StorageError
from fairyring.messages import (
    About,
    CheckIn,
    Enrol,
    Enrolled,
    Invitation,
    Later,
    Leave,
    Left,
    Manifest,
    Signature,
    Turn,
    read_manifest,
)
from fairyring.messages.forms import VERSION
from fairyring.messages.signing import WINDOW
from fairyring.secagg import Identity
from fairyring.service.batching import Batches
from fairyring.service.blobs import BlobMissing, Blobs
from fairyring.service.facts import SessionFacts
from fairyring.service.hosting import AGAIN, HostedSession
from fairyring.service.limits import Rates
from fairyring.service.pace import Pace
from fairyring.service.refusals import Refused
from fairyring.service.room import Room
from fairyring.service.storage import Device, Lease, Storage, StoredSession
from fairyring.service.sums import Summed

LEASE_SECONDS = 10.0
LOOK = 0.05  # seconds between two looks for new sessions
KNOWN = 5.0  # seconds that a device's standing is remembered: a revocation is obeyed after so long at most
HELD_BODIES = 64 << 20  # bytes of messages that are being received and stored, together
OFFENCES = 3  # sessions that a device may break before it is barred


class _Served(NamedTuple):
    """A session of this process, and its lease."""

    hosted: HostedSession
    lease: Lease


class Front:
    """Serves devices.

    Args:
        storage: what the service keeps.
        blobs: manifests, programs and models.
        identity: the service's own key pair.
        owner: a name that no other process has.
        address: where other processes of the service reach this one.
        pace: how often devices come.
        rates: how often one device may ask.
        addresses: how often one address may.
        now: seconds since 1970.

    Attributes:
        refused: how many requests were refused, by the kind of the problem.
        served: how many requests were served.
    """

    def __init__(
        self,
        storage: Storage,
        blobs: Blobs,
        identity: Identity,
        *,
        owner: str,
        address: str = "",
        pace: Pace | None = None,
        rates: Rates | None = None,
        addresses: Rates | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.storage, self.blobs, self.identity = storage, blobs, identity
        self.owner, self.address, self.pace, self.now = owner, address, pace or Pace(), now
        self.rates = rates or Rates()
        self.addresses = addresses or Rates(rate=1000.0, burst=5000.0)
        self.refused: Counter[str] = Counter()
        self.served = 0
        self.sessions: dict[bytes, _Served] = {}
        self.ended: dict[bytes, str] = {}  # of the sessions that were served here lately
        self._executor: Executor = ThreadPoolExecutor(4, "service")
        # Sums are computed in threads of their own, so that who checks in does not wait for them.
        self._computing: Executor = ThreadPoolExecutor(2, "sums")
        self._known: dict[bytes, tuple[Device | None, float]] = {}
        self._seen: dict[bytes, tuple[float, str, str]] = {}
        self._active: dict[bytes, float] = {}
        self._manifests: dict[bytes, Manifest] = {}
        self._longest: dict[bytes, int] = {}
        self._others: dict[bytes, frozenset[bytes]] = {}  # sessions of other processes: who is invited
        self._nonces = Batches(storage.nonces.remember, self._executor)
        self._standings = Batches(storage.devices.several, self._executor)
        self._tasks: list[asyncio.Task[None]] = []
        self._opened, self._woken = asyncio.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self.room = Room(HELD_BODIES)

    # -- its life ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to look for sessions, and to keep leases."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._look()), asyncio.create_task(self._keep())]

    def wake(self) -> None:
        """Look for sessions at once; from any thread."""
        if self._loop is not None and not self._stopping:
            self._loop.call_soon_threadsafe(self._woken.set)

    async def stop(self) -> None:
        """Stop serving, and give all leases back, so that other processes can take over at once."""
        self._stopping = True
        self._tell_opened()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for served in list(self.sessions.values()):
            await served.hosted.close("lost", "the process ends")
            with suppress(StorageError):  # it expires by itself
                await self._in_thread(self.storage.leases.release, served.lease)
        self.sessions.clear()
        self._executor.shutdown(wait=True)
        self._computing.shutdown(wait=True)

    async def _look(self) -> None:
        """Take over sessions that nobody serves, and end phases in time."""
        while True:
            try:
                await self._look_once()
            except Exception as error:  # whatever it is: who looks no more serves nobody
                self.refused[type(error).__name__] += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), LOOK)
            self._woken.clear()

    async def _look_once(self) -> None:
        before = set(self.sessions)
        unfinished = {one.id: one for one in await self._in_thread(self.storage.sessions.unfinished)}
        for session, served in list(self.sessions.items()):
            if session in before and session not in unfinished and not served.hosted.over:
                stored = await self._in_thread(self.storage.sessions.get, session)
                if stored is None or stored.outcome is not None:  # the run was cancelled, say
                    await served.hosted.close(stored.outcome if stored else "aborted", "ended by the run")
            await served.hosted.tick()
            if served.hosted.over:
                await self._drop(session)
        for session, stored in unfinished.items():
            if session not in self.sessions and session not in self.ended:
                try:
                    await self._host(stored)
                except Exception as error:  # this one; others go on
                    self.refused[type(error).__name__] += 1
        others = {one: stored for one, stored in unfinished.items() if one not in self.sessions}
        self._others = {
            one: self._others.get(one) or frozenset(map(bytes.fromhex, stored.facts.get("invited", ())))
            for one, stored in others.items()
        }

    async def _keep(self) -> None:
        """Renew leases, and note who was seen and how far sessions are."""
        while True:
            await asyncio.sleep(1.0)
            try:
                for session, served in list(self.sessions.items()):
                    if served.hosted.over:
                        continue
                    if not await self._in_thread(self.storage.leases.renew, served.lease, LEASE_SECONDS):
                        await served.hosted.close("lost", "its lease")
                        await self._drop(session)
                        continue
                    progress = progress_of(served.hosted, self.now())
                    await self._in_thread(self._note, session, progress, served.lease)
                seen, self._seen = self._seen, {}
                if seen:
                    await self._in_thread(self.storage.devices.seen, seen)
                long_ago = self.now() - 3600
                self._active = {key: at for key, at in self._active.items() if at > long_ago}
            except Exception as error:
                self.refused[type(error).__name__] += 1

    def _note(self, session: bytes, progress: dict[str, Any], lease: Lease) -> None:
        try:
            self.storage.sessions.note(session, progress, lease=lease)
        except LeaseLost:
            return

    async def _host(self, stored: StoredSession) -> None:
        lease = await self._in_thread(self._take_lease, stored.id)
        if lease is None:
            return
        facts = SessionFacts.read(stored.facts)
        manifest = await self._manifest(bytes.fromhex(facts.manifest))

        def ended(hosted: HostedSession, summed: Summed | None, reason: str) -> None:
            sessions, progress = self.storage.sessions, progress_of(hosted, self.now())
            if summed is None:
                sessions.end(stored.id, "aborted", reason=reason, progress=progress, lease=lease)
            else:
                total = msgspec.msgpack.encode(summed.total)
                sessions.end(
                    stored.id, "summed", summed=summed.devices, result=total, progress=progress, lease=lease
                )

        def open_session() -> HostedSession:
            log = self.storage.log(stored.id, lease)
            return HostedSession(
                stored.id, stored.run, facts, manifest, log, ended, self._computing, time.monotonic
            )

        try:
            hosted = await self._in_thread(open_session)
        except (RunDamaged, RunMismatch) as error:  # it cannot be gone on with, by anybody
            why = f"restarted: {error.given}"
            await self._in_thread(
                lambda: self.storage.sessions.end(stored.id, "aborted", reason=why, lease=lease)
            )
            return
        self.sessions[stored.id] = _Served(hosted, lease)
        self._tell_opened()

    def _tell_opened(self) -> None:
        """Let go of check-ins that are held."""
        opened, self._opened = self._opened, asyncio.Event()
        opened.set()

    def _take_lease(self, session: bytes) -> Lease | None:
        return self.storage.leases.acquire(
            _lease_of(session), self.owner, LEASE_SECONDS, address=self.address
        )

    async def _drop(self, session: bytes) -> None:
        served = self.sessions.pop(session, None)
        if served is None:
            return
        if served.hosted.over in ("summed", "aborted"):
            self.ended[session] = served.hosted.over
            for old in list(self.ended)[:-1000]:
                del self.ended[old]
            for device in sorted(served.hosted.sum.offenders):
                await self._offend(device, session)

    async def _offend(self, device: bytes, session: bytes) -> None:
        """Count an offence; who offends in several sessions may take part no more."""
        if await self._in_thread(self._noted_offence, device, session):
            self._known.pop(device, None)

    def _noted_offence(self, device: bytes, session: bytes) -> bool:
        """Note an offence, and bar its device if there were others. They are kept: a service that begins anew does not forget them."""
        offences = self.storage.devices.offend(device, session)
        if offences < OFFENCES:
            return False
        reason = f"broke the protocol in {offences} sessions"
        if self.storage.devices.revoke(device, reason):
            self.storage.audit.note("service", "bar", {"device": device.hex(), "reason": reason})
        return True

    # -- requests ---------------------------------------------------------------------------------------------

    def about(self) -> About:
        """What this service is."""
        return About(self.identity.public, __version__, (VERSION,))

    async def sender(
        self, signature: Signature, method: str, target: str, body: bytes, *, enrolled: bool = True
    ) -> bytes:
        """The key of the device that sent a request.

        Args:
            signature: from its headers.
            method, target, body: of it.
            enrolled: whether it must be one that may take part.

        Raises:
            WireError: it was not signed.
            Refused: it was sent before, comes too often, or from a device that may not take part.
        """
        signature.check(self.identity.public, method, target, body, self.now())
        self.rates.check(signature.key.hex(), self.now())
        if enrolled:  # first: strangers leave nothing in the database
            await self.check_standing(signature.key)
        if not await self._nonces.ask((signature.key, signature.nonce, self.now() + 2 * WINDOW)):
            raise Refused("replayed", "a request that was sent before", "a new one", "Sign it again.", 0.0)
        return signature.key

    async def check_standing(self, key: bytes) -> None:
        """Check that a device may take part.

        Raises:
            Refused: it is not enrolled, or was revoked.
        """
        device = await self._standing(key)
        if device is None:
            raise Refused("unknown_device", "a device that is not enrolled", "one that is", "Enrol it.")
        if device.revoked is not None:
            raise Refused(
                "revoked", f"a device that was revoked: {device.reason}", "one in good standing",
                "Ask the operator of the service.",
            )  # fmt: skip

    async def enrol(self, key: bytes, form: Enrol) -> Enrolled:
        """Enrol a device.

        Raises:
            EnrolmentRefused: its token does not allow that.
        """
        _check_printable(form.name)
        device = await self._in_thread(self.storage.devices.enrol, form.token, key, form.name)
        self._known.pop(key, None)
        authors = sorted({run.author for run in await self._in_thread(self.storage.runs.all)})
        return Enrolled(device.name, tuple(authors))

    async def check_in(self, key: bytes, form: CheckIn) -> Later | Invitation:
        """What a device is to do now."""
        _check_printable(form.version, *form.targets)
        now = self.now()
        self._seen[key] = (now, form.version, form.targets[0] if form.targets else "")
        self._active[key] = now
        if VERSION not in form.speaks:
            raise Refused(
                "unsupported", f"versions {list(form.speaks)} of the protocol", f"version {VERSION}",
                "Update the software of this device.", 3600.0,
            )  # fmt: skip
        until = time.monotonic() + self.pace.hold(len(self._active))
        while form.eligible:
            for served in list(self.sessions.values()):
                hosted = served.hosted
                if hosted.wants(key):
                    if bytes.fromhex(hosted.facts.manifest) in form.refused:
                        # Nobody waits for who will not come.
                        await hosted.leave(key, "refused_before")
                        continue
                    if not set(form.targets) & hosted.manifest.programs.keys():
                        continue
                    hosted.came(key)
                    return _invitation(hosted, key, time.monotonic())
            left = until - time.monotonic()
            if left <= 0 or self._stopping:
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(self._opened.wait(), left)
        waiting = bool(self.sessions) or self._runs_go_on
        return Later(self.pace.seconds(len(self._active), waiting=waiting))

    _runs_go_on = True

    async def take(self, key: bytes, session: bytes, data: bytes, seen: str) -> Callable[[], Awaitable[Turn]]:
        """Take a message of a session. What is returned gives the answer, and may hold it back for long; it holds no message.

        Raises:
            MessageRefused: the message does not count.
            Refused: there is no such session, the device is not in it, or sends too much.
        """
        served = self.sessions.get(session)
        if served is None:
            return partial(self._elsewhere, session)
        hosted = served.hosted
        if key not in hosted.places:
            raise Refused("not_found", "a session that this device is not in", "its own", "Check in again.")
        longest = _longest(hosted.manifest)
        if len(data) > longest:
            await self._offend(key, session)
            raise Refused("too_large", f"{len(data)} bytes", f"at most {longest}", "Send no more than that.")
        if data:
            await hosted.take(key, data)
        return partial(hosted.turn, key, seen)

    async def longest(self, session: bytes) -> int:
        """Bytes that a message of a session may have.

        Raises:
            Refused: there is no such session.
        """
        served = self.sessions.get(session)
        if served is not None:
            return _longest(served.hosted.manifest) + 1  # one more tells who sends too much
        if session not in self._longest:
            stored = await self._in_thread(self.storage.sessions.get, session)
            if stored is None:
                raise _no_session()
            manifest = await self._manifest(bytes.fromhex(SessionFacts.read(stored.facts).manifest))
            self._longest[session] = _longest(manifest)
            for old in list(self._longest)[:-1000]:
                del self._longest[old]
        return self._longest[session]

    async def leave(self, key: bytes, session: bytes, form: Leave) -> Left:
        """A device leaves a session."""
        served = self.sessions.get(session)
        if served is not None:
            await served.hosted.leave(key, form.reason)
        return Left()

    async def _elsewhere(self, session: bytes) -> Turn:
        if session in self.ended:
            return Turn("done", (), self.ended[session])
        stored = await self._in_thread(self.storage.sessions.get, session)
        if stored is None:
            raise _no_session()
        if stored.outcome is not None:
            return Turn("done", (), stored.outcome)
        return AGAIN

    def change(self, old: str, new: str) -> bytes | None:
        """The blob with what changed from one model to another, by their digests; None if there is none."""
        if not old:
            return None
        for served in self.sessions.values():
            facts = served.hosted.facts
            if facts.model == new and old in facts.earlier:
                return bytes.fromhex(facts.earlier[old])
        return None

    async def part(
        self, blob: bytes, wanted: tuple[int, int | None] | None
    ) -> tuple[int, bytes, dict[str, str]]:
        """A part of a blob, or all of it: the status of HTTP, the bytes, and headers.

        Raises:
            Refused: there is no such blob.
        """

        def read() -> tuple[int, bytes, dict[str, str]]:
            size = self.blobs.size(blob)
            if wanted is None:
                return 200, self.blobs.read(blob, 0, size), {}
            start, stop = wanted[0], size if wanted[1] is None else min(wanted[1], size)
            if start >= size or stop <= start:
                return 416, b"", {"content-range": f"bytes */{size}"}
            data = self.blobs.read(blob, start, stop)
            return 206, data, {"content-range": f"bytes {start}-{stop - 1}/{size}"}

        try:
            return await self._in_thread(read)
        except BlobMissing as error:
            raise Refused(
                "not_found", "a blob that there is not", "one that a manifest names", "Check in again."
            ) from error

    def count_refused(self, kind: str) -> None:
        """Count a request that was refused."""
        self.refused[kind] += 1

    async def holder(self, session: bytes) -> str:
        """The address of the process that serves a session; empty if this one does, or nobody."""
        if session in self.sessions or session in self.ended:
            return ""
        holder = await self._in_thread(self.storage.leases.holder, _lease_of(session))
        # A process before this one may have had its address, and a lease that goes on for some seconds.
        if holder is None or holder.owner == self.owner or holder.address == self.address:
            return ""
        return holder.address

    async def invited_elsewhere(self, key: bytes) -> str:
        """The address of a process with a session to which a device is invited; empty if this process is to answer."""
        if any(served.hosted.wants(key) for served in self.sessions.values()):
            return ""
        for session, invited in list(self._others.items()):
            if key in invited and (address := await self.holder(session)):
                return address
        return ""

    # -- what it knows ----------------------------------------------------------------------------------------

    async def _standing(self, key: bytes) -> Device | None:
        known = self._known.get(key)
        now = self.now()
        if known is None or now - known[1] > KNOWN:
            device = await self._standings.ask(key)
            if len(self._known) > 100_000:
                self._known.clear()
            self._known[key] = known = (device, now)
        return known[0]

    async def _manifest(self, digest: bytes) -> Manifest:
        if digest not in self._manifests:
            try:
                data = await self._in_thread(self.blobs.get, digest)
            except BlobMissing as error:
                raise StorageError(
                    "manifest",
                    given=f"{error.given}",
                    expected="the manifest of a run",
                    do="Submit it again.",
                ) from error
            self._manifests[digest] = read_manifest(data)
        return self._manifests[digest]

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*arguments))


def progress_of(hosted: HostedSession, now: float) -> dict[str, Any]:
    """How far a session is, for people: its phase, when that ends, and how many devices came how far."""
    done, expected = hosted.sum.counts
    return {
        "phase": hosted.phase,
        "done": done,
        "expected": expected,
        "deadline": now + hosted.deadline - time.monotonic(),
        "funnel": hosted.funnel | {hosted.phase: done},
        "failures": dict(hosted.failures),
        "refused": hosted.refused,
    }


def _invitation(hosted: HostedSession, key: bytes, now: float) -> Invitation:
    facts = hosted.facts
    return Invitation(
        hosted.run,
        hosted.session,
        bytes.fromhex(facts.manifest),
        facts.round,
        bytes.fromhex(facts.model),
        bytes.fromhex(facts.previous) if facts.previous else None,
        facts.shared_key,
        max(0.0, hosted.deadline - now),
        hosted.places[key],
        facts.reservation,
    )


def _longest(manifest: Manifest) -> int:
    """The longest message of a device."""
    terms = manifest.terms
    if terms is None:
        return manifest.message.bytes
    return 4096 + max(terms.vector_bytes, 256 * terms.maximum_cohort)


def _no_session() -> Refused:
    return Refused("not_found", "a session that there is not", "one that goes on", "Check in again.")


def _check_printable(*texts: str) -> None:
    if not all(text.isprintable() for text in texts):
        raise Refused("malformed", "a name with characters that are not printed", "a name", "Choose another.")


def _lease_of(session: bytes) -> str:
    return f"session {session.hex()}"


def new_owner() -> str:
    """A name for a process."""
    return f"service-{secrets.token_hex(6)}"
