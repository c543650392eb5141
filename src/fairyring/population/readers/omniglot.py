"""Omniglot by drawer: characters of several alphabets, each drawn once by every drawer of its alphabet."""

from pathlib import Path

import numpy as np

from fairyring.population.population import Population
from fairyring.population.readers._prepare import held_out, images
from fairyring.population.readers.dataset import Dataset, File, Splits


def read(paths: list[Path], *, test_fraction: float = 0.2, seed: int = 0) -> Splits:
    with np.load(paths[0], allow_pickle=False) as arrays:
        users, first = np.unique(arrays["user"], return_index=True)
        alphabet = arrays["alphabet"][first]
        population = Population.from_arrays(
            {"x": images(arrays["images"]), "y": arrays["label"].astype(np.int32)},
            client=arrays["user"],
            clients=users,
            attributes={"alphabet": arrays["alphabet_names"][alphabet]},
        )
    test = held_out(alphabet, test_fraction, seed)
    return Splits(population.select(~test), population.select(test))


DATASET = Dataset(
    name="omniglot",
    title="Omniglot, eight alphabets at 28 x 28",
    source="B. M. Lake",
    page="https://github.com/brendenlake/omniglot",
    licence="MIT",
    citation="B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum. Human-level concept learning through "
    "probabilistic program induction. Science 350(6266), 2015.",
    clients="a drawer of an alphabet, 20 for each; the attribute `alphabet` has its name",
    shapes={"x": "uint8 [28, 28, 1]", "y": "int32, character 0..241"},
    how="omniglot_small_28.npz is a conversion of the published drawings of eight alphabets: images u8 "
    "[4840, 28, 28], label, alphabet, drawer, user, alphabet_names, char_names. Of each alphabet, test_fraction "
    "of the drawers is held out. So the test drawers are other people, and every character occurs in training.",
    folder="omniglot",
    files=(
        File("omniglot_small_28.npz", "e6e1aebefa9d82e38256b4de2ba9516f79c4961df42da09a5e60b5914b16055c"),
    ),
    read=read,
)
