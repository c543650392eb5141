"""The zoo: a few populations that evolved in the studies, small enough to come with the package.

Each is a file beside this one. It holds the genomes and minds of some individuals, the settings of their world, and a card with
the results of the study. `make_zoo` writes such files from the folder of a study.
"""

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fairyring.core.errors import EcologyError, RunDamaged
from fairyring.core.files import replace_file
from fairyring.core.tensors import flatten_state, read_tensors, restore_state, tensors
from fairyring.ecology.history import custom_parts, load, settings_of
from fairyring.ecology.lab import Population
from fairyring.ecology.results import read_study
from fairyring.ecology.world import World

INDIVIDUALS = 64
SUFFIX = ".safetensors"
_OLDER_KEYS = {
    "newcomers": "immigrants"
}  # of cards in files from older versions, among them those of the package


@dataclass(frozen=True, eq=False)
class Exhibit:
    """A population of the zoo.

    Attributes:
        name: such as "v1-3": kind and number of its world.
        settings: of the world in which it evolved.
        population: some of its individuals, for a co-culture.
        card: what is known of it, as plain values: seed, steps and hash of the run, size of the population, chemotactic index
            and contrast, and for world 2 the mean rewards and the viability.
    """

    name: str
    settings: World
    population: Population
    card: dict[str, Any]


def names() -> list[str]:
    """Names of the populations of the zoo."""
    return sorted(
        file.name.removesuffix(SUFFIX) for file in _folder().iterdir() if file.name.endswith(SUFFIX)
    )


def exhibit(name: str) -> Exhibit:
    """A population of the zoo.

    Raises:
        EcologyError: there is none with this name.
        RunDamaged: its file is damaged.
    """
    if name not in names():
        raise EcologyError(
            "zoo", given=repr(name), expected=f"one of {', '.join(names())}", do="Choose one of them."
        )
    return read_exhibit(Path(str(_folder() / f"{name}{SUFFIX}")))


def read_exhibit(path: str | os.PathLike[str]) -> Exhibit:
    """A population from a file that `make_zoo` wrote.

    Raises:
        RunError: there is no such file.
        RunDamaged: it is damaged, or not such a file.
    """
    path = Path(path)
    expected, do = "a whole file of a population", "Make it again from its study."
    facts, rows = read_tensors(path, expected=expected, do=do)
    try:
        settings = settings_of(path, facts["kind"], facts["settings"], facts["own"])
        genomes = rows.pop("genomes")
        minds = restore_state(settings.policy.empty(len(genomes), settings.states, settings.actions), rows)
        name, card = (
            facts["name"],
            {_OLDER_KEYS.get(key, str(key)): value for key, value in facts["card"].items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RunDamaged(
            str(path), given=f"{type(error).__name__}: {error}", expected=expected, do=do
        ) from error
    return Exhibit(name, settings, Population(name, genomes, minds), card)


def make_zoo(study: str | os.PathLike[str], out: str | os.PathLike[str], *, limit: int = 6) -> list[Path]:
    """Write evolved populations of a study as files: those with chemotaxis in world 1, the viable ones in world 2.

    Args:
        study: folder of a study of world 1 or 2.
        out: folder to write to.
        limit: how many to write at most; the first ones are taken.

    Raises:
        RunError: there is no study, or its file is damaged.
        EcologyError: none of its populations qualifies.
    """
    study, out = Path(study), Path(out)
    results = read_study(study)
    run, kind = load(study / "evolved.eco"), results["study"]
    if kind == "v1":
        decisions = results["decisions"]["worlds"]["evolved"]
        qualifies = [bool(decision and decision["verdict"]) for decision in decisions]
    else:
        qualifies = [of == "viable" for of in results["viability"]["classes"]]
    chosen = [i for i, good in enumerate(qualifies) if good][:limit]
    if not chosen:
        raise EcologyError(
            "study", given="no population that qualifies", expected="one or more", do="Evolve more."
        )
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for i in chosen:
        world, row = run.worlds[i], results["arms"]["evolved"]["worlds"][i]
        living = len(world.living())
        pick = np.random.default_rng([run.seed, run.numbers[i]]).choice(
            living, INDIVIDUALS, replace=living < INDIVIDUALS
        )
        card = {
            "seed": run.seed,
            "world": run.numbers[i],
            "steps": world.steps,
            "run": results["arms"]["evolved"]["hash"],
            "population": row["population"],
            "generations": row["generations"],
            "immigrants": row["immigrants"],
            "heredity": run.settings.policy.name,
            **{
                name: row["assay"][name]
                for name in ("index", "contrast", "level_contrast", "index_without_sensor")
            },
        }
        if run.settings.policy.reward is not None:
            events = [event.name for event in run.settings.events]
            rewards = world.genomes()[:, : len(events)].mean(0)
            card |= {"rewards": dict(zip(events, rewards.round(4).tolist(), strict=True))}
        if kind == "v2":
            card |= {"viability": results["viability"]["classes"][i]}
        name = f"{kind}-{run.numbers[i]}"
        arrays = {"genomes": world.genomes()[pick]}
        arrays |= flatten_state(jax.tree.map(lambda rows, pick=pick: rows[pick], world.minds()))
        facts = {"name": name, "kind": kind, "settings": run.settings.described(), "card": card}
        facts |= {"own": custom_parts(run.settings)}
        replace_file(out / f"{name}{SUFFIX}", tensors(arrays, facts))
        written.append(out / f"{name}{SUFFIX}")
    return written


def _folder() -> Any:
    return files("fairyring.ecology.zoo")
