"""Where in a user's module a node of its graph comes from."""

import re
import sysconfig
import traceback
from pathlib import Path

import torch

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in \S+\n\s*(?P<code>.*)')
_INSTALLED, _OURS = Path(torch.__file__).parent, Path(__file__).parents[2]
_STANDARD = Path(sysconfig.get_path("stdlib"))


def layer_of(node: torch.fx.Node) -> tuple[str, str]:
    """The path of a node's layer in the module, and its class; empty if it is of none but the module itself."""
    layers = [(path, kind) for path, kind in (node.meta.get("nn_module_stack") or {}).values() if path]
    if not layers:
        return "", ""
    path, kind = layers[-1]
    name = kind if isinstance(kind, str) else kind.__name__
    return path, name.rpartition(".")[2]


def place_of(node: torch.fx.Node) -> str:
    """The layer of a node, and the line of code, outside of PyTorch if there is one."""
    path, kind = layer_of(node)
    layer = f"layer {path!r} ({kind})" if path else ""
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
