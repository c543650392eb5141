"""`privacy plan`: what a privacy budget costs, for each way to take part."""

from typing import TYPE_CHECKING

from rich.table import Table

from fairyring.cli._terminal import screen
from fairyring.privacy.cautions import cautions
from fairyring.report import units

if TYPE_CHECKING:
    from fairyring.privacy.planner import Cost

_WORDS = {
    "poisson": "own coin, unseen",
    "fixed_size": "drawn, unseen",
    "in_turn": "in turn",
    "in_turn_correlated": "in turn, correlated",
    "anybody": "anybody, any time",
}
_NOTES = (
    "own coin, unseen: each device joins a round by its own coin and nobody sees which did (Poisson sampling).",
    "drawn, unseen: a uniform draw that nobody sees; protects one device's data against replacement, twice the change.",
    "in turn: a device comes again only when all others have been there; nothing need be secret.",
    "correlated: later noise takes back part of the earlier; the multiplier is that of independent noise with the "
    "same error in the model.",
    "anybody, any time: nothing is assumed.",
    "noise: standard deviation on a coordinate of the mean update, over the clip norm.",
    "signal/noise: norm of a mean update as long as the clip over the norm of its noise; a rough guide.",
    "devices for 1: the population at which that ratio is 1, with the same rounds and share a round.",
)


def plan(population: int, cohort: int, rounds: int, epsilon: float, delta: float, dimension: int) -> None:
    """Print the noise that a budget takes; see the command of the same name."""
    from fairyring.privacy.planner import clients_needed, plan_table

    found = plan_table(
        population=population, cohort=cohort, rounds=rounds, epsilon=epsilon, delta=delta, dimension=dimension
    )
    _say(
        f"{units.count(population, 'device')}, {units.count(rounds, 'round')}, epsilon {epsilon:g} at delta {delta:g} "
        f"for one device, {units.count(dimension, 'parameter')}."
    )
    for caution in cautions(delta=delta, clients=population):
        _say(caution)
    _say("")
    table = Table(box=None, pad_edge=False)
    table.add_column("cohort", justify="right", no_wrap=True)
    table.add_column("takes part", no_wrap=True)
    for name in ("multiplier", "noise", "signal/noise", "devices for 1"):
        table.add_column(name, justify="right", no_wrap=True)
    size = 0
    for row in found:
        if size and row.cohort != size:
            table.add_section()
            table.add_row()
        needed = clients_needed(row)
        table.add_row(
            units.count(row.cohort) if row.cohort != size else "",
            _WORDS[row.way],
            *(["none"] * 4 if needed is None else _values(row, needed)),
        )
        size = row.cohort
    screen().print(table)
    _say("")
    for refused in dict.fromkeys(row.refused for row in found if row.refused):
        _say(f"none: {refused}.")
    for note in _NOTES:
        _say(note)


def _values(row: "Cost", needed: int) -> list[str]:
    numbers = (row.effective, row.noise, row.signal_to_noise)
    return [*map(_number, numbers), units.count(needed)]


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else units.count(value)


def _say(line: str) -> None:
    screen().print(line, highlight=False, markup=False, soft_wrap=True)
