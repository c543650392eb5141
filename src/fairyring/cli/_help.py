"""`--help` and `--version` for programs: what a command is and which options it has, as plain values."""

import re
from collections.abc import Sequence
from inspect import Parameter as Python
from pathlib import PurePath
from typing import Any

from cyclopts import App, Argument

from fairyring._version import __version__

HELP, VERSION, JSON = {"--help", "-h"}, {"--version", "-V"}, "--json"


def unasked(tokens: Sequence[str]) -> list[str]:
    """A command line without the questions that `asked` could not answer, so that what is wrong with it is told as JSON, too."""
    end = tokens.index("--") if "--" in tokens else len(tokens)
    dropped = HELP if JSON in tokens[:end] else set()
    return [token for place, token in enumerate(tokens) if place >= end or token not in dropped]


def asked(app: App, tokens: Sequence[str]) -> dict[str, Any] | None:
    """The document that a command line with `--json` asks for by `--help` or `--version`; None if it asks for neither.

    Args:
        app: all commands; its meta app has the options of every command.
        tokens: of the command line. What follows `--` is not for us.
    """
    own = list(tokens[: tokens.index("--")] if "--" in tokens else tokens)
    if JSON not in own or not (HELP | VERSION) & set(own):
        return None
    words = [token for token in own if token not in {JSON, *HELP, *VERSION, "--debug", "--no-cache"}]
    if not HELP & set(own):
        return {"version": __version__} if not words else None
    names, apps, rest = app.parse_commands(words)
    command = apps[-1]
    commands = {name: command[name] for name in command if not name.startswith("-")}
    if commands and rest:
        return None  # no such command
    arguments = (
        [one for one in command.assemble_argument_collection(parse_docstring=True) if one.show]
        if command.default_command
        else []
    )
    return {
        "name": " ".join(("fairyring", *names)),
        "purpose": _purpose(command),
        "commands": [{"name": name, "purpose": _purpose(one)} for name, one in commands.items()],
        "arguments": [_described(one) for one in arguments if one.index is not None],
        "options": [_described(one) for one in arguments if one.index is None],
        "common_options": [_described(one) for one in app.meta.assemble_argument_collection(parse_docstring=True) if one.show],
    }  # fmt: skip


def _purpose(command: App) -> str:
    """What a command is for: its description, without that of its parameters."""
    text = re.split(r"\n\s*Parameters\n", command.help or "")[0].replace("`", "")
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip())


def _described(one: Argument) -> dict[str, Any]:
    default = one.field_info.default
    known = default not in (None, Python.empty, ())
    return {
        "name": one.names[0],
        "names": list(one.names),
        "help": " ".join((one.parameter.help or "").split()),
        "required": bool(one.required),
        "default": (str(default) if isinstance(default, PurePath) else default) if known else None,
        "choices": list(one.get_choices() or ()),
    }
