"""Reading JSON that may be damaged: any defect raises the same kind of error."""

from typing import Any

import msgspec


class NotJson(ValueError):
    """Bytes that are not JSON, or not of the expected type."""


def read_json(content: bytes | str, kind: Any = Any) -> Any:
    """Decode JSON to a value of type `kind`.

    Args:
        content: of a file, or of a part of one.
        kind: the expected type, as for `msgspec`.

    Raises:
        NotJson: `content` is not JSON, not UTF-8, too deeply nested, or of another type.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    # msgspec's errors are ValueErrors, and so is the error for bytes that are not UTF-8.
    except (ValueError, RecursionError) as error:
        raise NotJson(f"{error}" or type(error).__name__) from error
