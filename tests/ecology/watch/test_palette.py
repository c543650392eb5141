"""Colours that must be told apart can be, by numbers, also by those who do not see red and green as most do."""

import re
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from fairyring.ecology.watch.live import palette

# Machado, Oliveira and Fernandes 2009, severity 1, for linear RGB.
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])
CSS = Path(palette.__file__).with_name("page.css").read_text("utf-8")


def linear(colour: np.ndarray) -> np.ndarray:
    part = np.clip(np.asarray(colour, float), 0, 255) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def lab(colour: np.ndarray, sight: str) -> np.ndarray:
    """CIELAB of a colour in sRGB, as it is seen."""
    seen = XYZ @ np.clip(np.array(SIGHTS[sight]) @ linear(colour), 0, 1) / WHITE
    f = np.where(seen > 216 / 24389, np.cbrt(seen), (24389 / 27 * seen + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def apart(one: np.ndarray, other: np.ndarray, sight: str) -> float:
    return float(np.linalg.norm(lab(one, sight) - lab(other, sight)))


def inks(block: str) -> dict[str, np.ndarray]:
    """The colours of a block of the style sheet, by name."""
    found = re.findall(r"--([a-z-]+): #([0-9a-f]{6});", block)
    return {name: np.array([int(value[i : i + 2], 16) for i in (0, 2, 4)]) for name, value in found}


LIGHT, DARK = (inks(block) for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL))


def test_the_measure_is_right() -> None:
    assert lab(np.array([255, 255, 255]), "normal") == pytest.approx([100, 0, 0], abs=0.02)
    assert lab(np.array([255, 0, 0]), "normal") == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    # Red food and green bacteria, dim: the same to a protanope.
    assert apart(np.array([255, 62, 66]), np.array([38, 92, 66]), "normal") > 90
    assert apart(0.63 * np.array([255, 62, 66]) + 10, np.array([38, 92, 66]), "protanopia") < 10


@pytest.mark.parametrize("sight", SIGHTS)
def test_bacteria_and_fields_are_told_apart(sight: str) -> None:
    ground, food, signal, hungry, fed, tumbling = (
        np.array(of, float)
        for of in (
            palette.BACKGROUND, palette.FOOD, palette.SIGNAL, palette.HUNGRY, palette.FED, palette.TUMBLING,
        )
    )  # fmt: skip
    glows = [ground + part * food for part in (0, 0.3, 0.63, 1)]
    glows += [ground + part * signal for part in (0.63, 1)] + [ground + 0.63 * (food + signal)]
    running = [hungry, (hungry + fed) / 2, fed]
    tumblers = [0.6 * hungry + 0.4 * tumbling, tumbling]
    for body, under in product(running + tumblers, glows):
        assert apart(body, under, sight) > 30, (body, under)
    for body, other in product(running[1:], tumblers):
        assert apart(body, other, sight) > 30, (body, other)
    for one, other in combinations([ground, ground + 0.63 * food, ground + 0.63 * signal], 2):
        assert apart(one, other, sight) > 30


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_curves_and_tables_are_told_apart_and_from_their_card(
    theme: dict[str, np.ndarray], sight: str
) -> None:
    curves = [theme[name] for name in ("alive", "deaths", "immigrants")]
    for one, other in [
        *combinations(curves, 2),
        (theme["food"], theme["signal"]),
        (theme["run"], theme["tumble"]),
    ]:
        assert apart(one, other, sight) > 20, (one, other)
    for name in ("alive", "food", "signal", "deaths", "immigrants", "quiet", "ink"):
        light, dark = sorted((float(linear(theme[name]) @ XYZ[1]), float(linear(theme["card"]) @ XYZ[1])))[
            ::-1
        ]
        assert (light + 0.05) / (dark + 0.05) > 4.5, f"{name} is hard to read"


def test_the_page_begins_with_the_colours_it_is_sent() -> None:
    for name in ("food", "signal", "hungry", "fed", "tumbling", "background"):
        assert f"--dish-{name}: rgb({' '.join(map(str, getattr(palette, name.upper())))});" in CSS
