"""The agent of a device: it checks in, takes part in rounds as far as its owner and its own ledger allow, and goes away again.

Everything that must survive is written before it has an effect: the ledger before anything is sent, the log of a secure sum before every
message. So the agent may be killed at any point; begun again, it goes on with the session that it was in, or leaves it.
"""

import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from fairyring._version import __version__
from fairyring.aggregation.contract import Message
from fairyring.aggregation.wire import pack
from fairyring.core.errors import (
    FairyringError,
    MessageRefused,
    ParticipationRefused,
    ServiceRefused,
    ServiceUnreachable,
    SessionAborted,
    TrainingFailed,
)
from fairyring.core.files import replace_file
from fairyring.device.eligibility import Conditions
from fairyring.device.folder import DeviceFolder
from fairyring.device.ledger import ENDS, DeviceLedger
from fairyring.device.randomness import Randomness
from fairyring.device.training import Trained, model_values
from fairyring.device.transport import Transport
from fairyring.messages import (
    Array,
    CheckIn,
    Invitation,
    Later,
    Manifest,
    Turn,
    model_arrays,
    model_digest,
    read_manifest,
)
from fairyring.messages.forms import VERSION
from fairyring.messages.manifest import LARGEST
from fairyring.secagg import Device, FileLog, Session

PROGRAM = 256 << 20  # bytes of a program, at most
UNREACHABLE = 5.0, 300.0  # seconds until the service is tried again: first, and at most
PATIENCE = 180.0  # seconds without an answer after which a session is given up
PAUSE = 0.5, 60.0  # seconds until the next check-in after a session that was left: first, and at most
LONGEST_WAIT = 86400.0  # seconds that a device stays away at most, whatever it is told
ABANDONED = 86400.0  # seconds after which a session that was interrupted is not gone on with
T = TypeVar("T")
REFUSALS = 256  # manifests that are refused at a time
KEPT = 8  # files that were fetched: the ones used last


class Examples(Protocol):
    """Where a device's examples are; `ExampleStore` is one."""

    def load(self, columns: Sequence[Array], most: int) -> dict[str, np.ndarray]:
        """At most so many rows of these columns."""
        ...


class Trains(Protocol):
    """Who trains in a round: `Trainer`, or a `Participant` with a training of its own.

    Attributes:
        reads_examples: whether the device's examples are loaded for it.
    """

    reads_examples: bool

    @property
    def targets(self) -> tuple[str, ...]:
        """Programs that it can run, the best first."""
        ...

    def train(
        self, manifest: Manifest, target: str, program: bytes | Path, values: Mapping[str, np.ndarray]
    ) -> Trained:
        """A round's training; see `Trainer.train`."""
        ...

    def close(self) -> None:
        """End what it runs."""
        ...


class Status(NamedTuple):
    """What the agent is doing: in words, for its owner, and why it does not train, if so."""

    doing: str
    why_not: tuple[str, ...] = ()


class Left(Exception):
    """The device leaves a session, for a reason of one word."""

    def __init__(self, reason: str, why: str) -> None:
        self.reason, self.why = reason, why
        super().__init__(why)


