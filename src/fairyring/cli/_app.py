"""The commands and their options. What they do is imported when they are called, so that `--help` is instant."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from fairyring._version import __version__
from fairyring.cli._ecology import ecology
from fairyring.core.errors import FairyringError

app = App(
    name="fairyring",
    help="Federated learning: a population of small devices learns together while its data stays apart.",
    version=__version__,
)


@app.command
def demo(*, out: Path = Path("runs/demo")) -> int:
    """Train on handwritten digits spread over 1,000 clients, in private, audit the run, and write a report.

    Parameters
    ----------
    out:
        Run folder. An earlier demo there is replaced.
    """
    from fairyring.cli import _train

    return _train.demo(out)


@app.command
def train(
    file: Path,
    /,
    *,
    settings: Annotated[tuple[str, ...], Parameter(name="--set", negative=())] = (),
    run: Path | None = None,
    resume: Annotated[bool, Parameter(negative=())] = False,
    rounds: int | None = None,
    seed: int | None = None,
) -> None:
    """Train the plan of a Python file on its population.

    The file defines `plan` and `population`, and may define `test` (a population to evaluate on), `rounds`, `seed`,
    `evaluate_every`, `dropout`, `secure_sum` and `stop`, the arguments of `simulate`.

    Parameters
    ----------
    file:
        The Python file.
    settings:
        NAME=VALUE overrides a field of the plan, such as local.batch_size=5. May be repeated.
    run:
        Run folder; runs/ and the file's name if not given.
    resume:
        Go on with the run in the run folder, to the same bits as if it had not been stopped.
    rounds:
        Rounds to train, in place of the file's.
    seed:
        Seed of all of the run's randomness, in place of the file's.
    """
    from fairyring.cli import _train

    _train.train(file, settings=settings, run=run, resume=resume, rounds=rounds, seed=seed)


@app.command
def report(run: Path, /, *, out: Path | None = None) -> None:
    """Write the report of a run: one HTML file that opens without a network.

    Parameters
    ----------
    run:
        Run folder, of a run in any state.
    out:
        The HTML file; report.html in the run folder if not given.
    """
    from fairyring.cli._terminal import screen
    from fairyring.report import write_report

    screen().print(f"Report: {write_report(run, out)}", highlight=False, soft_wrap=True, markup=False)


@app.command
def verify(run: Path, /, *, head: str | None = None) -> int:
    """Check a run under masks from its folder alone: every transcript, and that it tells what its devices signed.

    The exit status is 1 if no device signed the run's end: it has not ended, or none was left to sign.

    Parameters
    ----------
    run:
        Run folder of a run with secure_sum = "protocol".
    head:
        A head noted earlier, as this command printed it, to look for; its first 16 digits are enough.
    """
    from fairyring.cli import _verify

    return _verify.verify(run, head)


@app.command
def ledger(run: Path, /, *others: Path, head: str | None = None) -> None:
    """Check the privacy ledger of a run, and list what it has spent; of several runs, what they spend together.

    Parameters
    ----------
    run:
        Run folder of a plan with a budget.
    others:
        More of them, over the same people.
    head:
        A head noted earlier, NUMBER:HASH as this command printed it, to look for; of one run.
    """
    from fairyring.cli import _ledger

    _ledger.ledger(run, head) if not others else _ledger.several([run, *others], head)


@app.command
def audit(
    run: Path,
    file: Path | None = None,
    /,
    *,
    canaries: int = 1000,
    targets: int = 6,
    shadows: int | None = None,
) -> int:
    """Attack a run: its noise and canaries against its promise, members told by shadow runs, examples read off its updates.

    The report then shows examples of the population. The exit status is 1 if something contradicts the promise.

    Parameters
    ----------
    run:
        Run folder.
    file:
        The Python file that defines its plan and population; the one it was trained from if not given.
    canaries:
        How many take part in a second run of the plan, at least 30; with 0 only its noise is checked.
    targets:
        How many examples are sought, at least 5; 0 for none.
    shadows:
        How many runs, each with half of the clients, are made to tell members by: an even number, at least 8; 0 for
        none. Up to 64 if not given, as many as take some five minutes.
    """
    from fairyring.cli import _audit

    return _audit.audit(run, file, canaries=canaries, targets=targets, shadows=shadows)


privacy = App(name="privacy", help="Reckon with differential privacy before anything is trained.")
app.command(privacy)


@privacy.command
def plan(
    *,
    population: int,
    cohort: int,
    rounds: int,
    epsilon: float = 8.0,
    delta: float = 1e-6,
    dimension: int = 100_000,
) -> None:
    """What a budget costs in noise, for each way to take part, and how many devices one needs.

    Parameters
    ----------
    population:
        Devices there are.
    cohort:
        Devices a round.
    rounds:
        Rounds in all.
    epsilon:
        The budget.
    delta:
        Its delta; below 1 / population.
    dimension:
        Parameters of the model.
    """
    from fairyring.cli import _privacy

    _privacy.plan(population, cohort, rounds, epsilon, delta, dimension)


app.command(ecology)


@app.command
def data(name: str | None = None, /, *, fetch: Annotated[bool, Parameter(negative=())] = False) -> None:
    """List the published data sets, or tell what one is, where it comes from and whether it is here.

    Parameters
    ----------
    name:
        One of the sets.
    fetch:
        Download it where its source allows that, and check it.
    """
    from fairyring.cli import _data

    _data.show(name, fetch=fetch)


@app.command
def bench(
    name: str | None = None, /, *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)]
) -> int | None:
    """List the benchmarks, or run one.

    Parameters
    ----------
    name:
        One of the benchmarks.
    arguments:
        Handed to it as they are.
    """
    from fairyring.cli import _bench

    return _bench.bench(name, arguments)


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run a command.

    Parameters
    ----------
    debug:
        Show the traceback of an error.
    """
    from fairyring.cli._terminal import show_error

    try:
        return app(tokens, result_action="return_value") or 0
    except FairyringError as error:
        if debug:
            raise
        show_error(error)
        return 2


def launch(tokens: Sequence[str] | None) -> int:
    """Parse `tokens` and run the command; returns the exit status."""
    return app.meta(tokens, result_action="return_value") or 0
