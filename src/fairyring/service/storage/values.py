"""Values as both databases take them: short texts without control characters, keys of a fixed length, JSON in one form."""

import json
import math
from collections.abc import Mapping
from typing import Any

from fairyring.core.errors import PlanError

KEY_BYTES = 32  # of a device's public key, and of a digest


def line(value: str, what: str, *, most: int = 200) -> str:
    """A text of one line.

    Raises:
        PlanError: it is too long, or has characters that are not printed.
    """
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise PlanError(
            what,
            # What was given may be a secret in the wrong place.
            given=f"a text of {len(value)} characters" if isinstance(value, str) else type(value).__name__,
            expected=f"a text of at most {most} printable characters",
            do="Choose another one.",
        )
    return value


def key(value: bytes, what: str) -> bytes:
    """A public key or a digest.

    Raises:
        PlanError: it is not 32 bytes.
    """
    return identifier(value, what, least=KEY_BYTES, most=KEY_BYTES)


def identifier(value: bytes, what: str, *, least: int = 1, most: int = 64) -> bytes:
    """Bytes that name something.

    Raises:
        PlanError: they are too few or too many.
    """
    if not isinstance(value, bytes) or not least <= len(value) <= most:
        raise PlanError(
            what,
            given=f"{len(value)} bytes" if isinstance(value, bytes) else type(value).__name__,
            expected=f"{least} bytes" if least == most else f"{least} to {most} bytes",
            do="Give the bytes themselves, not their text.",
        )
    return value


def document(value: Mapping[str, Any], what: str) -> str:
    """A dictionary as canonical JSON: keys sorted, ASCII, no spaces.

    Raises:
        PlanError: it holds what JSON does not have, such as bytes or NaN.
    """
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise PlanError(
            what, given=f"{error}", expected="what JSON has", do="Write bytes as hexadecimal text."
        ) from None


def time_of(value: float, what: str) -> float:
    """A time, in seconds since 1970.

    Raises:
        PlanError: it is not a finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PlanError(what, given=f"{value!r}", expected="seconds since 1970", do="Give a finite number.")
    return float(value)


def whole(value: int, what: str, *, least: int, most: int = 2**62) -> int:
    """A whole number within limits.

    Raises:
        PlanError: it is not one.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise PlanError(
            what, given=f"{value!r}", expected=f"a whole number of at least {least}", do="Change it."
        )
    return value
