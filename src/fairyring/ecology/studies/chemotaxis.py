"""The experiments, whole: evolved worlds beside their controls, in the lab, and the decision.

A study is a folder: `evolved.eco`, `scrambled.eco` and so on, the runs, one an arm, and `study.json`, what was found, in plain
values. A run that is in the folder already is not made again, but gone on with where it stopped.
"""

import dataclasses
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np

from fairyring import statistics
from fairyring._version import __version__
from fairyring.core.cores import available_cores
from fairyring.core.errors import EcologyError, RunMismatch
from fairyring.core.record import replace_file
from fairyring.ecology import analysis
from fairyring.ecology.analysis import QUIET_GENERATIONS
from fairyring.ecology.history import Evolution, WorldRun, evolve, fingerprint, load
from fairyring.ecology.lab import STEPS as LAB_STEPS
from fairyring.ecology.lab import Assay, assay, persisted
from fairyring.ecology.studies.rewards import adjusted, knock_outs, paired, relearning
from fairyring.ecology.world import NUMBERS, World, World1, World2, q_learning

Lab = Callable[..., list[Assay | None]]
Told = Callable[[str, int, int], None]  # what is being done, how much of it, of how much
# In unrelated worlds children have random rewards, as in scrambled ones, and nothing of what their parents learned.
ARMS = ("evolved", "scrambled", "blind", "unrelated")
STEPS = 24_000
LATE = 2000  # steps at the end over which populations are averaged
# The signs of evolved rewards as the lecture shows them (Agüera y Arcas 2020): with large error bars, all populations viable.
LECTURE = {"eat": 1, "encounter": 1, "hungry": -1, "near death": -1, "emitted": -1}


def study_world1(
    out: str | os.PathLike[str],
    *,
    settings: World1 | None = None,
    worlds: int = 16,
    controls: int = 16,
    blind: int = 8,
    steps: int = STEPS,
    lab_steps: int = LAB_STEPS,
    seed: int = 0,
    told: Told | None = None,
) -> dict[str, Any]:
    """Whether chemotaxis evolves in world 1: evolved worlds beside worlds of scrambled heredity and blind ones.

    Args:
        out: folder of the study.
        settings: of the evolved worlds.
        worlds, controls, blind: how many of each arm; four or more.
        steps: of each world.
        lab_steps: for how long each arena of the lab is watched; the first third is for settling.
        seed: of all chance; each arm has worlds of its own.
        told: called with what is being done and how far it is.

    Returns:
        What `study.json` holds: for each arm its worlds with their assays, the decision for each world, the decision for
        the configuration, and the error rate of the decision on the scrambled worlds.

    Raises:
        EcologyError: too few worlds, or fewer than three of an arm in which anybody lives at the end.
        RunMismatch: the folder holds runs of other settings or another seed, or longer ones.
    """
    return _study(
        "v1", Path(out), settings or World1(), (worlds, controls, blind), steps, lab_steps, seed, told
    )


def study_world2(
    out: str | os.PathLike[str],
    *,
    settings: World2 | None = None,
    worlds: int = 16,
    controls: int = 16,
    blind: int = 8,
    steps: int = STEPS,
    lab_steps: int = LAB_STEPS,
    seed: int = 0,
    told: Told | None = None,
) -> dict[str, Any]:
    """Which rewards evolve in world 2, and what they are worth: as `study_world1`, and besides the viability of each evolved
    world, the table of rewards over the viable ones, relearning, and the knock-out of each reward.

    Where children keep what their parents learned, scrambling rewards leaves that heredity in place. So there is a fourth
    arm, as large as the scrambled one: unrelated worlds, in which a child has nothing of its parent.

    Args: as of `study_world1`.
    """
    return _study(
        "v2", Path(out), settings or World2(), (worlds, controls, blind), steps, lab_steps, seed, told
    )


