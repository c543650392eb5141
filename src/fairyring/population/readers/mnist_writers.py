"""MNIST by writer: the clients are the people who wrote the digits."""

from pathlib import Path

import numpy as np

from fairyring.population.population import Population
from fairyring.population.readers._prepare import images
from fairyring.population.readers.dataset import Dataset, File, Splits


def read(paths: list[Path]) -> Splits:
    with np.load(paths[0], allow_pickle=False) as arrays:
        train, test = (
            Population.from_arrays(
                {"x": images(arrays[f"{part}_images"]), "y": arrays[f"{part}_labels"].astype(np.int32)},
                client=arrays[f"{part}_writer"],
            )
            for part in ("train", "test")
        )
    return Splits(train, test)


DATASET = Dataset(
    name="mnist-writers",
    title="MNIST with the writer identifiers of NIST Special Database 19 (QMNIST)",
    source="QMNIST",
    page="https://github.com/facebookresearch/qmnist",
    licence="labels and writers BSD-style; the MNIST images are usually quoted CC BY-SA 3.0",
    citation="C. Yadav, L. Bottou. Cold Case: The Lost MNIST Digits. NeurIPS 2019.",
    clients="a writer; the test writers are other people",
    shapes={"x": "uint8 [28, 28, 1]", "y": "int32, digit 0..9"},
    how="mnist_writers.npz is a conversion of the published set: train_images u8 [60000, 28, 28], "
    "train_labels u8, train_writer u16, and test_* with 10,000 rows. Images and their order are those of MNIST; "
    "the writers are from QMNIST.",
    folder="mnist-writers",
    files=(File("mnist_writers.npz", "f9628b32e00ca819158dc708ee27777c3ec15f82422e922e2640853b0f9045f2"),),
    read=read,
)
