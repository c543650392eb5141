"""The documents of `--json` as docs/command_line.md has them."""

import json
import re
from pathlib import Path
from typing import Any

_PAGE = Path(__file__).parents[2] / "docs" / "command_line.md"
# command -> names of the fields
FIELDS = {
    row[1]: set(re.findall(r"`(\w+)`", row[2]))
    for row in re.finditer(
        r"^\| `([^`]+)` \| (.*) \|$", _PAGE.read_text("utf-8").partition("## JSON")[2], re.M
    )
}


def document(command: str, out: str) -> dict[str, Any]:
    """What a command has printed: one JSON document, with the fields that are documented and no other."""
    found = json.loads(out)
    assert set(found) == FIELDS[command]
    return found