def _study(
    kind: str,
    out: Path,
    settings: World,
    counts: tuple[int, int, int],
    steps: int,
    lab_steps: int,
    seed: int,
    told: Told | None,
) -> dict[str, Any]:
    if min(counts) < 4:
        raise EcologyError("worlds", given=counts, expected="four or more in each arm", do="Ask for more.")
    out.mkdir(parents=True, exist_ok=True)
    begun, say = time.perf_counter(), told or (lambda what, made, whole: None)
    sizes = dict(zip(ARMS, (*counts, counts[1]), strict=True))
    if not _keeps_what_was_learned(settings):
        del sizes["unrelated"]
    runs = {
        arm: _run(out / f"{arm}.eco", _of_arm(settings, arm), count, steps, seed, say, arm)
        for arm, count in sizes.items()
    }
    for arm, run in runs.items():
        inhabited = sum(bool(len(world.living())) for world in run.worlds)
        if inhabited < 3:
            raise EcologyError(
                f"{arm} worlds",
                given=f"{inhabited} of {len(run.worlds)} inhabited at step {run.steps}",
                expected="three or more",
                do=f"Make living easier (food_influx, minimum); the runs are kept in {out}.",
            )
    lab = partial(assay, steps=lab_steps, settling=lab_steps // 3, seed=seed)
    assays = {}
    for arm, run in runs.items():
        say(f"{arm} worlds in the lab", 0, len(run.worlds))
        assays[arm] = lab(
            run, progress=lambda made, whole, arm=arm: say(f"{arm} worlds in the lab", made, whole)
        )
    found = {
        "study": kind,
        "settings": settings.described(),
        "rho": settings.rho,
        "steps": steps,
        "seed": seed,
        "arms": {arm: _arm(runs[arm], assays[arm]) for arm in runs},
        "decisions": _decisions(assays) | {"blind_sensing_again": _sensing_again(runs["blind"], assays, lab)},
        "versions": {"fairyring": __version__, "jax": jax.__version__, "numpy": np.__version__},
        "machine": {"cores": available_cores(), "processor": platform.machine()},
        "seconds": {arm: run.seconds for arm, run in runs.items()},
    }
    if kind == "v2":
        found |= _rewards(runs, assays, lab, seed, say)
    found["seconds"]["study"] = time.perf_counter() - begun
    found = plain(found)
    replace_file(out / "study.json", msgspec.json.format(msgspec.json.encode(found), indent=1))
    return found


def plain(value: Any) -> Any:
    """A result as JSON has it: dataclasses as objects with their properties `met`, `verdict` and `why`, arrays as lists, what is
    not finite as null."""
    if dataclasses.is_dataclass(value):
        named = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        told = {name: getattr(value, name) for name in ("met", "verdict", "why") if hasattr(value, name)}
        return named | plain(told)
    if isinstance(value, dict):
        return {key: plain(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [plain(of) for of in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _keeps_what_was_learned(settings: World) -> bool:
    if not isinstance(settings, World2):
        return False
    retained = settings.policy == q_learning() and settings.retention > 0
    return retained or settings.policy == q_learning("lamarck")


def _of_arm(settings: World, arm: str) -> World:
    if arm == "evolved":
        return settings
    if arm == "unrelated":
        return dataclasses.replace(settings, control="scrambled", policy=q_learning(), retention=0.0)
    return dataclasses.replace(settings, control=arm)


def _run(path: Path, settings: World, worlds: int, steps: int, seed: int, say: Told, arm: str) -> Evolution:
    """The arm's run: read, gone on with, or made. Arms share no world: each has numbers of its own."""
    numbers = range(ARMS.index(arm) * 1000, ARMS.index(arm) * 1000 + worlds)

    def progress(made: int, whole: int) -> None:
        say(f"{arm} worlds, steps", made, whole)

    if not path.exists():
        return evolve(settings, numbers, steps, seed, out=path, progress=progress)
    run = load(path, settings)
    if run.seed != seed or run.numbers != tuple(numbers) or run.steps > steps:
        raise RunMismatch(
            str(path),
            given=f"a run of seed {run.seed} with {len(run.numbers)} worlds of {run.steps} steps",
            expected=f"seed {seed}, {worlds} worlds and {steps} steps at most",
            do="Choose another folder, or ask for the study that was begun in this one.",
        )
    return run.until(steps, out=path, progress=progress) if run.steps < steps else run


def _arm(run: Evolution, assays: list[Assay | None]) -> dict[str, Any]:
    """An arm's worlds, each a row of numbers; means over individuals are means of the lab."""
    metrics, rows = run.metrics, []
    for i, (number, world, lab) in enumerate(zip(run.numbers, run.worlds, assays, strict=True)):
        late = {name: float(metrics[name][i, -LATE:].mean()) for name in metrics}
        row = {
            "world": number,
            "population": late["population"],
            "newcomers": late["newcomers"],
            "tumbling": late["tumbles"] / max(late["population"], 1e-9),
            "emission": late["emitters"] / max(late["population"], 1e-9),
            "waiting": late["waiting"],
            "lifetime": world.lineage.lifetime(after=run.steps // 2),
            "generation_length": world.lineage.generation_length(after=run.steps // 2),
            "generations": int(world.lineage.generation()[world.uids()].max(initial=0)),
            "individuals": len(world.lineage),
            "living": len(world.living()),
        }
        if lab is not None:
            means = {f.name: getattr(lab, f.name) for f in dataclasses.fields(Assay)}
            row["assay"] = {
                name: _mean(rows) if name != "probabilities" else rows for name, rows in means.items()
            }
        rows.append(row)
    thin = max(1, run.steps // 400)
    return {
        "hash": fingerprint(run),
        "control": run.settings.control,
        "worlds": rows,
        "population": {"every": thin, "worlds": metrics["population"][:, ::thin]},
    }


def _mean(rows: np.ndarray) -> float:
    known = rows[np.isfinite(rows)]
    return float(known.mean()) if len(known) else float("nan")


def _asked(lab: Assay) -> analysis.WorldAssay:
    return analysis.WorldAssay(
        index=lab.index, contrast=lab.contrast, index_without_sensor=lab.index_without_sensor
    )


def _decisions(assays: dict[str, list[Assay | None]]) -> dict[str, Any]:
    """The stated decision for each world of each arm, for the configuration, and how often it errs."""
    asked = {arm: [None if lab is None else _asked(lab) for lab in of] for arm, of in assays.items()}
    living = {arm: [each for each in of if each is not None] for arm, of in asked.items()}
    controls = living["scrambled"]

    def of(arm: str, controls: list[analysis.WorldAssay]) -> list[analysis.Decision | None]:
        return [
            None
            if each is None
            else analysis.chemotaxis_in_world(each, [c for c in controls if c is not each])
            for each in asked[arm]
        ]

    def passed(made: list[analysis.Decision | None]) -> int:
        return sum(d is not None and d.verdict for d in made)

    worlds = {arm: of(arm, controls) for arm in asked}
    # Where learning is passed on scrambled worlds are no controls without heredity, but unrelated ones are.
    beside = {arm: of(arm, living["unrelated"]) for arm in asked if "unrelated" in living}
    return {
        "worlds": worlds,
        "passed": {arm: passed(made) for arm, made in worlds.items()},
        **(
            {"passed_beside_unrelated": {arm: passed(made) for arm, made in beside.items()}} if beside else {}
        ),
        "configuration": analysis.chemotaxis_in_configuration(living["evolved"], controls),
        **{
            f"against_{arm}": analysis.chemotaxis_in_configuration(living["evolved"], of)
            for arm, of in living.items()
            if arm not in ("evolved", "scrambled")
        },
        "errors": analysis.error_rate(controls),
    }


def _sensing_again(run: Evolution, assays: dict[str, list[Assay | None]], lab: Lab) -> int:
    """How many blind worlds would pass if their inhabitants were given back their own observations: nothing was selected
    there, but one table may have taken over by drift, and a table at random may climb."""
    seeing = dataclasses.replace(run, settings=dataclasses.replace(run.settings, control="none"))
    controls = [_asked(lab) for lab in assays["scrambled"] if lab is not None]
    labs = [each for each in lab(seeing) if each is not None]
    return sum(analysis.chemotaxis_in_world(_asked(each), controls).verdict for each in labs)


def _rewards(
    runs: dict[str, Evolution], assays: dict[str, list[Assay | None]], lab: Lab, seed: int, say: Told
) -> dict[str, Any]:
    """What there is to say of world 2's rewards."""
    run = runs["evolved"]
    events = [event.name for event in run.settings.events]

    def watch(what: str) -> Callable[[Any, int], None]:
        return lambda worlds, made: say(what, made, 0)

    lasted = persisted(run, seed=seed, watch=watch("closed restarts, steps"))
    classes = [_class(world, restarts, run.steps) for world, restarts in zip(run.worlds, lasted, strict=True)]
    viable = [i for i, of in enumerate(classes) if of == "viable"]
    found: dict[str, Any] = {
        "viability": {"classes": classes, "restarts_that_lasted": [sum(of) for of in lasted]}
    }
    rewards = {
        arm: np.stack([_means(world.genomes()[:, : len(events)]) for world in of.worlds])
        for arm, of in runs.items()
    }
    dummy = "dummy" if "dummy" in events else events[-1]
    if len(viable) >= 3:
        found["rewards"] = {
            "events": events,
            "worlds": rewards["evolved"][viable],
            "table": analysis.reward_table(rewards["evolved"][viable], events, dummy, expected_sign=LECTURE),
            "controls": {
                arm: _without_heredity(rewards["evolved"][viable], rewards[arm], events, dummy)
                for arm in ("scrambled", "unrelated")
                if arm in rewards
            },
        }
    late = {
        arm: (
            of.metrics["population"][:, -LATE:].mean(1),
            of.metrics["emitters"][:, -LATE:].sum(1)
            / np.maximum(of.metrics["population"][:, -LATE:].sum(1), 1),
        )
        for arm, of in runs.items()
    }
    found["against_controls"] = {
        name: {arm: _apart(late["evolved"][i], late[arm][i]) for arm in runs if arm != "evolved"}
        for i, name in enumerate(("population", "emission"))
    }
    found["relearning"] = relearning(run, lab, seed=seed, watch=watch("relearning, steps"))
    found["knock_outs"] = knock_outs(run, seed=seed, watch=watch("knock-outs, steps"))
    found["learned_in_life"] = _inherited(run, assays["evolved"], lab, seed)
    return found


def _class(world: WorldRun, restarts: list[bool], steps: int) -> str:
    """A world's viability; "too short" where it was not run for long enough to say."""
    length = world.lineage.generation_length(after=steps // 2)
    newcomers, waiting = (world.numbers[:, NUMBERS.index(name)] for name in ("newcomers", "waiting"))
    if not np.isfinite(length):  # nobody was born in the second half of the run
        length = steps / QUIET_GENERATIONS
        restarts = [False] * len(restarts)
    if len(world.living()) and length * QUIET_GENERATIONS > steps and not newcomers.any():
        return "too short"
    return analysis.viability(
        newcomers,
        length,
        restarts,
        overflow=int(waiting[-LATE:].sum()),
        extinct=not len(world.living()),
    )


def _inherited(run: Evolution, labs: list[Assay | None], lab: Lab, seed: int) -> Any:
    """How much of what the lab sees is learned: the same individuals beside the same that know nothing."""
    from fairyring.ecology.lab import closed, colonies

    settings = closed(run.settings)
    naive = Evolution(settings, seed, run.numbers, tuple(colonies(run, settings, seed=seed, naive=True)))
    with_it, without = (
        np.array([np.nan if each is None else _mean(each.index) for each in of]) for of in (labs, lab(naive))
    )
    return adjusted([paired("chemotactic index, with and without what was learned", with_it, without)])


def _without_heredity(ours: np.ndarray, theirs: np.ndarray, events: list[str], dummy: str) -> dict[str, Any]:
    """The rewards of worlds in which none is inherited, `[worlds, events]`, and how far ours are from them, each a vector of
    length 1: signs tell who is alive, which selects in either; what heredity adds is the distance between the two."""
    theirs = theirs[np.isfinite(theirs).all(1)]
    unit, beside = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (ours, theirs))
    apart = [_apart(unit[:, i], beside[:, i]) for i in range(len(events))]
    asked = [i for i, name in enumerate(events) if name != dummy]
    corrected = dict(zip(asked, statistics.holm([apart[i]["p_two_sided"] for i in asked]), strict=True))
    return {
        "worlds": theirs,
        "table": analysis.reward_table(theirs, events, dummy),
        "apart": [
            {"name": name, **apart[i], "p_holm": corrected.get(i, apart[i]["p_two_sided"])}
            for i, name in enumerate(events)
        ],
    }


def _means(rows: np.ndarray) -> np.ndarray:
    """Mean over individuals; NaN where there are none."""
    return rows.mean(0) if len(rows) else np.full(rows.shape[1], np.nan)


def _apart(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Whether two arms differ, whichever is the larger."""
    larger = statistics.cliffs_delta(ours, theirs) >= 0
    test = statistics.mann_whitney(ours, theirs) if larger else statistics.mann_whitney(theirs, ours)
    return {
        "ours": ours,
        "theirs": theirs,
        "delta": test.delta if larger else -test.delta,
        "p_two_sided": min(1.0, 2 * test.p),
        "method": test.method,
    }
