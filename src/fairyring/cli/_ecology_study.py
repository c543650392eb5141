"""`ecology study` and `ecology jar`: whole experiments, and their results in a few lines."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fairyring.cli._ecology_words import (
    Doing,
    at_least_one,
    changes,
    number,
    one_world,
    show_written,
    table_file,
)
from fairyring.cli._result import Interrupted, Result
from fairyring.cli._screen import say, show_table
from fairyring.core.errors import EcologyError, MissingExtra
from fairyring.ecology.history import Evolution, addressed
from fairyring.ecology.lab import gathered
from fairyring.ecology.results import FILE, plain, read_study, sentences, study_tables, write_csv
from fairyring.ecology.studies import CocultureResult, conduct, study_coculture, study_of
from fairyring.ecology.world import World1, World2, override
from fairyring.report import units


def study(
    subject: str,
    *,
    out: Path | None,
    worlds: int | None,
    controls: int | None,
    blind: int | None,
    steps: int | None,
    seed: int,
    settings: Sequence[str],
    world: str | None,
    quick: bool,
) -> Result:
    """Conduct a study, and write its report; see the command of the same name."""
    named = zip(
        ("--worlds", "--controls", "--blind", "--steps"), (worlds, controls, blind, steps), strict=True
    )
    for name, value in named:
        at_least_one(name, value)
    if world is not None and subject != "jars":
        raise EcologyError(
            "--world",
            given=f"a study of {subject}",
            expected="a study of jars; rotation needs signals and rewards, so it is of world 2",
            do="Leave it out.",
        )
    plain_world = World1() if "v1" in (subject, world) else World2()
    asked = study_of(
        subject,
        settings=override(plain_world, changes(settings)),
        worlds=worlds,
        controls=controls,
        blind=blind,
        steps=steps,
        seed=addressed("seed", seed),
        quick=quick,
    )
    folder = out or Path("runs") / f"study-{subject}"
    if find_spec("matplotlib") is None:  # said before hours of running, not only after them
        say(f"There will be no report. {MissingExtra('matplotlib', extra='report', purpose='a report').do}")
    try:
        with Doing() as doing:
            conduct(asked, folder, progress=doing)
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped. The same command continues the runs in {folder}.") from None
    results = read_study(folder)
    found = sentences(results)
    tables = {name: write_csv(rows, folder / f"{name}.csv") for name, rows in study_tables(results).items()}
    page, words = _report(folder)
    return Result(
        {
            "study": folder / FILE,
            "subject": results["study"],
            "found": found,
            "verdicts": results["verdicts"],
            "tables": tables,
            "report": page,
        },
        lambda: say(
            "",
            *found,
            "",
            f"Study: {folder / FILE}",
            *(f"Table: {table}" for table in tables.values()),
            words,
        ),
    )


def _report(folder: Path) -> tuple[Path | None, str]:
    """Where the report was written, and a line that says so."""
    from fairyring.report import write_study_report

    try:
        page = write_study_report(folder)
    except MissingExtra as error:
        return None, f"No report was written: {error.do}"
    return page, f"Report: {page}"


def jar(
    populations: Sequence[str],
    *,
    steps: int | None,
    replicates: int | None,
    scale: float,
    seed: int,
    quick: bool,
    csv: Path | None,
) -> Result:
    """Put populations together and see who excludes or outgrows whom; see the command of the same name."""
    if len(populations) < 2 or len(set(populations)) < len(populations):
        raise EcologyError(
            "populations",
            given=", ".join(populations) or "none",
            expected="two or more different ones",
            do="Name them as FILE or FILE:WORLD.",
        )
    addressed("seed", seed)
    table_file(csv)
    at_least_one("--steps", steps)
    at_least_one("--replicates", replicates)
    together, names = _together(populations)
    with Doing() as doing:
        result = study_coculture(
            evolved=together,
            populations=len(names),
            jar_steps=steps,
            replicates=replicates,
            scale=scale,
            seed=seed,
            quick=quick,
            progress=doing,
        )
    table = None if csv is None else write_csv(result, csv)

    def show() -> None:
        say()
        for letter, name, one in zip(names, populations, result.populations, strict=True):
            say(
                f"{letter}  {name}: yield alone {number(one.alone)}, died out alone in {units.share(one.died_out)} of its jars"
            )
        say()
        _contests(result, names)
        say(*result.found)
        show_written(table)

    found = {
        "populations": [
            {"name": name, "yield_alone": one.alone, "died_out_alone": one.died_out}
            for name, one in zip(populations, result.populations, strict=True)
        ],
        "contests": [
            plain(one)
            | {
                "first": populations[int(one.first)],
                "second": populations[int(one.second)],
                "verdict": _named(one.verdict, populations),
            }
            for one in result.contests
        ],
        "found": result.found,
        "jar_steps": result.jar_steps,
        "replicates": result.replicates,
        "seed": result.seed,
        "seconds": result.seconds,
        "table": table,
    }
    return Result(found, show)


def _named(verdict: str, names: Sequence[str]) -> str:
    """A verdict such as `0 excludes 1`, with the names of these populations."""
    for does in (" excludes ", " outgrows "):
        winner, it, loser = verdict.partition(does)
        if it:
            return f"{names[int(winner)]}{does}{names[int(loser)]}"
    return verdict


def _together(populations: Sequence[str]) -> tuple[Evolution, list[str]]:
    """The populations as worlds of one run, and a letter or number for each."""
    worlds: dict[str, tuple[Evolution, int]] = {}
    for text in populations:
        name, colon, which = text.rpartition(":")
        numbered = bool(colon) and which.isdecimal()
        run, number, _ = one_world(Path(name if numbered else text), int(which) if numbered else None)
        worlds[text] = (run, number)
    count = len(worlds)
    return gathered(worlds), [chr(ord("A") + i) if count <= 26 else str(i) for i in range(count)]


def _contests(result: CocultureResult, names: Sequence[str]) -> None:
    """A line for each pair: counts with their intervals, both invasions and declines, and the verdict."""
    rows = []
    for one in result.contests:
        i, j = int(one.first), int(one.second)
        larger, ends, low, high = result.first_larger(one)
        total = one.relative_yield
        rows.append(
            [
                f"{names[i]} + {names[j]}",
                f"{larger} of {ends} [{number(low)}, {number(high)}]",
                f"{number(one.first_gains.mean)} ({number(one.first_gains.drift)})",
                f"{one.first_gains.holm:.2g} / {one.second_gains.holm:.2g}",
                f"{number(one.first_invades.mean)} / {number(one.second_invades.mean)}",
                f"{one.first_invades.holm:.2g} / {one.second_invades.holm:.2g}",
                f"{one.first_declines.holm:.2g} / {one.second_declines.holm:.2g}",
                "–"
                if total is None
                else f"{number(total.estimate)} [{number(total.low)}, {number(total.high)}]",
                _named(one.verdict, names),
            ]
        )
    show_table(
        [
            "pair", "first larger in jars [95 %]", "its share (drift)", "p gains", "from 5 %", "p invades", "p declines",
            "relative yield [95 %]", "verdict",
        ],
        rows,
        words=("pair",),
    )  # fmt: skip
    say(
        "p against drift (one population under two labels), first / second, Holm over both sides of all pairs. Excludes: gains "
        "from even shares, invades from 5 %, and the other declines from 5 %. Outgrows: gains and invades; nothing is shown of the "
        "other when rare. Coexist: each invades from 5 %. Undecided: none of these is shown."
    )
