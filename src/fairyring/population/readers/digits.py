"""scikit-learn's digits, divided among clients with skewed labels. The data is small and needs no file."""

from pathlib import Path
from typing import Any

import numpy as np

from fairyring.core.errors import MissingExtra
from fairyring.population.readers._prepare import deal, held_out, images
from fairyring.population.readers.dataset import Dataset, Splits


def read(
    paths: list[Path],
    *,
    clients: int = 100,
    alpha: float | None = 0.5,
    test_fraction: float = 0.2,
    test_clients: int = 20,
    seed: int = 0,
) -> Splits:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtra("scikit-learn", extra="data", purpose="the digits") from None
    bunch: Any = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    columns = {"x": images(grey), "y": bunch.target.astype(np.int32)}
    test = held_out(columns["y"], test_fraction, seed)
    return Splits(
        train=deal(columns, ~test, clients, alpha, seed),
        test=deal(columns, test, test_clients, alpha, seed + 1),
    )


DATASET = Dataset(
    name="digits",
    title="Optical Recognition of Handwritten Digits (the test set), as included in scikit-learn",
    source="UCI Machine Learning Repository, data set 80; a copy is in scikit-learn",
    page="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    licence="CC BY 4.0 at UCI; scikit-learn, which includes the copy, is BSD-3-Clause",
    citation="E. Alpaydin, C. Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning "
    "Repository, 1998.",
    clients="none in the data; rows are divided by partition.dirichlet (alpha) or, with alpha=None, uniformly",
    shapes={"x": "uint8 [8, 8, 1], grey levels 0..16 scaled to 0..255", "y": "int32, digit 0..9"},
    how="1,797 images from the installed scikit-learn. Of each digit, test_fraction of the images is held out and "
    "divided among test_clients other clients with the same skew.",
    read=read,
)
