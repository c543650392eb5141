"""What a command found, apart from how it is shown: to people as text, or to programs as one JSON document.

A command returns a `Result`; `answer` shows it. So no command knows of `--json`.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any

from cyclopts import CycloptsError

from fairyring.core.errors import FairyringError, PrivacyWarning

INTERRUPTED = 130  # the exit status after Ctrl-C


@dataclass(frozen=True)
class Result:
    """What a command found.

    Attributes:
        found: by the names that docs/command_line.md has.
        show: prints it for people.
        status: the exit status.
    """

    found: Mapping[str, Any]
    show: Callable[[], None]
    status: int = 0


class Interrupted(Exception):
    """Ctrl-C, in a command that knows what is kept.

    Args:
        kept: what is, in a sentence.
        command: which goes on with it; None if nothing was kept.
    """

    def __init__(self, kept: str, command: str | None = None) -> None:
        self.kept, self.command = kept, command
        super().__init__(kept)


def answer(run: Callable[[], Any], *, as_json: bool = False, debug: bool = False) -> int:
    """Run a command, and print what it found or what was wrong.

    As JSON, standard output has one document and nothing else: whatever is printed meanwhile goes to standard error. Of an error it is
    ``{"error": {...}}``, after Ctrl-C ``{"interrupted": {...}}``. Warnings go to standard error in any case.

    Args:
        run: the command. It may also return its exit status, or None, if there is nothing to tell.
        as_json: whether to print JSON.
        debug: raise an error again, for its traceback.

    Returns:
        The exit status.
    """
    with _readable_warnings():
        return _answer_program(run, debug=debug) if as_json else _answer_people(run, debug=debug)


def _answer_program(run: Callable[[], Any], *, debug: bool) -> int:
    with _standard_output_for_a_document() as write:
        try:
            result = run()
        except FairyringError as error:
            write({"error": _fields(error)})
            if debug:
                raise
            return 2
        except CycloptsError as error:
            words = " ".join(str(error).split())
            hint = "See the options: --help."
            write(_error("UsageError", "the command line", words, "a command and its options", hint))
            return 2
        except (Interrupted, KeyboardInterrupt) as stopped:
            known = stopped if isinstance(stopped, Interrupted) else Interrupted("Stopped.")
            write({"interrupted": {"kept": known.kept, "command": known.command}})
            return INTERRUPTED
        except Exception as error:
            hint = "This is a defect of fairyring, or of a program that it ran: see the traceback on standard error."
            write(_error(type(error).__name__, "the command", str(error), "no error", hint))
            raise
        if not isinstance(result, Result):
            result = Result({"status": int(result or 0)}, lambda: None, int(result or 0))
        write(result.found)
        return result.status


def _answer_people(run: Callable[[], Any], *, debug: bool) -> int:
    from fairyring.cli._screen import say, screen

    try:
        result = run()
        if not isinstance(result, Result):
            return int(result or 0)
        result.show()
        return result.status
    except FairyringError as error:
        if debug:
            raise
        from fairyring.cli._terminal import show_error

        show_error(error)
        return 2
    except Interrupted as stopped:
        if stopped.command is None:
            say(stopped.kept)
        else:  # in one line, which can be copied
            line = f"{stopped.kept} Continue with: {stopped.command}"
            screen().print(line, highlight=False, markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        say("Stopped.")
    return INTERRUPTED


def _error(kind: str, what: str, given: str, expected: str, do: str) -> dict[str, Any]:
    return {
        "error": {"kind": kind, "what": what, "given": given, "expected": expected, "do": do, "where": []}
    }


def _fields(error: FairyringError) -> dict[str, Any]:
    return {
        "kind": type(error).__name__,
        "what": error.what,
        "given": str(error.given),
        "expected": error.expected,
        "do": error.do,
        "where": list(getattr(error, "__notes__", ())),
    }


@contextmanager
def _readable_warnings() -> Iterator[None]:
    """Within, the package's own warnings are printed as a user reads them, without the line of code that they come from."""
    before = warnings.showwarning

    def show(message: Any, category: type[Warning], *rest: Any) -> None:
        if category.__module__ != PrivacyWarning.__module__:
            before(message, category, *rest)
            return
        from fairyring.cli._screen import screen
        from fairyring.cli._terminal import show_warning

        show_warning(screen(error=True), str(message))

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


@contextmanager
def _standard_output_for_a_document() -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Within, what Python, a library or another process prints goes to standard error; the document is printed at the end."""
    documents: list[Mapping[str, Any]] = []
    own = sys.stdout
    own.flush()
    try:
        with redirect_stdout(sys.stderr), _descriptor_of_standard_error_as_that_of_output():
            yield documents.append
    finally:
        for document in documents:
            own.write(_encoded(document) + "\n")
        own.flush()


@contextmanager
def _descriptor_of_standard_error_as_that_of_output() -> Iterator[None]:
    kept = None
    with suppress(OSError):  # one of them may be closed
        kept = os.dup(1)
        os.dup2(2, 1)
    try:
        yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


def _encoded(document: Mapping[str, Any]) -> str:
    """JSON, which has no NaN and no infinity: they are null."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(document, enc_hook=_plain), indent=2).decode()


def _plain(value: Any) -> Any:
    """A value that msgspec does not know: a path, or a number or an array of NumPy."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} in a document")
