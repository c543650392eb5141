"""The commands and their options. A command imports its code when it is called, so that `--help` is instant."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter

from fairyring._version import __version__
from fairyring.cli._ecology import ecology
from fairyring.cli._help import asked, unasked
from fairyring.cli._result import Result, answer
from fairyring.cli._service_app import add_service_commands
from fairyring.core.program_cache import FOLDER as PROGRAMS
from fairyring.core.program_cache import ProgramCache

_ABOUT = "Federated learning: many small devices train one model together, while their data stays on them."

_TRAINING = Group("Training", sort_key=1)
_RUNS = Group("Runs", sort_key=2)
_PLANNING = Group("Planning and data", sort_key=3)
_HERE = Group("This installation", sort_key=5)
_COMMON = Group("Options of every command", sort_key=9)

Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
Strings = tuple[str, ...]

app = App(
    name="fairyring",
    help=_ABOUT,
    version=__version__,
    version_flags=["--version", "-V"],
    group_commands=Group("Help", sort_key=6),
    group_arguments=Group("Arguments", sort_key=7),
    group_parameters=Group("Options", sort_key=8),
    suppress_keyboard_interrupt=False,
)
app.register_install_completion_command(
    help="Complete commands and options in this shell from now on.", group=_HERE
)


@app.command(group=_TRAINING)
def demo(*, out: Path = Path("runs/demo")) -> Result:
    """Train privately on handwritten digits of 1,000 clients, audit the run, and write a report.

    Parameters
    ----------
    out:
        Run folder. An earlier demo in it is replaced.
    """
    from fairyring.cli import _train

    return _train.demo(out)


@app.command(group=_TRAINING)
def train(
    file: Path,
    /,
    *,
    settings: Annotated[Strings, Parameter(name="--set", negative=(), show_default=False)] = (),
    settings_file: Annotated[Path | None, Parameter(name="--settings")] = None,
    run: Path | None = None,
    resume: Flag = False,
    overwrite: Flag = False,
    rounds: int | None = None,
    seed: int | None = None,
    keep: str | None = None,
    init: Path | None = None,
    track: Annotated[Strings, Parameter(name="--track", negative=(), show_default=False)] = (),
    engine: str | None = None,
) -> Result:
    """Train the plan of a Python file on its population.

    The file defines `plan` and `population`. It may define `test` (a population to evaluate on), `rounds`, `seed`,
    `evaluate_every`, `dropout`, `secure_sum`, `keep_client_states`, `stop`, `keep`, `init` and `track`, which are arguments of `simulate`.

    Parameters
    ----------
    file:
        The Python file.
    settings:
        Override a field of the plan, or a number of a part, with NAME=VALUE: local.batch_size=5, server.learning_rate=0.5,
        aggregation.clip.norm=0.3. May be repeated.
    settings_file:
        A TOML file of such settings: [local] and batch_size = 5. It may also have rounds and seed. What --set says goes before it.
    run:
        Run folder; by default runs/ and the name of the file.
    resume:
        Continue the run in the run folder. The result has the same bits as without the interruption.
    overwrite:
        Replace a run that is in the run folder, unless it is a private one.
    rounds:
        Number of rounds, instead of the one in the file.
    seed:
        Seed of all randomness, instead of the one in the file.
    keep:
        Which models to keep beside the last, of the rounds with an evaluation: "best", "all", or how many of the last ones.
    init:
        Start from this model: a run folder, or a safetensors file.
    track:
        Send the numbers of every round to a tracker: csv:FOLDER, tensorboard:FOLDER, mlflow:URI or wandb:PROJECT. May be repeated.
    engine:
        Where rounds are computed: ray for a Ray cluster started on this machine, ray:auto or ray:ADDRESS for one that runs, debug for plain Python,
        in which a loss or a model can stop at breakpoint(). By default compiled, in this process.
    """
    from fairyring.cli import _train

    return _train.train(
        file,
        settings=settings,
        settings_file=settings_file,
        run=run,
        resume=resume,
        overwrite=overwrite,
        rounds=rounds,
        seed=seed,
        keep=keep,
        init=init,
        track=track,
        engine=engine,
    )


@app.command(group=_TRAINING)
def up(
    file: Path,
    /,
    *,
    devices: int | None = None,
    rounds: int | None = None,
    seed: int | None = None,
    settings: Annotated[Strings, Parameter(name="--set", negative=(), show_default=False)] = (),
    out: Path | None = None,
    rehearse: Flag = False,
    target: str | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Result:
    """Run the plan of a Python file on a service and devices on this machine: the same plan as in `train`, over a network.

    Each device is a process with its own share of the population. The plan is signed; devices fetch it, train, and report through the real
    protocol, with the masks and noise that the plan asks for. The file is one for `train`.

    Parameters
    ----------
    file:
        The Python file.
    devices:
        How many; by default one for each client. Several clients can share a device.
    rounds:
        Number of rounds, instead of the one in the file.
    seed:
        Seed of cohorts and of the first model, instead of the one in the file.
    settings:
        Override a field of the plan: see `train`.
    out:
        A new folder for service and devices; by default runs/ and the name of the file, with -devices.
    rehearse:
        Let devices draw what a simulation with this seed draws, so that the result can be compared. That protects nobody.
    target:
        What programs are compiled for: iree-x86_64, iree-aarch64, iree-vmvx or jax. By default this machine.
    host:
        Address that the service listens on.
    port:
        Port that it listens on; by default any free one.
    """
    from fairyring.cli import _up

    return _up.up(
        file,
        devices=devices,
        rounds=rounds,
        seed=seed,
        settings=settings,
        out=out,
        rehearse=rehearse,
        target=target,
        host=host,
        port=port,
    )


@app.command(group=_RUNS)
def predict(run: Path, data: Path, /, *, out: Path | None = None, round: str | None = None) -> Result:
    """Compute what a run's model says of data: its outputs, such as the logits of a classifier. No plan and no population is needed.

    Parameters
    ----------
    run:
        Run folder.
    data:
        Inputs as the population has them, not prepared: .npy, .npz (the column by its name), .csv or .parquet (a row each).
    out:
        The file to write, .csv or .npy; by default the rows are printed as CSV.
    round:
        Which model: the number of a round whose model was kept, "best", or "best:METRIC". By default the last.
    """
    from fairyring.cli import _predict

    return _predict.predict(run, data, out=out, round=round)


@app.command(group=_RUNS)
def export(
    run: Path,
    /,
    *,
    to: Literal["numpy", "safetensors", "torch", "onnx", "iree"],
    out: Path | None = None,
    rows: int = 1,
    round: str | None = None,
) -> Result:
    """Write a run's model as a file for other software.

    Parameters
    ----------
    run:
        Run folder.
    to:
        "numpy" and "safetensors": the parameters by name. "torch": a state dict. "onnx" and "iree": the forward pass with the parameters and the
        preparation of inputs in it.
    out:
        The file; by default model.npz, model.safetensors, model.pt, model.onnx or model.vmfb, here.
    rows:
        How many rows of inputs an ONNX or IREE model takes at once.
    round:
        Which model, as for `predict`.
    """
    from fairyring.cli import _predict

    return _predict.export(run, to=to, out=out, rows=rows, round=round)


@app.command(group=_TRAINING)
def sweep(
    file: Path,
    /,
    *,
    grid: Annotated[Strings, Parameter(name="--grid", negative=(), show_default=False)] = (),
    settings_file: Annotated[Path | None, Parameter(name="--settings")] = None,
    seeds: int = 3,
    rounds: int | None = None,
    run: Path | None = None,
    resume: Flag = False,
    choose_by: str = "loss",
    at_once: int | None = None,
    track: Annotated[Strings, Parameter(name="--track", negative=(), show_default=False)] = (),
    engine: str | None = None,
) -> Result:
    """Train the plan of a Python file with every setting of a grid and every seed, and choose the best setting.

    The file defines `plan`, `population` and `test`, as for `train`, and may define `validation`: clients by which the best is
    chosen. Otherwise half of the clients in `test` are for that, and the other half judge it. The exit status is 1 if none is chosen.

    Parameters
    ----------
    file:
        The Python file.
    grid:
        A field of the plan and its values, as NAME=VALUE,VALUE, such as local.optimizer.learning_rate=0.03,0.1,0.3. May be repeated.
    settings_file:
        A TOML file of settings, as for `train`; a field with a list of values is part of the grid.
    seeds:
        Number of runs of each setting, with seeds from 0.
    rounds:
        Number of rounds of each run, instead of the one in the file.
    run:
        Folder of the sweep; by default runs/ and the name of the file, with -sweep.
    resume:
        Continue the sweep in that folder. The grid and the seeds may have more values than before.
    choose_by:
        "loss", or the metric by which the best is chosen.
    at_once:
        How many runs at once, each on one core. By default as many as there are cores for small models, otherwise 1, on all cores.
    track:
        Send the numbers of every run to a tracker, as for `train`. May be repeated.
    engine:
        Where runs are computed, as for `train`. On a cluster, small models are trained one run a core.
    """
    from fairyring.cli import _sweep

    return _sweep.sweep(
        file,
        grid=grid,
        settings_file=settings_file,
        seeds=seeds,
        rounds=rounds,
        run=run,
        resume=resume,
        choose_by=choose_by,
        at_once=at_once,
        track=track,
        engine=engine,
    )


@app.command(group=_RUNS)
def track(run: Path, /, *, to: Annotated[Strings, Parameter(name="--to", negative=())]) -> Result:
    """Send the numbers of a run that is in a folder to trackers. The exit status is 1 if one has not taken all of them.

    Parameters
    ----------
    run:
        Run folder.
    to:
        csv:FOLDER, tensorboard:FOLDER, mlflow:URI or wandb:PROJECT. May be repeated.
    """
    from fairyring.cli import _train

    return _train.track(run, to)


@app.command(group=_RUNS)
def compare(
    runs: Annotated[tuple[Path, ...], Parameter(negative=())], /, *, out: Path | None = None
) -> Result:
    """Put runs side by side: a table, where their plans differ, and a report with curves.

    Runs that differ in their seed alone are one setting, with a mean and an interval over seeds.

    Parameters
    ----------
    runs:
        Run folders. A sweep's folder stands for all its runs.
    out:
        The HTML file of the report; by default comparison.html, here.
    """
    from fairyring.cli import _sweep

    return _sweep.compare(runs, out or Path("comparison.html"))


@app.command(group=_RUNS)
def report(run: Path, /, *, out: Path | None = None) -> Result:
    """Write the report of a run or a sweep: one HTML file that can be read offline.

    Parameters
    ----------
    run:
        Folder of the run or the sweep, which may have ended, stopped or failed.
    out:
        The HTML file; by default report.html in the run folder.
    """
    from fairyring.cli._screen import say
    from fairyring.report import write_report

    page = write_report(run, out)
    return Result({"report": page}, lambda: say(f"Report: {page}"))


@app.command(group=_RUNS)
def verify(run: Path, /, *, head: str | None = None) -> Result:
    """Verify a run with the masked protocol from its folder: every transcript, and the history that its devices signed.

    The exit status is 1 if no device signed the end of the run, because it has not ended or no device was left to sign.

    Parameters
    ----------
    run:
        Run folder of a run with secure_sum = "protocol".
    head:
        A head that this command printed earlier, to search for in the history; its first 16 digits are enough.
    """
    from fairyring.cli import _verify

    return _verify.verify(run, head)


@app.command(group=_RUNS)
def ledger(run: Path, /, *others: Path, head: str | None = None) -> Result:
    """Verify the privacy ledger of a run and list what it has spent; for several runs, compute what they spend in total.

    Parameters
    ----------
    run:
        Run folder of a plan with a budget.
    others:
        More run folders, of runs over the same people.
    head:
        A head, NUMBER:HASH, that this command printed earlier, to search for in the ledger of a single run.
    """
    from fairyring.cli import _ledger

    return _ledger.ledger(run, head) if not others else _ledger.total([run, *others], head)


@app.command(group=_RUNS)
def audit(
    run: Path,
    file: Path | None = None,
    /,
    *,
    canaries: int = 1000,
    targets: int = 6,
    shadows: int | None = None,
) -> Result:
    """Audit a run: check its noise, plant canaries, infer members with shadow runs, reconstruct examples from updates.

    Afterwards the report shows examples of the population. The exit status is 1 if a result contradicts the promise.

    Parameters
    ----------
    run:
        Run folder.
    file:
        The Python file that defines its plan and population; by default the one it was trained from.
    canaries:
        Number of canaries in a second run of the plan, at least 30; with 0 only its noise is checked.
    targets:
        Number of examples to reconstruct, at least 5, or 0 for none.
    shadows:
        Number of shadow runs for membership inference, each with half of the clients: an even number, at least 8, or 0
        for none. By default as many as take about five minutes, at most 64.
    """
    from fairyring.cli import _audit

    return _audit.audit(run, file, canaries=canaries, targets=targets, shadows=shadows)


privacy = App(
    name="privacy",
    help="Plan for differential privacy before training.",
    group=_PLANNING,
    group_commands="Commands",
)
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
) -> Result:
    """Compute the noise that a budget requires, for each kind of participation, and how many devices it takes.

    Parameters
    ----------
    population:
        Number of devices.
    cohort:
        Number of devices per round.
    rounds:
        Number of rounds.
    epsilon:
        Epsilon of the budget.
    delta:
        Delta of the budget; it should be below 1 / population.
    dimension:
        Number of parameters of the model.
    """
    from fairyring.cli import _privacy

    return _privacy.plan(population, cohort, rounds, epsilon, delta, dimension)


app.command(ecology)


@app.command(group=_PLANNING)
def data(name: str | None = None, /, *, fetch: Flag = False) -> Result:
    """List the published data sets, or describe one: source, licence, and whether it is on this machine.

    Parameters
    ----------
    name:
        Name of a data set.
    fetch:
        Download the data set if its source allows it, and check it.
    """
    from fairyring.cli import _data

    return _data.show(name, fetch=fetch)


@app.command(group=_HERE)
def cache(*, clear: Flag = False) -> Result:
    """Show where compiled programs are kept, so that later processes need not compile them.

    Parameters
    ----------
    clear:
        Delete them.
    """
    from fairyring.cli._screen import say
    from fairyring.report import units

    found = ProgramCache.of_user()
    if found is None:
        line = f"No programs are kept: {PROGRAMS} is none, or its folder is not yours alone."
        return Result({"folder": None, "programs": 0, "bytes": 0, "limit": 0}, lambda: say(line))
    if clear:
        found.clear()
    programs, size = found.size()
    line = f"{found.folder}: {units.count(programs, 'program')}, {units.size(size)} of at most {units.size(found.limit)}"
    return Result(
        {"folder": found.folder, "programs": programs, "bytes": size, "limit": found.limit},
        lambda: say(line),
    )


@app.command(group=_HERE)
def bench(
    name: str | None = None, /, *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)]
) -> Result:
    """List the benchmarks, or run one.

    Parameters
    ----------
    name:
        Name of a benchmark.
    arguments:
        Arguments for the benchmark.
    """
    from fairyring.cli import _bench

    return _bench.bench(name, arguments)


add_service_commands(app)


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    json: Annotated[bool, Parameter(negative=(), show_default=False, group=_COMMON)] = False,
    debug: Annotated[bool, Parameter(negative=(), show_default=False, group=_COMMON)] = False,
    no_cache: Annotated[bool, Parameter(negative=(), show_default=False, group=_COMMON)] = False,
) -> int:
    """Run a command.

    Parameters
    ----------
    json:
        Print what was found, or an error, as one JSON document.
    debug:
        Show the traceback of an error.
    no_cache:
        Compile all programs, and keep none for later processes.
    """
    if no_cache:
        os.environ[PROGRAMS] = "none"

    def run() -> Any:
        if not tokens:
            return _overview()
        return app(tokens, result_action="return_value", exit_on_error=not json, print_error=not json)

    return answer(run, as_json=json, debug=debug)


def _overview() -> Result:
    """Where to begin."""
    from fairyring.cli._screen import say, show_pairs

    begin = {
        "fairyring demo": "train on data that comes with the package, audit the run, write a report",
        "fairyring train FILE.py": "train the plan of a file on its population",
        "fairyring up FILE.py": "the same plan on a service and devices on this machine",
        "fairyring report RUN": "one HTML file about a run",
        "fairyring ecology": "worlds of evolving learners",
        "fairyring --help": "all commands",
    }

    def show() -> None:
        say(f"fairyring {__version__}", _ABOUT, "")
        show_pairs([*begin.items()])

    names = [name for name in app if not name.startswith("-")]
    return Result({"version": __version__, "commands": names}, show)


def launch(tokens: Sequence[str] | None) -> int:
    """Parse `tokens` and run the command; returns the exit status."""
    given = list(sys.argv[1:] if tokens is None else tokens)
    if (document := asked(app, given)) is not None:
        return answer(lambda: Result(document, lambda: None), as_json=True)
    given = unasked(given)
    first = next((place for place, token in enumerate(given) if not token.startswith("-")), None)
    named = given[first : first + 2] if first is not None else []
    runs_benchmark = len(named) == 2 and named[0] == "bench" and not named[1].startswith("-")
    if first is not None and runs_benchmark and "--" not in given:
        given.insert(first + 2, "--")  # what follows the name of a benchmark is the benchmark's own
    return app.meta(given, result_action="return_value") or 0
