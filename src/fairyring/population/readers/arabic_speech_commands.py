"""Arabic speech commands by speaker: forty keywords as log-mel spectrograms."""

from pathlib import Path

import numpy as np

from fairyring.population.population import Population
from fairyring.population.readers._prepare import images, one_of
from fairyring.population.readers.dataset import Dataset, File, Splits


def read(paths: list[Path], *, held_out: str = "test") -> Splits:
    one_of("held_out", held_out, ("test", "validation"))
    with np.load(paths[0], allow_pickle=False) as arrays:
        split = arrays["split"]
        columns = {"x": images(arrays["x"]), "y": arrays["label"].astype(np.int32)}
        speaker = arrays["speaker_ids"][arrays["speaker"]]
    train, test = (
        Population.from_arrays({name: column[rows] for name, column in columns.items()}, client=speaker[rows])
        for rows in (split == 0, split == (2 if held_out == "test" else 1))
    )
    return Splits(train, test)


DATASET = Dataset(
    name="arabic-speech-commands",
    title="Arabic Speech Commands",
    source="A. Ghandoura, F. Hjabo, O. Al Dakkak",
    licence="CC BY 4.0",
    citation="A. Ghandoura, F. Hjabo, O. Al Dakkak. Building and benchmarking an Arabic Speech Commands "
    "dataset for small-footprint keyword spotting. Engineering Applications of Artificial Intelligence 102, "
    "2021.",
    clients="a speaker; training, validation and test speakers are different people",
    shapes={"x": "uint8 [31, 32, 1], log-mel energies, time x frequency", "y": "int32, keyword 0..39"},
    how="asc_logmel32_u8.npz is a conversion of the published recordings, 30 speakers x 40 keywords x 10 "
    "takes: x u8 [12000, 31, 32], label, speaker, take, split (0 training, 1 validation, 2 test), keywords, "
    "speaker_ids. The speakers of the three splits are disjoint; held_out='test' or 'validation' chooses which "
    "split is the test population.",
    folder="arabic-speech-commands",
    files=(File("asc_logmel32_u8.npz", "1f44eca1bce019a758d58bff803136dd19e5172caaeaf2b95d8c79b957370724"),),
    read=read,
)
