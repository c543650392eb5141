"""Where in a user's module a node of its graph comes from."""

import re
import sysconfig
import traceback
from pathlib import Path

import torch

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in \S+\n\s*(?P<code>.*)')
_INSTALLED, _OURS = Path(torch.__file__).parent, Path(__file__).parents[2]
_STANDARD = Path(sysconfig.get_path("stdlib"))


def place_of(node: torch.fx.Node) -> str:
    """The layer of a node, and the line of code, outside of PyTorch if there is one."""
    layers = [(path, kind) for path, kind in (node.meta.get("nn_module_stack") or {}).values() if path]
    layer = ""
    if layers:
        path, kind = layers[-1]
        name = kind if isinstance(kind, str) else kind.__name__
        layer = f"layer {path.removeprefix('L__self___')!r} ({name.rpartition('.')[2]})"
    frames = [match.groupdict() for match in _FRAME.finditer(node.meta.get("stack_trace") or "")]
    own = [frame for frame in frames if not Path(frame["file"]).is_relative_to(_INSTALLED)]
    line = ""
    if own or frames:
        frame = (own or frames)[-1]
        line = f"{Path(frame['file']).name}:{frame['line']}: {frame['code'].strip()}"
    return ", ".join(part for part in (layer, line) if part) or "the module"


def line_of(error: Exception) -> str:
    """The line of the user's own code that raised an error, innermost first; empty if there is none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and not any(path.is_relative_to(root) for root in (_INSTALLED, _OURS, _STANDARD)):
            return f"{path.name}:{frame.lineno}: {frame.line}"
    return ""


def first_line(error: Exception) -> str:
    """What an error says first."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
