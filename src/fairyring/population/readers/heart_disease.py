"""Heart disease in four hospitals: few and very different clients, with values that only some of them measured."""

from pathlib import Path

import numpy as np

from fairyring.core.errors import DataUnavailable
from fairyring.population.population import Population
from fairyring.population.readers._prepare import held_out, one_of, standardised
from fairyring.population.readers.dataset import Dataset, File, Splits

HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
FEATURES = (
    "age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak",
    "slope", "ca", "thal",
)  # fmt: skip
_FLAGGED = FEATURES[3:]  # features that at least one hospital did not always measure
_NEVER_ZERO = ("trestbps", "chol", "thalach", "slope", "thal")
_PUBLISHED = "https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease"


def read(
    paths: list[Path],
    *,
    split: str = "within",
    hospital: str = "va",
    flags: bool = True,
    test_fraction: float = 0.2,
    stratify: bool = False,
    seed: int = 0,
) -> Splits:
    one_of("split", split, ("within", "hospital"))
    one_of("hospital", hospital, HOSPITALS)
    tables = [read_patients(path) for path in paths]
    owner = np.repeat(HOSPITALS, [len(table) for table in tables])
    table = np.concatenate(tables)
    values, disease = table[:, :13], (table[:, 13] > 0).astype(np.int32)
    # With stratify, the sick and the others of a hospital are groups of their own.
    groups = np.char.add(owner, np.where(disease == 1, " ill", "")) if stratify else owner
    test = held_out(groups, test_fraction, seed) if split == "within" else owner == hospital
    x = standardised(values, ~test)
    if flags:
        x = np.concatenate([x, np.isnan(values[:, 3:]).astype(np.float32)], axis=1)
    train, held = (
        Population.from_arrays({"x": x[rows], "y": disease[rows]}, client=owner[rows])
        for rows in (~test, test)
    )
    return Splits(train, held)


DATASET = Dataset(
    name="heart-disease",
    title="Heart Disease: Cleveland, Budapest, Zurich and Basel, Long Beach",
    source="UCI Machine Learning Repository, data set 45",
    page="https://archive.ics.uci.edu/dataset/45/heart+disease",
    licence="CC BY 4.0 at UCI; the investigators ask to be named in publications",
    citation="Investigators: A. Janosi, M.D. (Hungarian Institute of Cardiology, Budapest); W. Steinbrunn, "
    "M.D. (University Hospital, Zurich); M. Pfisterer, M.D. (University Hospital, Basel); R. Detrano, M.D., "
    "Ph.D. (V.A. Medical Center, Long Beach, and Cleveland Clinic Foundation). Donor: D. W. Aha. 1988.",
    clients="a hospital: 303, 294, 123 and 200 patients",
    shapes={
        "x": f"float32 [23]: {', '.join(FEATURES)}, standardised; then a flag for each of "
        f"{', '.join(_FLAGGED)}, which is 1 if it was not measured. [13] with flags=False",
        "y": "int32, 1 for disease (published values 1 to 4)",
    },
    how="The processed.*.data files. A value counts as missing if it is '?'; if it is 0 where 0 is impossible "
    "(blood pressure, cholesterol, heart rate, slope, thal); or if it is 0 in ca in a file without any '?', such "
    "as the copy of the Hungarian file with this checksum, which has zeros instead. Features are standardised with "
    "the means and standard deviations of the training rows only; a missing value becomes the training mean. With "
    "split='within' test_fraction of each hospital's patients is held out, and with stratify=True that of those with and "
    "without disease, who are few in Zurich and Basel; with split='hospital' the hospital named by `hospital` is.",
    folder="heart-disease",
    files=(
        File(
            "processed.cleveland.data",
            "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8",
            f"{_PUBLISHED}/processed.cleveland.data",
        ),
        File(
            "processed.hungarian.data",
            "ce60acd8a7b2bee95d91776948160b0c32b39e1b29cc27096f240768bcbdb250",
        ),
        File(
            "processed.switzerland.data",
            "834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314",
            f"{_PUBLISHED}/processed.switzerland.data",
        ),
        File(
            "processed.va.data",
            "e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f",
            f"{_PUBLISHED}/processed.va.data",
        ),
    ),
    read=read,
)


def read_patients(path: Path) -> np.ndarray:
    """The features and the published diagnosis 0..4 of each patient, float64 `[patients, 14]`; NaN where missing.

    Raises:
        DataUnavailable: a line does not have 14 values.
    """
    text = path.read_text(encoding="ascii")
    rows = [line.split(",") for line in text.split()]
    try:
        table = np.array([[np.nan if value == "?" else float(value) for value in row] for row in rows])
        if table.ndim != 2 or table.shape[1] != 14:
            raise ValueError(f"shape {table.shape}")
    except ValueError as error:
        raise DataUnavailable(
            str(path), given=str(error), expected="14 numbers or '?' per line", do="Get the file again."
        ) from None
    impossible = _NEVER_ZERO if "?" in text else (*_NEVER_ZERO, "ca")
    for name in impossible:
        column = table[:, FEATURES.index(name)]
        column[column == 0] = np.nan
    return table
