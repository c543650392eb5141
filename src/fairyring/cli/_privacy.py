"""`privacy plan`: the noise that a privacy budget requires, for each kind of participation."""

from typing import TYPE_CHECKING

from fairyring.cli._result import Result
from fairyring.cli._screen import say, show_table
from fairyring.privacy.cautions import cautions
from fairyring.report import units

if TYPE_CHECKING:
    from fairyring.privacy.planner import Cost

_PARTICIPATION = {
    "poisson": "Poisson, secret",
    "fixed_size": "fixed size, secret",
    "in_turn": "in turn",
    "in_turn_correlated": "in turn, correlated",
    "anybody": "arbitrary",
}
_NOTES = (
    "Poisson, secret: each device decides independently whether to join a round, and nobody sees which did.",
    "fixed size, secret: a uniform sample of fixed size that nobody sees. It protects against the replacement of a "
    "device's data, which is twice the change.",
    "in turn: a device takes part again only after all others have; nothing has to be secret.",
    "correlated: later noise cancels part of earlier noise. The multiplier is that of independent noise with the same "
    "error in the model.",
    "arbitrary: nothing is assumed about participation.",
    "noise: standard deviation of the noise on a coordinate of the mean update, over the clip norm.",
    "signal/noise: the clip norm over the norm of the noise in the mean update; a rough guide.",
    "devices for 1: the population for which this ratio is 1, with the same rounds and the same fraction per round.",
)


def plan(population: int, cohort: int, rounds: int, epsilon: float, delta: float, dimension: int) -> Result:
    """The noise that a budget requires; see the command `privacy plan`."""
    from fairyring.privacy.planner import clients_needed, plan_table

    rows = plan_table(
        population=population, cohort=cohort, rounds=rounds, epsilon=epsilon, delta=delta, dimension=dimension
    )
    needed = [clients_needed(row) for row in rows]
    warnings = list(cautions(delta=delta, clients=population))
    found = {
        "population": population,
        "rounds": rounds,
        "epsilon": epsilon,
        "delta": delta,
        "dimension": dimension,
        "warnings": warnings,
        "ways": [
            {
                "cohort": row.cohort,
                "participation": row.way,
                "multiplier": row.effective,
                "noise": row.noise,
                "signal_to_noise": row.signal_to_noise,
                "devices_for_1": devices,
                "refused": row.refused or None,
            }
            for row, devices in zip(rows, needed, strict=True)
        ],
    }

    def show() -> None:
        say(
            f"{units.count(population, 'device')}, {units.count(rounds, 'round')}, epsilon {epsilon:g} at delta {delta:g} "
            f"for one device, {units.count(dimension, 'parameter')}.",
            *warnings,
            "",
        )
        cells = [
            [
                units.count(row.cohort),
                _PARTICIPATION[row.way],
                *(["none"] * 4 if devices is None else _values(row, devices)),
            ]
            for row, devices in zip(rows, needed, strict=True)
        ]
        heads = ["cohort", "participation", "multiplier", "noise", "signal/noise", "devices for 1"]
        show_table(heads, cells, words=("participation",))
        refusals = dict.fromkeys(row.refused for row in rows if row.refused)
        say("", *(f"none: {refused}." for refused in refusals), *_NOTES)

    return Result(found, show)


def _values(row: "Cost", needed: int) -> list[str]:
    numbers = (row.effective, row.noise, row.signal_to_noise)
    return [*map(_number, numbers), units.count(needed)]


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else units.count(value)
