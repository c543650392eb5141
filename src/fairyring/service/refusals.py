"""Why a request is refused: one word for programs, and the rest for people. It becomes a `Problem`."""

from fairyring.core.errors import (
    EnrolmentRefused,
    FairyringError,
    LeaseLost,
    MessageRefused,
    SecureSumError,
    StorageError,
    WireError,
)
from fairyring.messages import Problem

# The status of HTTP for each kind of problem.
STATUS = {
    "malformed": 400,
    "unsigned": 401,
    "unknown_device": 401,
    "forbidden": 403,
    "revoked": 403,
    "not_enrolled": 403,
    "not_found": 404,
    "late": 409,
    "replayed": 409,
    "too_large": 413,
    "unsupported": 426,
    "too_many": 429,
    "failed": 500,
    "busy": 503,
}


class Refused(FairyringError):
    """A request is refused.

    Args:
        kind: of the problem; see `STATUS`.
        given, expected, do: see `FairyringError`.
        retry: seconds after which it may succeed; None if it will not.
    """

    def __init__(self, kind: str, given: str, expected: str, do: str, retry: float | None = None) -> None:
        self.kind, self.retry = kind, retry
        super().__init__("request", given=given, expected=expected, do=do)


def problem_of(error: FairyringError) -> Problem:
    """What a device is told of an error. Of the service's own troubles it learns only that it may try again."""
    if isinstance(error, Refused):
        kind, retry = error.kind, error.retry
    elif isinstance(error, StorageError | LeaseLost):
        return Problem(
            "busy", "a service that is busy", "one that can store what it is sent", "Try again.", 1.0
        )
    elif isinstance(error, EnrolmentRefused):
        kind, retry = "not_enrolled", None
    elif isinstance(error, MessageRefused | SecureSumError):
        kind, retry = "late", None
    elif isinstance(error, WireError):
        kind, retry = ("unsigned" if error.what == "request" else "malformed"), None
    else:
        return Problem("failed", "an error in the service", "none", "Tell the operator of the service.", 60.0)
    given, expected, do = (f"{text}"[:500] for text in (error.given, error.expected, error.do))
    return Problem(kind, given, expected, do, retry)
