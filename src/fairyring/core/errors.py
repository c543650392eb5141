"""The tree of errors. Every error says what was given, what was expected, and what to do.

FairyringError
├── PlanError             a plan or an option is invalid                            (ValueError)
├── PopulationError       the data of a population is invalid                       (ValueError)
│   └── DataUnavailable   a data set is not on this machine, or is damaged
├── ModelError            a model cannot be trained                                 (ValueError)
├── WireError             bytes are not a message of this plan                      (ValueError)
├── SecureSumError        a party of a secure sum violated the protocol
│   ├── MessageRefused    a message is invalid, or is not expected now              (ValueError)
│   └── SessionAborted    a party has left the session for good; there will be no sum
├── PrivacyError          a privacy promise cannot be kept
│   ├── BudgetSpent       the next release would exceed the budget, and does not happen
│   ├── LedgerMismatch    a ledger belongs to another plan
│   ├── LedgerDamaged     a ledger was changed, truncated or replaced by an older copy
│   └── ParticipationRefused  a device does not take part in a round, by its own ledger
├── EcologyError          settings or arguments of an ecology are invalid           (ValueError)
├── StatisticsError       a statistic cannot be computed from these values          (ValueError)
├── TrainingDiverged      no client sent a finite update                            (ArithmeticError)
├── TrainingFailed        a device's training did not give a result
├── RunError              a run folder cannot be used
│   ├── RunMismatch       it belongs to another plan, seed or population
│   ├── RunDamaged        it is incomplete, or was changed
│   ├── StorageError      it cannot be written: full disk, no permission
│   └── LeaseLost         another process has taken over its work; nothing was written
├── EnrolmentRefused      a device may not be enrolled, or is no longer
├── ServiceRefused        a service says no to a device
├── ServiceUnreachable    a service does not answer
├── MissingExtra          an optional package is not installed                      (ImportError)
└── NotForDevices         the distribution for devices lacks what was asked for     (ImportError)

PrivacyWarning            not an error: a promise is kept, but is weak              (UserWarning)
PopulationWarning         not an error: a population can be used, but not for all     (UserWarning)
PerformanceWarning        not an error: a part of a model trains slowly             (UserWarning)
TrainingWarning           not an error: a run goes on, but its training is hampered  (UserWarning)
TrackerWarning            not an error: a tracker has not taken all numbers         (UserWarning)
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Never


class FairyringError(Exception):
    """The base class of all errors.

    Args:
        what: the thing that is wrong, in the user's terms (``"cohort"``, ``"column 'y'"``).
        given: what was given.
        expected: what was expected instead.
        do: what the user can do.
    """

    def __init__(self, what: str, *, given: object, expected: str, do: str) -> None:
        self.what, self.given, self.expected, self.do = what, given, expected, do
        super().__init__(f"{what}: given {given}; expected {expected}. {do}")

    def __reduce__(self) -> tuple[Any, ...]:
        """An error that another process raised, such as a node of a cluster, is the same here."""
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[FairyringError], args: tuple[Any, ...], facts: dict[str, Any]) -> FairyringError:
    error = kind.__new__(kind, *args)
    vars(error).update(facts)
    return error


class PlanError(FairyringError, ValueError):
    """A plan or an option is invalid."""


class PopulationError(FairyringError, ValueError):
    """The data of a population is invalid."""


class DataUnavailable(PopulationError):
    """A data set is not on this machine, or does not match its checksum."""


class ModelError(FairyringError, ValueError):
    """A model cannot be trained."""


class WireError(FairyringError, ValueError):
    """Bytes are not a message of this plan, or a message does not have the form of the plan's messages."""


class SecureSumError(FairyringError):
    """A party of a secure sum violated the protocol.

    Attributes:
        stage: the stage of the protocol, as named by the party that raises the error.
    """

    def __init__(self, phase: str, *, given: object, expected: str, do: str) -> None:
        self.phase = str(phase)
        super().__init__(f"secure sum, {self.phase}", given=given, expected=expected, do=do)


class MessageRefused(SecureSumError, ValueError):
    """A message is malformed, forged, repeated with other content, or not expected now. Its receiver ignores it."""


class SessionAborted(SecureSumError):
    """A party has left a session for good and will send nothing more in it; there will be no sum."""


