"""The form a run's folder is written in, and the refusal of any other."""

from collections.abc import Mapping
from typing import Any

from fairyring.core.errors import RunMismatch

# The form of a run's folder. 2: the plan's document names the model and the loss. 3: a round's record has the task's metrics in
# a mapping of their own.
FORM = 3


def check_form(saved: Mapping[str, Any], where: str) -> None:
    """Raise `RunMismatch` unless `saved` is the header of a run whose folder is written in today's form."""
    form = saved.get("form", 1)
    if form == FORM:
        return
    lacks = {
        1: ": its plan does not name the model and the loss",
        2: ": its records mix the task's metrics with other columns",
    }
    raise RunMismatch(
        f"run folder {where}",
        given=f"a folder in form {form}, written by fairyring {saved.get('fairyring')}"
        + (lacks.get(form, "") if isinstance(form, int) else ""),
        expected=f"form {FORM}",
        do="Use the version of fairyring that wrote it, or start a new run folder.",
    )
