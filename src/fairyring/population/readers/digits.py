"""scikit-learn's digits, dealt among clients with skewed labels: small, embedded, no file needed."""

from pathlib import Path
from typing import Any

import numpy as np

from fairyring.core.errors import MissingExtra
from fairyring.population.readers._prepare import deal, held_out, images
from fairyring.population.readers.dataset import Dataset, Splits

DATASET = Dataset(
    name="digits",
    title="Optical Recognition of Handwritten Digits (the test part), as scikit-learn carries it",
    source="UCI Machine Learning Repository, set 80; copied in scikit-learn",
    page="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    licence="CC BY 4.0 at UCI; scikit-learn, which carries the copy, is BSD-3-Clause",
    citation="E. Alpaydin, C. Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning "
    "Repository, 1998.",
    clients="none in the data: rows are dealt by partition.dirichlet (alpha) or, with alpha=None, uniformly",
    shapes={"x": "uint8 [8, 8, 1], grey levels 0..16 scaled to 0..255", "y": "int32, digit 0..9"},
    how="1,797 images from the installed scikit-learn. The share test_share of each digit is held out and "
    "dealt among test_clients clients of their own, with the same skew.",
)


def read(
    paths: list[Path],
    *,
    clients: int = 100,
    alpha: float | None = 0.5,
    test_share: float = 0.2,
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
    test = held_out(columns["y"], test_share, seed)
    return Splits(
        train=deal(columns, ~test, clients, alpha, seed),
        test=deal(columns, test, test_clients, alpha, seed + 1),
    )
