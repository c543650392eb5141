"""Reading JSON that may have been changed: whatever is wrong with it is one kind of error."""

from typing import Any

import msgspec


class NotJson(ValueError):
    """Bytes that are not JSON, or not of the kind that was asked for."""


def read_json(content: bytes | str, kind: Any = Any) -> Any:
    """JSON as a `kind`.

    Args:
        content: of a file, or a part of one.
        kind: what it should be, as `msgspec` takes it.

    Raises:
        NotJson: it is not JSON, not UTF-8, nested too deeply to be read, or of another kind.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    # msgspec's own errors are ValueErrors, and so is that of bytes that are not UTF-8.
    except (ValueError, RecursionError) as error:
        raise NotJson(f"{error}" or type(error).__name__) from error
