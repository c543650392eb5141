"""The error tree. Every error names what was given, what was expected, and what to do.

FairyringError
├── PlanError             a plan, or a part of one, does not make sense           (ValueError)
├── PopulationError       the data of a population is wrong                       (ValueError)
│   └── DataUnavailable   a published set is not on this machine, or is damaged
├── ModelError            a model cannot be trained this way                      (ValueError)
├── WireError             bytes are not one message of this plan                  (ValueError)
├── SecureSumError        a secure sum did not go as agreed
│   ├── MessageRefused    one message of it is not what may come now              (ValueError)
│   └── SessionAborted    a party has left the session for good; no sum comes of it
├── PrivacyError          a privacy promise cannot be kept
│   ├── BudgetSpent       the next release would spend more than was promised; it does not happen
│   ├── LedgerMismatch    a ledger is of another plan
│   └── LedgerDamaged     a ledger was changed, cut or put back to an older copy
├── EcologyError          settings of a world, or what is asked of its inhabitants, do not make sense (ValueError)
├── StatisticsError       values from which no such statistic can be computed          (ValueError)
├── TrainingDiverged      no client sent a finite update                          (ArithmeticError)
├── RunError              a run folder cannot be used
│   ├── RunMismatch       it belongs to another plan, seed or population
│   ├── RunDamaged        it is half-written, or was changed
│   └── StorageError      it could not be written: full disk, no permission
└── MissingExtra          an optional package is not installed                    (ImportError)

PrivacyWarning            is no error: a promise is kept, and is worth little         (UserWarning)
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Never


class FairyringError(Exception):
    """Root of the tree.

    Args:
        what: the thing that is wrong, as the user knows it (``"cohort"``, ``"column 'y'"``).
        given: what was found.
        expected: what would have been right.
        do: the next thing to try.
    """

    def __init__(self, what: str, *, given: object, expected: str, do: str) -> None:
        self.what, self.given, self.expected, self.do = what, given, expected, do
        super().__init__(f"{what}: given {given}; expected {expected}. {do}")


class PlanError(FairyringError, ValueError):
    """A plan, or a part of one, does not make sense."""


class PopulationError(FairyringError, ValueError):
    """The data of a population is wrong."""


class DataUnavailable(PopulationError):
    """A published set is not on this machine, or is not what its checksum says."""


class ModelError(FairyringError, ValueError):
    """A model cannot be trained this way."""


class WireError(FairyringError, ValueError):
    """Bytes are not one message of this plan, or a message does not have the form of the plan's messages."""


class SecureSumError(FairyringError):
    """A secure sum did not go as agreed.

    Attributes:
        stage: where it was, as the party that says so names it.
    """

    def __init__(self, phase: str, *, given: object, expected: str, do: str) -> None:
        self.phase = str(phase)
        super().__init__(f"secure sum, {self.phase}", given=given, expected=expected, do=do)


class MessageRefused(SecureSumError, ValueError):
    """A message is malformed, forged, repeated with other content or out of turn; whoever got it goes on as before."""


class SessionAborted(SecureSumError):
    """A party has left a session for good, and will send nothing more in it; no sum comes of it."""


class PrivacyError(FairyringError):
    """A privacy promise cannot be kept."""


class PrivacyWarning(UserWarning):
    """A promise of privacy is kept, and is worth little; or its noise leaves little to be learned."""


class BudgetSpent(PrivacyError):
    """The next release would spend more than was promised: it does not happen, and nothing more is spent."""


class LedgerMismatch(PrivacyError):
    """A ledger is of another plan: nothing was spent on it."""


class LedgerDamaged(PrivacyError):
    """A ledger was changed, cut, or put back to an older copy: nothing more is released on its word."""


class EcologyError(FairyringError, ValueError):
    """The settings of a world, or what is asked of its inhabitants, do not make sense."""


class StatisticsError(FairyringError, ValueError):
    """Values are too few or not finite, or what is asked of them is no statistic."""


class TrainingDiverged(FairyringError, ArithmeticError):
    """In some round no client sent a finite update."""


class RunError(FairyringError):
    """A run folder cannot be used."""


class RunMismatch(RunError):
    """A run folder belongs to another plan, seed or population."""


class RunDamaged(RunError):
    """A run folder is half-written, or was changed by something else."""


class StorageError(RunError):
    """A run folder could not be written."""


class MissingExtra(FairyringError, ImportError):
    """An optional package is not installed."""

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(
            purpose,
            given=f"no package {package!r}",
            expected=f"the extra {extra!r}",
            do=f"Install it: pip install 'fairyring[{extra}]'.",
        )


def refuse_unknown(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `PlanError` if any of `given` is not one of `known`, with the nearest known name."""
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
