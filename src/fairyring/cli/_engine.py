"""`--engine`: where the rounds of a plan file are computed."""

from pathlib import Path
from types import ModuleType
from typing import Any

from fairyring.cli._plan_file import modules_beside
from fairyring.core.errors import PlanError


def engine_from(given: str | None, file: Path) -> dict[str, Any]:
    """The argument `engine` of `simulate` and `sweep`, where there is one.

    Args:
        given: ``"compiled"``, ``"debug"``, ``"ray"`` or ``"ray:ADDRESS"``.
        file: the plan file, which has been run.

    Raises:
        PlanError: it is none of these.
        MissingExtra: Ray is not installed.
    """
    if given is None:
        return {}
    if given in ("compiled", "debug"):
        return {"engine": given}
    kind, colon, address = given.partition(":")
    if kind != "ray" or (colon and not address):
        raise PlanError(
            "--engine",
            given=repr(given),
            expected="compiled, debug, ray or ray:ADDRESS",
            do="Write --engine ray for this machine, or --engine ray:auto for a cluster that it belongs to.",
        )
    from fairyring.distributed import ray, send_by_value

    engine = ray(address or None)
    modules: list[ModuleType] = modules_beside(file)
    send_by_value(modules)
    return {"engine": engine}
