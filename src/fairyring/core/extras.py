"""Optional packages."""

from importlib.util import find_spec

from fairyring.core.errors import MissingExtra


def require(package: str, *, extra: str, purpose: str) -> None:
    """Look for an optional package without importing it.

    Args:
        package: the name it is imported by.
        extra: of fairyring, that has it.
        purpose: what it is for.

    Raises:
        MissingExtra: it is not installed.
    """
    if find_spec(package) is None:
        raise MissingExtra(package, extra=extra, purpose=purpose)
