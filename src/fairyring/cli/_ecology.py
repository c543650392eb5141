"""The commands of `ecology`. Their implementations are imported when they are called, so that `--help` is instant."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter

from fairyring.cli._result import Result

ecology = App(
    name="ecology",
    help="Worlds of evolving learners: bacteria without a built-in goal.",
    group=Group("Ecology", sort_key=4),
    group_commands=Group("Commands", sort_key=5),
)

Settings = Annotated[tuple[str, ...], Parameter(name="--set", negative=(), show_default=False)]
Flag = Annotated[bool, Parameter(negative=(), show_default=False)]


@ecology.command
def run(
    world: Literal["v1", "v2"],
    /,
    *,
    live: Flag = False,
    worlds: int | None = None,
    steps: int | None = None,
    seed: int | None = None,
    settings: Settings = (),
    out: Path | None = None,
    resume: Flag = False,
    controls: int | None = None,
    csv: Path | None = None,
    port: int | None = None,
) -> Result:
    """Let worlds evolve, and decide for each whether chemotaxis evolved.

    Parameters
    ----------
    world:
        v1: bacteria that inherit a table of actions; v2: bacteria that inherit rewards and learn from them.
    live:
        Watch one world, number 0 of the seed, as a page in the browser; nothing is stored.
    worlds:
        How many; 8 if not given.
    steps:
        Of each world, over all sittings; 8000 if not given.
    seed:
        Of all randomness; 0 if not given.
    settings:
        NAME=VALUE changes a setting, such as food_influx=20. May be repeated.
    out:
        The file of the run; by default runs/v1-seed0.eco, by world and seed. Its control worlds are stored beside it.
    resume:
        Continue the run in that file, to the same bits as if it had not been stopped.
    controls:
        Worlds with scrambled heredity for the decision, of as many steps; as many as the worlds, but from 4 to 16, if not
        given. 0: no decision.
    csv:
        A file to write the table of the worlds to.
    port:
        Of the live page, 8765 if not given; 0 for any free one.
    """
    from fairyring.cli import _ecology_run

    if live:
        given = {"--worlds": worlds, "--steps": steps, "--out": out, "--controls": controls, "--csv": csv}
        useless = [name for name, value in given.items() if value is not None] + ["--resume"] * resume
        return _ecology_run.watch(world, seed, settings, port, useless)
    if port is not None:
        _ecology_run.refuse_port(port)
    return _ecology_run.run(
        world,
        worlds=worlds,
        steps=steps,
        seed=seed,
        settings=settings,
        out=out,
        resumed=resume,
        controls=controls,
        csv=csv,
    )


@ecology.command
def sweep(
    world: Literal["v1", "v2"],
    /,
    *,
    grid: Annotated[tuple[str, ...], Parameter(name="--grid", negative=(), show_default=False)] = (),
    settings: Settings = (),
    seeds: int = 3,
    worlds: int = 4,
    steps: int = 8000,
    run: Path | None = None,
    resume: Flag = False,
    assay: Annotated[bool, Parameter(negative="--no-assay")] = True,
) -> Result:
    """Let worlds evolve with every setting of a grid and every seed, and compare what lives in them.

    Writes DIR/settings.csv, DIR/runs.csv and DIR/ecology-sweep.json beside the runs. The exit status is 1 if a run failed.

    Parameters
    ----------
    world:
        v1: bacteria that inherit a table of actions; v2: bacteria that inherit rewards and learn from them.
    grid:
        A setting and its values, as NAME=VALUE,VALUE, such as food_influx=15,30,60. May be repeated.
    settings:
        NAME=VALUE changes a setting of all worlds. May be repeated.
    seeds:
        Number of runs of each setting, with seeds from 0.
    worlds:
        Of each run.
    steps:
        Of each world.
    run:
        Folder of the sweep; by default runs/v1-sweep, by world.
    resume:
        Continue the sweep in that folder. The grid, the seeds and the steps may be more than before.
    assay:
        Whether the worlds are also measured in the lab.
    """
    from fairyring.cli import _ecology_sweep

    return _ecology_sweep.sweep(
        world,
        grid=grid,
        settings=settings,
        seeds=seeds,
        worlds=worlds,
        steps=steps,
        run=run,
        resume=resume,
        assay=assay,
    )


@ecology.command
def study(
    subject: Literal["v1", "v2", "jars", "rotation"],
    /,
    *,
    out: Path | None = None,
    worlds: int | None = None,
    controls: int | None = None,
    blind: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    settings: Settings = (),
    world: Literal["v1", "v2"] | None = None,
    quick: Flag = False,
) -> Result:
    """Conduct a whole experiment with its controls, and write DIR/study.json, its tables as CSV, and DIR/report.html.

    Runs that are in the folder already are continued.

    Parameters
    ----------
    subject:
        v1: does chemotaxis evolve? v2: which rewards evolve, and what are they worth? jars: which populations coexist?
        rotation: are the dynamics non-gradient?
    out:
        Folder of the study; by default runs/study-v1, by its subject.
    worlds:
        Evolved worlds, or populations for jars.
    controls:
        Worlds with scrambled heredity, for v1 and v2.
    blind:
        Worlds in which each bacterium gets the observation of another, for v1 and v2.
    steps:
        Of each world.
    seed:
        Of all randomness.
    settings:
        NAME=VALUE changes a setting of the worlds, such as food_influx=20. May be repeated.
    world:
        For jars: which kind of world the populations come from; v2 if not given.
    quick:
        Fewer and shorter worlds, for a first look.
    """
    from fairyring.cli import _ecology_study

    return _ecology_study.study(
        subject,
        out=out,
        worlds=worlds,
        controls=controls,
        blind=blind,
        steps=steps,
        seed=seed,
        settings=settings,
        world=world,
        quick=quick,
    )


@ecology.command
def assay(
    run: Path,
    /,
    *,
    controls: Path | None = None,
    individuals: int | None = None,
    seed: int = 0,
    csv: Path | None = None,
) -> Result:
    """Assay each world of a run: how well its individuals find food, and by what rule.

    Parameters
    ----------
    run:
        The file of a run.
    controls:
        The file of a run of scrambled worlds; with it, each world gets a decision.
    individuals:
        Drawn from each world; 512 if not given, or the capacity if that is less.
    seed:
        Of the lab's randomness.
    csv:
        A file to write the table to: a row for each world, with the decision if there is one.
    """
    from fairyring.cli import _ecology_assay

    return _ecology_assay.assay_of(run, controls, individuals=individuals, seed=seed, csv=csv)


@ecology.command
def jar(
    *populations: str,
    steps: int | None = None,
    replicates: int | None = None,
    scale: float = 0.5,
    seed: int = 0,
    quick: Flag = False,
    csv: Path | None = None,
) -> Result:
    """Put populations that evolved apart together, each pair with its controls: who excludes whom?

    Parameters
    ----------
    populations:
        Two or more: the file of a run, which stands for its first world, or file:number, such as runs/v1-seed0.eco:3.
    steps:
        Of each jar.
    replicates:
        Jars of each kind.
    scale:
        Width of a jar over that of the world they evolved in.
    seed:
        Of all randomness.
    quick:
        Fewer and shorter jars, for a first look.
    csv:
        A file to write the table to: a row for each pair.
    """
    from fairyring.cli import _ecology_study

    return _ecology_study.jar(
        populations, steps=steps, replicates=replicates, scale=scale, seed=seed, quick=quick, csv=csv
    )


@ecology.command
def video(
    run: Path,
    out: Path,
    /,
    *,
    world: int | None = None,
    steps: int = 600,
    every: int = 4,
    fps: int = 30,
    size: int = 512,
) -> Result:
    """Film the last steps of a world of a run. The world is run again for it.

    Parameters
    ----------
    run:
        The file of a run.
    out:
        The film, .gif or .mp4.
    world:
        Number of the world; the first of the run if not given.
    steps:
        How many of its last steps to film.
    every:
        Steps between two frames.
    fps:
        Frames per second.
    size:
        Pixels per side.
    """
    from fairyring.cli import _ecology_replay

    return _ecology_replay.video(run, out, world=world, steps=steps, every=every, fps=fps, size=size)


@ecology.command
def replay(run: Path, /, *, world: int | None = None, step: int | None = None) -> Result:
    """Run a world again from its seed, and compare it with the file bit by bit.

    The exit status is 1 if anything differs.

    Parameters
    ----------
    run:
        The file of a run.
    world:
        Number of the world; the first of the run if not given.
    step:
        Compare up to this step; by default the last one, where the state is compared too.
    """
    from fairyring.cli import _ecology_replay

    return _ecology_replay.replay(run, world=world, step=step)


@ecology.command
def report(study: Path, /, *, out: Path | None = None) -> Result:
    """Write the report of a study from its study.json: one HTML file that opens without a network.

    Parameters
    ----------
    study:
        Folder of the study.
    out:
        The HTML file; report.html in the folder if not given.
    """
    from fairyring.cli._screen import say
    from fairyring.report import write_study_report

    page = write_study_report(study, out)
    return Result({"report": page}, lambda: say(f"Report: {page}"))


@ecology.command
def zoo(
    name: str | None = None,
    /,
    *,
    study: Path | None = None,
    out: Path = Path("zoo"),
    csv: Path | None = None,
) -> Result:
    """List the evolved populations that come with the package, or write such files from a study.

    Parameters
    ----------
    name:
        Of one of them, to show its whole card.
    study:
        Folder of a study of v1 or v2, whose populations are written as such files.
    out:
        Folder to write them to.
    csv:
        A file to write the table of all of them to.
    """
    from fairyring.cli import _ecology_zoo

    if study is not None:
        return _ecology_zoo.make(study, out)
    return _ecology_zoo.card(name) if name else _ecology_zoo.listed(csv)
