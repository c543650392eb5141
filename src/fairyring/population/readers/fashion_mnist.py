"""Fashion-MNIST, from its four published files (gzipped IDX)."""

import gzip
import struct
from pathlib import Path

import numpy as np

from fairyring.core.errors import DataUnavailable
from fairyring.population.readers._prepare import deal, images
from fairyring.population.readers.dataset import Dataset, File, Splits

_PUBLISHED = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"


def read(
    paths: list[Path],
    *,
    clients: int = 500,
    alpha: float | None = 0.5,
    test_clients: int = 100,
    seed: int = 0,
) -> Splits:
    train_x, train_y, test_x, test_y = map(read_idx, paths)
    train = {"x": images(train_x), "y": train_y.astype(np.int32)}
    test = {"x": images(test_x), "y": test_y.astype(np.int32)}
    return Splits(
        train=deal(train, np.ones(len(train_y), bool), clients, alpha, seed),
        test=deal(test, np.ones(len(test_y), bool), test_clients, alpha, seed + 1),
    )


DATASET = Dataset(
    name="fashion-mnist",
    title="Fashion-MNIST",
    source="Zalando Research; Debian's package dataset-fashion-mnist",
    page="https://github.com/zalandoresearch/fashion-mnist",
    licence="MIT",
    citation="H. Xiao, K. Rasul, R. Vollgraf. Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine "
    "Learning Algorithms. arXiv:1708.07747, 2017.",
    clients="none in the data; rows are divided by partition.dirichlet (alpha) or, with alpha=None, uniformly, "
    "and the 10,000 test images among test_clients other clients",
    shapes={"x": "uint8 [28, 28, 1]", "y": "int32, article 0..9"},
    how="The published IDX files, 60,000 training and 10,000 test images. On Debian: apt install "
    "dataset-fashion-mnist.",
    folder="fashion-mnist",
    system=("/usr/share/datasets/fashion-mnist",),
    files=tuple(
        File(name, sha256, f"{_PUBLISHED}/{name}")
        for name, sha256 in (
            (
                "train-images-idx3-ubyte.gz",
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            ("t10k-images-idx3-ubyte.gz", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
            ("t10k-labels-idx1-ubyte.gz", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
        )
    ),
    read=read,
)


def read_idx(path: Path) -> np.ndarray:
    """The array of unsigned bytes in a gzipped IDX file.

    The format: two zero bytes, type 8, the number of axes, their lengths as big-endian uint32, then the values.

    Raises:
        DataUnavailable: the file is not in this format, or is truncated.
    """
    try:
        content = gzip.decompress(path.read_bytes())
        zero, kind, axes = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{axes}I", content, 4)
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise _not_idx(path, str(error)) from error
    if zero or kind != 8 or len(values) != int(np.prod(shape)):
        raise _not_idx(path, f"type {kind}, shape {shape}, {len(values)} values")
    return values.reshape(shape)


def _not_idx(path: Path, reason: str) -> DataUnavailable:
    return DataUnavailable(
        str(path),
        given=reason,
        expected="a gzipped IDX file of unsigned bytes",
        do="Delete the file and get it again.",
    )