class PrivacyError(FairyringError):
    """A privacy promise cannot be kept."""


class PrivacyWarning(UserWarning):
    """A privacy promise is kept but is weak, or its noise leaves little to learn."""


class PopulationWarning(UserWarning):
    """A population can be used, but something that is usually asked of it is undefined."""


class PerformanceWarning(UserWarning):
    """A part of a model is computed correctly, but slowly; it could be written in a form that is fast."""


class TrainingWarning(UserWarning):
    """A run is computed as its plan says, but something in the plan hampers its training, or has ended it early."""


class TrackerWarning(UserWarning):
    """A tracker has not taken all of a run's numbers. The run itself is not affected."""


class BudgetSpent(PrivacyError):
    """The next release would exceed the budget. It does not happen, and nothing more is spent."""


class LedgerMismatch(PrivacyError):
    """A ledger belongs to another plan. Nothing was spent."""


class LedgerDamaged(PrivacyError):
    """A ledger was changed, truncated or replaced by an older copy. Nothing more is released that relies on it."""


class ParticipationRefused(PrivacyError):
    """A device does not take part in a round: its own ledger, its owner's limits or the plan's manifest say so. Nothing was sent.

    Attributes:
        reason: a word for programs: `expired`, `rounds`, `participations`, `separation`, `session`, `order` or `cap`.
    """

    def __init__(self, reason: str, *, given: object, expected: str, do: str) -> None:
        self.reason = reason
        super().__init__("taking part", given=given, expected=expected, do=do)


class EcologyError(FairyringError, ValueError):
    """Settings of a world, or arguments of a function of the ecology, are invalid."""


class StatisticsError(FairyringError, ValueError):
    """A statistic cannot be computed: values are too few or not finite, or the statistic is undefined for them."""


class TrainingDiverged(FairyringError, ArithmeticError):
    """In a round no client sent a finite update."""


class TrainingFailed(FairyringError):
    """A device's training did not give a result that can be sent. The device itself goes on.

    Attributes:
        reason: a word for programs: `timeout`, `memory`, `crashed` or `nonsense`.
    """

    def __init__(self, reason: str, *, given: object, expected: str, do: str) -> None:
        self.reason = reason
        super().__init__(f"training, {reason}", given=given, expected=expected, do=do)


class RunError(FairyringError):
    """A run folder cannot be used."""


class RunMismatch(RunError):
    """A run folder belongs to another plan, seed or population."""


class RunDamaged(RunError):
    """A run folder is incomplete, or was changed by another program."""


class StorageError(RunError):
    """A run folder cannot be written."""


class LeaseLost(RunError):
    """A lease has expired, or another process holds it now. The transaction that needed it wrote nothing."""


class EnrolmentRefused(FairyringError):
    """A token is unknown, expired or used up, or a device was revoked."""


class ServiceRefused(FairyringError):
    """A service refuses a request of a device.

    Attributes:
        kind: a word for programs; see `fairyring.messages.Problem`.
        retry: seconds after which the same request may succeed; None if it will not.
    """

    def __init__(
        self, kind: str, *, given: object, expected: str, do: str, retry: float | None = None
    ) -> None:
        self.kind, self.retry = kind, retry
        super().__init__("the service", given=given, expected=expected, do=do)


class ServiceUnreachable(FairyringError):
    """A service does not answer, or not as one does. A device tries again by itself."""


class MissingExtra(FairyringError, ImportError):
    """An optional package is not installed."""

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(
            purpose,
            given=f"no package {package!r}",
            expected=f"the extra {extra!r}",
            do=f"Install it: pip install 'fairyring[{extra}]'.",
        )


class NotForDevices(FairyringError, ImportError):
    """The distribution for devices, fairyring-device, lacks what was asked for."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"fairyring.{name}",
            given="the distribution fairyring-device, which has only what a device needs",
            expected="the whole package",
            do="Install it in an environment of its own: pip install fairyring.",
        )


def refuse_unknown(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `PlanError` if a name in `given` is not in `known`. The error suggests the nearest known name."""
    known = list(known)
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Remove it."
            _unknown(owner, name, known, hint)


def _unknown(owner: str, name: str, known: list[str], hint: str) -> Never:
    raise PlanError(
        f"{owner} field {name!r}", given="an unknown field", expected=f"one of {', '.join(known)}", do=hint
    )
