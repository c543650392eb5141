"""WISDM: a person's activity, from the accelerometer of the phone in the pocket."""

import csv
from pathlib import Path

import numpy as np

from fairyring.core.errors import DataUnavailable
from fairyring.population.population import Population
from fairyring.population.readers._prepare import one_of, standardised
from fairyring.population.readers.dataset import Dataset, File, Splits

ACTIVITIES = ("Walking", "Jogging", "Upstairs", "Downstairs", "Sitting", "Standing")


def read(paths: list[Path], *, split: str = "users") -> Splits:
    one_of("split", split, ("users", "within"))
    user, x, y = read_arff(paths[0])
    test = user % 4 == 0 if split == "users" else _last_fifth(user * len(ACTIVITIES) + y)
    columns = {"x": standardised(x, ~test), "y": y}
    parts = (
        Population.from_arrays({name: column[rows] for name, column in columns.items()}, client=user[rows])
        for rows in (~test, test)
    )
    return Splits(*parts)


DATASET = Dataset(
    name="wisdm",
    title="WISDM Activity Prediction 1.1, transformed",
    source="WISDM Lab, Fordham University",
    page="https://www.cis.fordham.edu/wisdm/dataset.php",
    licence="free to use; every copy must include its readme.txt, and the paper must be cited",
    citation="J. R. Kwapisz, G. M. Weiss, S. A. Moore. Activity Recognition using Cell Phone Accelerometers. "
    "SensorKDD, 2010.",
    clients="one of 36 people",
    shapes={"x": "float32 [43], standardised", "y": f"int32, 0..5: {', '.join(ACTIVITIES)}"},
    how="The published ARFF, from the archive of version 1.1: 5,418 windows of ten seconds. Features are "
    "standardised with the means and standard deviations of the training rows only; a missing value ('?', a "
    "peak distance where there is no peak) becomes the training mean. With split='users' people whose number is "
    "divisible by 4 are held out. With split='within' the last fifth of each person's windows of each activity is "
    "(people did one activity after another, so the end of a recording alone would have other activities).",
    folder="wisdm",
    files=(
        File(
            "WISDM_ar_v1.1_transformed.arff",
            "8cb3fbbad6398ac4b817cc7b98f387efa89ac24b26d1270a5e7a1049a8f9c31a",
        ),
    ),
    read=read,
)


def _last_fifth(groups: np.ndarray) -> np.ndarray:
    """Whether each row is in the last fifth of its group, in the order of the file: bool `[rows]`."""
    mask = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        mask[members[round(0.8 * len(members)) :]] = True
    return mask


def read_arff(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User int64 `[rows]`, features float64 `[rows, 43]` with NaN where missing, activity int32 `[rows]`.

    Raises:
        DataUnavailable: rows do not have the columns of this data set.
    """
    with path.open(newline="", encoding="ascii") as file:
        lines = (line.strip() for line in file)
        for line in lines:
            if line.lower() == "@data":
                break
        rows = [row for row in csv.reader(line for line in lines if line) if row]
    if not rows or {len(row) for row in rows} != {46} or {row[45] for row in rows} - set(ACTIVITIES):
        raise DataUnavailable(
            str(path),
            given=f"{len(rows)} rows with other columns",
            expected="UNIQUE_ID, user, 43 features and an activity in every row",
            do="Get WISDM_ar_v1.1_transformed.arff again.",
        )
    user = np.array([int(row[1]) for row in rows])
    x = np.array([[np.nan if value == "?" else float(value) for value in row[2:45]] for row in rows])
    return user, x, np.array([ACTIVITIES.index(row[45]) for row in rows], np.int32)
