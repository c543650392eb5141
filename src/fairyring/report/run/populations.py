"""The section on several test populations: what the model does on each of them."""

from fairyring.report.kit import STYLES, Figure, Section, curves, escaped, grid, pair, paragraph, units
from fairyring.report.run.reported_run import ReportedRun

_TITLE = "On each test population"


def populations(folder: ReportedRun) -> Section | None:
    """The section; None where there was one test population, or none."""
    tested = folder.tests
    name = folder.headline
    if len(tested) < 2 or name is None:
        return None
    last = {test: each[-1] for test, each in tested.items()}
    at = units.count(max(round for round, _ in last.values()))
    columns = list(dict.fromkeys([name, *(column for _, values in last.values() for column in values)]))
    rows = [
        [escaped(test), *(escaped(units.metric(column, values.get(column))) for column in columns)]
        for test, (_, values) in last.items()
    ]
    first, others = next(iter(tested)), len(tested) - 1
    body = paragraph(
        f"The model was evaluated on {len(tested)} populations. What else is said of held-out data on this page is about the first, "
        f"{first}; so are early stopping and the choice of the best model. The numbers below are those after round {at}."
    )
    shown = {
        test: [[(round, values[name]) for round, values in each if name in values]]
        for test, each in tested.items()
    }
    drawn = dict(list(shown.items())[: len(STYLES)])
    title = units.title(name)
    caption = f"A line for each population{'' if len(drawn) > others else f'; {len(shown) - len(drawn)} more are in the table only'}."
    figure = Figure(curves(name, drawn, where="on each population", key="populations"), caption, title)
    return Section(
        "populations", _TITLE, body + grid(["population", *map(units.label, columns)], rows) + pair([figure])
    )
