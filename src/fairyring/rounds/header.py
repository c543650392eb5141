"""The header of a run, `run.json`: what ran, and whether a run that is resumed is the same one."""

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from fairyring._version import __version__
from fairyring.core.errors import RunMismatch
from fairyring.learning.code import Columns
from fairyring.learning.plan import Plan
from fairyring.records.form import FORM, check_form

# What a resumed run must have in common with the run that began, beside its fingerprints.
SAME = ("seed", "dropout", "secure_sum", "canaries")


def new_header(
    plan: Plan,
    population: str,
    *,
    columns: Columns,
    rounds: int,
    seed: int,
    started: str,
    machine: Mapping[str, Any],
    dropout: float | str = 0.0,
    secure_sum: str | None = None,
    canaries: int = 0,
    test: str | None = None,
    init: str | None = None,
    warnings: list[str] | None = None,
) -> dict[str, Any]:
    """The header of a run that begins.

    Args:
        plan: what runs.
        population: fingerprint of the data.
        columns: of its examples: `plan.task.columns_of(population)`.
        rounds, seed: of the run.
        started: when it started, in ISO 8601.
        machine: what it runs on.
        dropout: probability that a sampled client vanishes, or the client attribute with each client's own.
        secure_sum: how it is computed; None without one.
        canaries: how many take the places of clients.
        test: fingerprint of the test population; None without one.
        init: digest of the model that the run starts from; None for that of the plan.
        warnings: reasons why the plan's privacy guarantee is worth little.
    """
    prints = {"plan": plan.digest(columns), "population": population}
    if plan.terms is not None:
        prints["terms"] = plan.terms.plan.hex()
    text = f"{prints['plan']} {population} {seed} {dropout}" + (f" {canaries} canaries" if canaries else "")
    text += f" from {init}" if init else ""
    return {
        "fairyring": __version__,
        "status": "running",
        "seed": seed,
        "rounds": rounds,
        "dropout": dropout,
        "fingerprint": hashlib.sha256(text.encode()).hexdigest(),
        "fingerprints": prints,
        "test": test,
        **({"init": init} if init else {}),
        "form": FORM,
        "code": plan.code(columns),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("jax", "jaxlib", "numpy", "optax")},
        },
        "machine": dict(machine),
        "started": started,
        "seconds": 0.0,
        "compile_seconds": 0.0,
        "secure_sum": secure_sum,
        "canaries": canaries,
        "privacy": plan.protection.describe() | {"warnings": warnings or []} if plan.protection else None,
    }


def check_same(header: Mapping[str, Any], saved: Mapping[str, Any], where: str) -> None:
    """Raise `RunMismatch` unless `saved`, found in the folder `where`, is the header of the same run."""
    check_form(saved, where)
    given = {**header["fingerprints"], **{name: header[name] for name in SAME}}
    before = {**saved["fingerprints"], **{name: saved.get(name, 0) for name in SAME}}
    given, before = given | {"first model": header.get("init")}, before | {"first model": saved.get("init")}
    programs, earlier = header["code"]["programs"], (saved.get("code") or {}).get("programs", {})
    if header["test"] and saved.get("test"):  # one may come later, or stay away
        given, before = (
            given | {"test population": header["test"]},
            before | {"test population": saved["test"]},
        )
    parts = [name for name, program in programs.items() if earlier.get(name) != program]
    other = f", of another {', '.join(parts)}" if parts else ""
    versions = {k: v for k, v in saved["versions"].items() if header["versions"].get(k) != v}
    also = (
        f" (the run was made with {versions}, which alone can change the digest of a plan's programs)"
        if versions
        else ""
    )
    for name, value in given.items():
        if before[name] != value:
            raise RunMismatch(
                f"run folder {where}",
                given=f"a run of another {name}: {str(before[name])[:12]}"
                + (other if name == "plan" else ""),
                expected=f"{name} {str(value)[:12]}",
                do=f"Resume with the {name} the run was started with, or start a new run folder{also}.",
            )
