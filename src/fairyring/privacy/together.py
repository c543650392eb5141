"""What several runs on the same people spend together: a promise covers one run, and a second run spends on top of it."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.privacy import _checks, _rdp
from fairyring.privacy._composing import equivalent, gaussian_epsilon, largest_divergences
from fairyring.privacy.accounting import Spent
from fairyring.privacy.ledger import Ledger
from fairyring.privacy.participation import AnyParticipation, AtMost, relation_in
from fairyring.records.layout import LEDGER


def together(runs: Sequence[str | os.PathLike[str]], *, delta: float | None = None) -> Spent:
    """What all releases of several runs spend together, by their ledgers, for a device that may be in all of them.

    Amplification by sampling is not used: two runs with the same seed draw the same people, and a ledger does not know who
    was drawn. So the result exceeds the runs' own numbers if those are amplified, and is below their sum if they are not.

    Args:
        runs: run folders, or ledgers.
        delta: delta of the result; by default the smallest that a run promised.

    Raises:
        PlanError: no runs, one given twice, copies of one run, runs for different units, or delta is out of range.
        LedgerDamaged, RunError, StorageError: a ledger cannot be read.
        MissingExtra: dp-accounting is not installed.
    """
    paths = [Path(run) / LEDGER if Path(run).is_dir() else Path(run) for run in runs]
    if not paths or len({path.resolve() for path in paths}) < len(paths):
        raise PlanError(
            "runs to be added up",
            given="none" if not paths else "one of them twice",
            expected="the folders of different runs",
            do="Give each once.",
        )
    ledgers = [Ledger.read(path) for path in paths]
    beginnings = [one.entries[0].hash for one in ledgers]  # it includes the time
    if len(set(beginnings)) < len(beginnings):
        raise PlanError(
            "runs to be added up",
            given="copies of one run, whose noise is the same",
            expected="different runs",
            do="Give one of them, if no copy was continued. If one was, with other sums, whoever sees both can remove the noise.",
        )
    units = {one.promise.unit for one in ledgers}
    if len(units) > 1:
        raise PlanError(
            "runs to be added up",
            given="some that protect devices and some that protect examples",
            expected="runs of one unit",
            do="Add up the runs of each unit separately.",
        )
    (unit,) = units
    smallest = min(one.promise.delta for one in ledgers) if delta is None else delta
    _checks.delta(smallest)
    parts = [(_unsampled(one.promise.participation), one.spent()) for one in ledgers]
    curves, multipliers = np.zeros(()), []
    for participation, tally in parts:
        counts = _checks.counts(tally.counts)
        if not counts:
            continue
        multiplier = equivalent(counts, participation, tally.rounds)
        if multiplier is None:
            curves = curves + largest_divergences(counts, participation.maximum(tally.rounds))
        else:
            multipliers.append(multiplier)
    inverse_square = sum(multiplier**-2 for multiplier in multipliers)
    if curves.any():
        rdp = curves + np.asarray(_rdp.ORDERS) * inverse_square / 2
        epsilon, accountant = _rdp.to_epsilon(_rdp.ORDERS, rdp, smallest), "RDP (dp-accounting)"
    elif multipliers:
        epsilon, accountant = (
            gaussian_epsilon(inverse_square**-0.5, smallest),
            "exact Gaussian (dp-accounting)",
        )
    else:
        epsilon, accountant = 0.0, "nothing released"
    assumed = (
        f"no amplification by sampling: {'an' if unit == 'example' else 'a'} {unit} may be in all these runs, in each as its "
        "own promise has it"
    )
    return Spent(max(0.0, epsilon), smallest, unit, relation_in(AtMost(), unit), assumed, accountant)


def _unsampled(participation: AnyParticipation) -> AtMost:
    return participation if isinstance(participation, AtMost) else AtMost()
