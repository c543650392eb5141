"""Classifying SQLite's errors: a file that cannot be used at present, or one that is damaged."""

import sqlite3

_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
    }
)


def busy(error: sqlite3.Error) -> bool:
    """Whether another process or connection has locked the file."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def unwritable(error: sqlite3.Error) -> bool:
    """Whether the file or its folder cannot be written."""
    return _code(error) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


def unavailable(error: sqlite3.Error) -> bool:
    """Whether the file is locked or inaccessible, or the disk is full; its contents may be intact."""
    return _code(error) in _UNAVAILABLE


def _code(error: sqlite3.Error) -> int:
    # The low byte is the error; the rest says which call failed.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
