"""The agent of a device: it checks in, takes part in rounds as far as its owner and its own ledger allow, and goes away again.

Everything that must survive is written before it has an effect: the ledger before anything is sent, the log of a secure sum before every
message. So the agent may be killed at any point; begun again, it goes on with the session that it was in, or leaves it.
"""

import random
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

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
from fairyring.device.ledger import DeviceLedger
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
REPEATED = 5  # times that a message is tried again while a session lasts
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
                self._ledger.refused("the service refused this device", f"{error.given}")
                self.status = Status("waiting", (f"the service refused: {error.given}",))
                wait = UNREACHABLE[1] if error.retry is None else error.retry
            except FairyringError as error:
                # Something is wrong here, such as a full disk: the owner is told, and it may be over later.
                self.status = Status("waiting", (f"{error}",))
                wait = UNREACHABLE[1]
            if self.stopping.wait(wait):
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
        form = CheckIn(__version__, (VERSION,), self._targets, tuple(self._refused), eligibility.eligible)
        answer: Later | Invitation = self._transport.post("/v1/check-in", form, Later | Invitation)
        if isinstance(answer, Later):
            self.status = Status("waiting", eligibility.reasons)
            return answer.seconds
        try:
            self._take_part(answer)
        except Left as left:
            self._transport.leave(answer.session, left.reason)
            self.status = Status("waiting", (left.why,))
        except ServiceRefused as error:
            self.status = Status("waiting", (f"the service refused: {error.given}",))
            return error.retry if error.retry is not None else 1.0
        return 0.0

    # -- a round ----------------------------------------------------------------------------------------------

    def _take_part(self, invitation: Invitation) -> None:
        begun = next((one for one in self._ledger.unfinished() if one.session == invitation.session), None)
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
            outcome = self._report(invitation, manifest, target, number)
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

    def _report(self, invitation: Invitation, manifest: Manifest, target: str, number: int) -> str:
        """Train, and report; returns how the session ended."""
        self.status = Status(f"training for {manifest.name}")
        model = self._fetch(invitation.model, manifest.model_bytes, self._model)
        arrays = model_arrays(model.read_bytes(), manifest.model)
        self._model = model
        log = self._log_of(invitation.session) if manifest.terms is not None else None
        try:
            trained = self._train(invitation, manifest, target, arrays)
            self.status = Status(f"reporting to {manifest.name}")
            if manifest.terms is None or log is None:
                return self._send_plain(invitation, manifest, trained, number)
            context = model_digest(arrays)
            session = Session(manifest.terms, invitation.round, context, invitation.previous)
            device = Device(session, self._folder.identity, log)
            return self._send_masked(invitation, manifest, device, trained, number)
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

    def _send_plain(self, invitation: Invitation, manifest: Manifest, trained: Trained, number: int) -> str:
        report = pack(Message(trained.vector, trained.auxiliary), manifest.message)
        self._contributed(manifest, number, len(report))
        turn = self._exchange(invitation, report, "reporting")
        while not turn.over:
            turn = self._exchange(invitation, b"", turn.phase)
        self._settle_state(manifest, turn.over)
        return turn.over

    def _send_masked(
        self, invitation: Invitation, manifest: Manifest, device: Device, trained: Trained, number: int
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
                    if device.phase == "ready":
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
        tries = 0
        while True:
            if self.stopping.is_set():
                raise Left("stopped", "the device is shutting down")
            try:
                turn = self._transport.exchange(invitation.session, message, seen)
            except ServiceUnreachable:
                tries += 1
                if tries > REPEATED:
                    raise
                self.stopping.wait(min(10.0, 0.2 * 2**tries) * random.uniform(0.5, 1.0))
                continue
            except ServiceRefused as error:
                if error.retry is None or tries >= REPEATED:
                    raise Left("refused", f"{error.given}") from error
                tries += 1
                self.stopping.wait(error.retry + random.uniform(0.0, 0.2))
                continue
            if turn.wait:
                self.stopping.wait(turn.wait)
                if not turn.phase:
                    continue
            return turn

    # -- what it keeps ----------------------------------------------------------------------------------------

    def _fetch(self, digest: bytes, most: int, earlier: Path | None = None) -> Path:
        earlier = earlier if earlier is not None and earlier.exists() else None
        try:
            path = self._transport.blob(digest, self._folder.blobs, most, earlier)
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

    def _forget_session(self, session: bytes) -> None:
        path = self._session_path(session)
        if path.exists():
            FileLog(path).erase()

    def _tidy(self) -> None:
        """Forget logs of sessions that are over."""
        open_sessions = {self._session_path(one.session) for one in self._ledger.unfinished()}
        for path in self._folder.sessions.glob("*.sqlite"):
            if path not in open_sessions:
                FileLog(path).erase()

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