class Agent:
    """Takes part for one device.

    Args:
        folder: of the device.
        transport: to its service.
        examples: that it trains on.
        ledger: of the device.
        trainer: trains.
        randomness: of the device.
        authors: public keys of the authors whose plans it takes part in.
        conditions: when it may train.
        targets: programs that it can run, the best first.
        clock: seconds since 1970.

    Attributes:
        on: whether the owner lets it take part.
        status: what it does.
    """

    def __init__(
        self,
        folder: DeviceFolder,
        transport: Transport,
        examples: Examples,
        ledger: DeviceLedger,
        trainer: Trains,
        randomness: Randomness,
        *,
        authors: Collection[bytes],
        conditions: Conditions,
        targets: Sequence[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder, self._transport, self._examples, self._ledger = folder, transport, examples, ledger
        self._trainer, self._randomness, self._conditions = trainer, randomness, conditions
        self._authors, self._targets, self._clock = frozenset(authors), tuple(targets), clock
        self.stopping = threading.Event()
        self.on = True
        self.status = Status("starting")
        self._refused: dict[bytes, float] = {}  # manifests, and until when
        self._model: Path | None = None
        self._pause = PAUSE[0]

    def received(self) -> int:
        """Bytes that the device has received since it runs."""
        return self._transport.received

    def run(self) -> None:
        """Take part until `stopping` is set."""
        self._tidy()
        pause = UNREACHABLE[0]
        while not self.stopping.is_set():
            try:
                wait = self.step()
                pause = UNREACHABLE[0]
            except ServiceUnreachable as error:
                self.status = Status("waiting for the service", (f"{error.given}",))
                wait, pause = pause * random.uniform(0.5, 1.5), min(2 * pause, UNREACHABLE[1])
            except ServiceRefused as error:
                self._note_refusal("the service refused this device", f"{error.given}")
                self.status = Status("waiting", (f"the service refused: {error.given}",))
                wait = UNREACHABLE[1] if error.retry is None else error.retry
            except (FairyringError, OSError, ValueError, ArithmeticError, MemoryError) as error:
                # Whatever a service sends, or a full disk refuses: the device is there again later.
                why = f"{type(error).__name__}: {error}"[:500]
                self._note_refusal("something that could not be done", why)
                self.status = Status("waiting", (why,))
                wait, pause = pause * random.uniform(0.5, 1.5), min(2 * pause, UNREACHABLE[1])
            if self.stopping.wait(min(wait, LONGEST_WAIT)):
                return

    def step(self) -> float:
        """Check in, and do what is asked. Returns the seconds after which to come back.

        Raises:
            ServiceUnreachable, ServiceRefused: there was nobody to check in with.
        """
        eligibility = self._conditions.now()
        if not self.on:
            self.status = Status("off")
            return 60.0
        now = self._clock()
        self._refused = {digest: until for digest, until in self._refused.items() if until > now}
        refused = tuple(self._refused)[-REFUSALS:]
        form = CheckIn(__version__, (VERSION,), self._targets, refused, eligibility.eligible)
        answer: Later | Invitation = self._transport.post("/v1/check-in", form, Later | Invitation)
        if isinstance(answer, Later):
            self.status = Status("waiting", eligibility.reasons)
            self._abandon()
            return answer.seconds
        try:
            self._take_part(answer)
        except Left as left:
            return self._went_away(answer, left.reason, left.why)
        except ServiceRefused as error:
            return self._went_away(answer, "refused", f"the service refused: {error.given}")
        except ServiceUnreachable:
            raise
        except FairyringError as error:
            why = f"{type(error).__name__}: {error.given}"
            self._note_refusal("a round", why)
            return self._went_away(answer, "failed", why)
        self._pause = PAUSE[0]
        return 0.0

    def _went_away(self, invitation: Invitation, reason: str, why: str) -> float:
        """Tell the service; returns the seconds after which to check in. They grow where session after session is left."""
        self._transport.leave(invitation.session, reason)
        self.status = Status("waiting", (why,))
        pause, self._pause = self._pause, min(2 * self._pause, PAUSE[1])
        return pause * random.uniform(0.5, 1.0)

    def _note_refusal(self, what: str, why: str) -> None:
        with suppress(FairyringError):  # the disk may be full
            self._ledger.refused(what, why)

    def _abandon(self) -> None:
        """End sessions that were interrupted long ago: nobody asks for them any more."""
        long_ago = self._clock() - ABANDONED
        for one in self._ledger.unfinished():
            if one.began < long_ago:
                self._ledger.ended(one.number, "left")
                self._forget_session(one.session)

    # -- a round ----------------------------------------------------------------------------------------------

    def _take_part(self, invitation: Invitation) -> None:
        asked = invitation.session, invitation.run, invitation.round, invitation.manifest
        unfinished = (
            (one.session, one.run, one.round, one.manifest, one) for one in self._ledger.unfinished()
        )
        begun = next((one for *of, one in unfinished if tuple(of) == asked), None)
        manifest = self._read_manifest(invitation)
        target = next((target for target in self._targets if target in manifest.programs), None)
        if target is None:
            raise self._refusal(invitation.manifest, manifest, "unsupported", "no program of it runs here")
        if begun is None:
            try:
                number = self._ledger.begin(
                    manifest, invitation.manifest, invitation.run, invitation.round, invitation.session
                )
            except ParticipationRefused as error:
                raise self._refusal(
                    None, manifest, "own_ledger", f"{error.given}; expected {error.expected}"
                ) from error
        else:
            number = begun.number
        outcome = "left"
        try:
            contributed = begun is not None and begun.state == "contributed"
            outcome = self._report(invitation, manifest, target, number, contributed)
            outcome = outcome if outcome in ENDS else "left"
        finally:
            if not self.stopping.is_set() or outcome != "left":
                self._ledger.ended(number, outcome)
                self._forget_session(invitation.session)

    def _read_manifest(self, invitation: Invitation) -> Manifest:
        path = self._fetch(invitation.manifest, LARGEST)
        try:
            manifest = read_manifest(path.read_bytes())
        except FairyringError as error:
            path.unlink(missing_ok=True)
            raise self._refusal(invitation.manifest, None, "manifest", f"{error.given}") from error
        if manifest.author not in self._authors:
            why = f"its author {manifest.author.hex()[:16]} is not one that this device trusts"
            raise self._refusal(invitation.manifest, manifest, "untrusted_author", why)
        return manifest

    def _report(
        self, invitation: Invitation, manifest: Manifest, target: str, number: int, contributed: bool
    ) -> str:
        """Train, and report; returns how the session ended. `contributed`: the ledger has noted it before an interruption."""
        kept = self._report_path(invitation.session)
        if manifest.terms is None and kept.exists():
            return self._send_plain(invitation, manifest, kept.read_bytes(), number, contributed)
        self.status = Status(f"training for {manifest.name}")
        model = self._fetch(invitation.model, manifest.model_bytes, self._model)
        arrays = model_arrays(model.read_bytes(), manifest.model)
        self._model = model
        log = self._log_of(invitation.session) if manifest.terms is not None else None
        try:
            trained = self._train(invitation, manifest, target, arrays)
            self.status = Status(f"reporting to {manifest.name}")
            if manifest.terms is None or log is None:
                report = pack(Message(trained.vector, trained.auxiliary), manifest.message)
                # What was sent once is all that is ever sent: trained again, it might be something else.
                replace_file(kept, report, mode=0o600)
                return self._send_plain(invitation, manifest, report, number, contributed)
            context = model_digest(arrays)
            session = Session(manifest.terms, invitation.round, context, invitation.previous)
            device = Device(session, self._folder.identity, log)
            return self._send_masked(invitation, manifest, device, trained, number, contributed)
        finally:
            if log is not None:
                log.close()

    def _train(
        self, invitation: Invitation, manifest: Manifest, target: str, arrays: list[np.ndarray]
    ) -> Trained:
        try:
            columns: dict[str, np.ndarray] = {}
            if self._trainer.reads_examples:
                columns = self._examples.load(manifest.columns, manifest.examples)
            size = min((len(column) for column in columns.values()), default=0)
            if size == 0 and self._trainer.reads_examples:
                raise self._refusal(
                    invitation.manifest, manifest, "no_examples", "there are no examples for it"
                )
            values: dict[str, np.ndarray] = {
                **columns,
                **model_values(manifest, arrays),
                **self._randomness.steps(manifest, invitation, size),
                "round": np.int32(invitation.round),
                "size": np.int32(size),
                "client_key": self._randomness.client_key(manifest, invitation),
                "shared_key": np.array(invitation.shared_key, np.uint32),
            }  # pyright: ignore[reportAssignmentType]
            state = self._state_path(manifest)
            for argument in manifest.arguments:
                if argument.name == "client_state":
                    values["client_state"] = (
                        np.frombuffer(state.read_bytes(), "<f4").astype(np.float32)
                        if state.exists()
                        else np.zeros(argument.shape, np.float32)
                    )
            program = self._fetch(manifest.programs[target], PROGRAM)
            trained = self._trainer.train(manifest, target, program, values)
        except TrainingFailed as error:
            raise self._refusal(None, manifest, f"training_{error.reason}", f"{error.given}") from error
        except (ServiceRefused, ServiceUnreachable, Left):
            raise
        except FairyringError as error:
            raise self._refusal(invitation.manifest, manifest, "examples", f"{error.given}") from error
        if trained.client_state is not None:
            replace_file(state.with_suffix(".new"), trained.client_state.astype("<f4").tobytes(), mode=0o600)
        return trained

    def _send_plain(
        self, invitation: Invitation, manifest: Manifest, report: bytes, number: int, contributed: bool
    ) -> str:
        if not contributed:
            self._contributed(manifest, number, len(report))
        turn = self._exchange(invitation, report, "reporting")
        while not turn.over:
            turn = self._exchange(invitation, b"", turn.phase)
        self._settle_state(manifest, turn.over)
        return turn.over

    def _send_masked(
        self,
        invitation: Invitation,
        manifest: Manifest,
        device: Device,
        trained: Trained,
        number: int,
        contributed: bool,
    ) -> str:
        message, seen = device.start(), "advertising"
        while True:
            turn = self._exchange(invitation, message, seen)
            message, seen = b"", turn.phase or seen
            if turn.over:
                self._settle_state(manifest, turn.over)
                return turn.over
            try:
                for received in turn.messages:
                    message = device.receive(received) or message
                if turn.phase == "masking" and device.phase in ("ready", "masked") and not message:
                    # Noted, and not in the log of the session: nothing was sent.
                    if device.phase == "ready" and not contributed:
                        self._contributed(
                            manifest, number, manifest.terms.vector_bytes if manifest.terms else 0
                        )
                    noisy = self._randomness.noisy(manifest, invitation, trained.vector)
                    message = device.contribute(noisy)
            except SessionAborted as error:
                self._ledger.refused(manifest.name, f"secure sum, {error.given}; expected {error.expected}")
                raise Left("protocol", f"{error.given}") from error
            except MessageRefused as error:
                raise Left("out_of_turn", f"{error.given}") from error

    def _contributed(self, manifest: Manifest, number: int, size: int) -> None:
        if not self.on:
            raise Left("switched_off", "its owner has switched it off")
        try:
            self._ledger.contributed(number, size)
        except ParticipationRefused as error:
            raise self._refusal(None, manifest, "own_ledger", f"{error.given}") from error

    def _exchange(self, invitation: Invitation, message: bytes, seen: str) -> Turn:
        """Send a message until there is an answer; the service takes one that it has already as the same."""
        while True:
            turn = self._patiently(lambda: self._transport.exchange(invitation.session, message, seen))
            if turn.wait:
                self.stopping.wait(min(turn.wait, 60.0))
            if turn.phase or turn.over:
                return turn
            if not turn.wait:
                self.stopping.wait(0.5)

    def _patiently(self, ask: Callable[[], T]) -> T:
        """What the service answers, tried again while it does not, or is busy.

        Raises:
            ServiceUnreachable: it did not answer for long.
            Left: it refused, or this device ends.
        """
        until, tries = time.monotonic() + PATIENCE, 0
        while True:
            if self.stopping.is_set():
                raise Left("stopped", "the device is shutting down")
            try:
                return ask()
            except ServiceUnreachable:
                if time.monotonic() > until:
                    raise
                wait = min(5.0, 0.2 * 2**tries) * random.uniform(0.5, 1.0)
            except ServiceRefused as error:
                if error.retry is None or time.monotonic() > until:
                    raise Left("refused", f"{error.given}") from error
                wait = min(error.retry, 60.0) + random.uniform(0.0, 0.2)
            tries += 1
            self.stopping.wait(wait)

    # -- what it keeps ----------------------------------------------------------------------------------------

    def _fetch(self, digest: bytes, most: int, earlier: Path | None = None) -> Path:
        earlier = earlier if earlier is not None and earlier.exists() else None
        try:
            path = self._patiently(lambda: self._transport.blob(digest, self._folder.blobs, most, earlier))
        except FairyringError as error:
            if isinstance(error, ServiceRefused | ServiceUnreachable):
                raise
            raise Left("blob", f"{error.given}") from error
        path.touch()
        kept = sorted(self._folder.blobs.iterdir(), key=lambda file: file.stat().st_mtime)
        for old in kept[:-KEPT]:
            old.unlink(missing_ok=True)
        return path

    def _refusal(self, digest: bytes | None, manifest: Manifest | None, reason: str, why: str) -> Left:
        """Note that the device does not take part, and why; with `digest`, it is not asked again for a day."""
        self._ledger.refused(manifest.name if manifest is not None else "a plan", why)
        if digest is not None:
            self._refused[digest] = self._clock() + 86400.0
        return Left(reason, why)

    def _session_path(self, session: bytes) -> Path:
        return self._folder.sessions / f"{session.hex()}.sqlite"

    def _log_of(self, session: bytes) -> FileLog:
        return FileLog(self._session_path(session))

    def _report_path(self, session: bytes) -> Path:
        """The report of a session without masks, kept until the session is over."""
        return self._folder.sessions / f"{session.hex()}.report"

    def _forget_session(self, session: bytes) -> None:
        self._report_path(session).unlink(missing_ok=True)
        path = self._session_path(session)
        if path.exists():
            FileLog(path).erase()

    def _tidy(self) -> None:
        """Forget logs of sessions that are over."""
        self._abandon()
        going = {one.session.hex() for one in self._ledger.unfinished()}
        for path in (*self._folder.sessions.glob("*.sqlite"), *self._folder.sessions.glob("*.report")):
            if path.stem not in going:
                self._forget_session(bytes.fromhex(path.stem))

    def _state_path(self, manifest: Manifest) -> Path:
        """Where the algorithm's state on this device is kept, for one plan."""
        return self._folder.path / f"state-{manifest.plan.hex()[:32]}"

    def _settle_state(self, manifest: Manifest, outcome: str) -> None:
        new: Any = self._state_path(manifest).with_suffix(".new")
        if new.exists():
            if outcome == "summed":
                new.replace(self._state_path(manifest))
            else:
                new.unlink()
