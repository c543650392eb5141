"""The zoo: a few populations that evolved in the studies, small enough to come with the package.

Each is a file beside this one: some individuals' genomes and minds, the settings of their world, and a card with what the study
found of it. `make_zoo` writes them again from a study's folder.
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
from fairyring.ecology.history import load, own, settings_of
from fairyring.ecology.lab import Population
from fairyring.ecology.studies import read_study
from fairyring.ecology.world import World

INDIVIDUALS = 64
SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class Exhibit:
    """A population of the zoo.

    Attributes:
        name: of it, such as "v1-3": the world's kind and number.
        settings: of the world it evolved in.
        population: some of its individuals, as a jar takes them.
        card: what is known of it, plain values: the study's seed, steps and hash, how large the population was, its chemotactic
            index and contrast, the mean of the rewards it learns from, and in world 2 its viability.
    """

    name: str
    settings: World
    population: Population
    card: dict[str, Any]


def names() -> list[str]:
    """The zoo's populations."""
    return sorted(
        file.name.removesuffix(SUFFIX) for file in _folder().iterdir() if file.name.endswith(SUFFIX)
    )


def exhibit(name: str) -> Exhibit:
    """A population of the zoo.

    Raises:
        EcologyError: there is none of this name.
        RunDamaged: its file is not whole.
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
        RunDamaged: it is not whole, or not one of these.
    """
    path = Path(path)
    whole, do = "a whole file of a population", "Make it again from its study."
    facts, rows = read_tensors(path, expected=whole, do=do)
    try:
        settings = settings_of(path, facts["kind"], facts["settings"], facts["own"])
        genomes = rows.pop("genomes")
        minds = restore_state(settings.policy.empty(len(genomes), settings.states, settings.actions), rows)
    except (KeyError, TypeError) as error:
        raise RunDamaged(
            str(path), given=f"{type(error).__name__}: {error}", expected=whole, do=do
        ) from error
    return Exhibit(facts["name"], settings, Population(facts["name"], genomes, minds), facts["card"])


def make_zoo(study: str | os.PathLike[str], out: str | os.PathLike[str], *, most: int = 6) -> list[Path]:
    """Write a study's evolved populations as files: of world 1 those in which chemotaxis evolved, of world 2 those that are viable.

    Args:
        study: folder of a study of world 1 or 2.
        out: folder to write in.
        most: how many, the first of them.

    Raises:
        RunError: there is no study there, or its file is damaged.
        EcologyError: none of its populations qualifies.
    """
    study, out = Path(study), Path(out)
    found = read_study(study)
    run, kind = load(study / "evolved.eco"), found["study"]
    if kind == "v1":
        fit = [bool(decision and decision["verdict"]) for decision in found["decisions"]["worlds"]["evolved"]]
    else:
        fit = [of == "viable" for of in found["viability"]["classes"]]
    chosen = [i for i, good in enumerate(fit) if good][:most]
    if not chosen:
        raise EcologyError(
            "study", given="no population that qualifies", expected="one or more", do="Evolve more."
        )
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for i in chosen:
        world, row = run.worlds[i], found["arms"]["evolved"]["worlds"][i]
        living = len(world.living())
        pick = np.random.default_rng([run.seed, run.numbers[i]]).choice(
            living, INDIVIDUALS, replace=living < INDIVIDUALS
        )
        card = {
            "seed": run.seed,
            "world": run.numbers[i],
            "steps": world.steps,
            "run": found["arms"]["evolved"]["hash"],
            "population": row["population"],
            "generations": row["generations"],
            "newcomers": row["newcomers"],
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
            card |= {"viability": found["viability"]["classes"][i]}
        name = f"{kind}-{run.numbers[i]}"
        arrays = {"genomes": world.genomes()[pick]}
        arrays |= flatten_state(jax.tree.map(lambda rows, pick=pick: rows[pick], world.minds()))
        facts = {"name": name, "kind": kind, "settings": run.settings.described(), "card": card}
        facts |= {"own": own(run.settings)}
        replace_file(out / f"{name}{SUFFIX}", tensors(arrays, facts))
        written.append(out / f"{name}{SUFFIX}")
    return written


def _folder() -> Any:
    return files("fairyring.ecology.zoo")
