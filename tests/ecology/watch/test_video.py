"""Films: what is in a picture, and what is in a file."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from fairyring.core.errors import EcologyError, MissingExtra, StorageError
from fairyring.ecology.watch.live import palette
from fairyring.ecology.watch.scene import Frame
from fairyring.ecology.watch.video import render, write_video
from tests.ecology.watch.fake_scene import FakeScene, FakeSettings

WIDTH, SIZE = 32, 256
CELL = SIZE // WIDTH


def frame(**change: object) -> Frame:
    """Two bacteria, at (8, 20) heading along x and at (24.5, 20.5) tumbling, and no food."""
    seen = FakeScene(FakeSettings(width=WIDTH, capacity=4, founders=2)).frame()
    fields = {
        "x": np.array([8, 24.5], np.float32),
        "y": np.array([20, 20.5], np.float32),
        "direction": np.array([0, 1], np.float32),
        "energy": np.array([2, 2], np.float32),
        "tumbling": np.array([False, True]),
    }
    return replace(seen, **(fields | change))


def at(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    """Red, green and blue at a place of the world; -1 is the last cell, as anywhere on a torus."""
    return picture[int(y * CELL) % SIZE, int(x * CELL) % SIZE].astype(int)


def walk(count: int) -> Iterator[Frame]:
    scene = FakeScene(FakeSettings(width=WIDTH, capacity=64, founders=12))
    for _ in range(count):
        scene.advance(2)
        yield scene.frame()


def test_fields_glow_in_the_colours_of_the_page() -> None:
    food, signal = np.full((2, WIDTH, WIDTH), [[[0.3]], [[0.1]]], np.float32)
    picture = render(frame(food=food, signal=signal), SIZE)
    expected = np.array(palette.BACKGROUND, float)
    expected += np.array(palette.FOOD) * (1 - np.exp(-0.3 / palette.FOOD_GLOW))
    expected += np.array(palette.SIGNAL) * (1 - np.exp(-0.1 / palette.SIGNAL_GLOW))
    assert np.abs(at(picture, 16, 8) - expected).max() <= 1


def test_a_field_is_drawn_where_it_is_and_across_the_seam() -> None:
    food = np.zeros((WIDTH, WIDTH), np.float32)
    food[0, 10] = 5.0  # x from 0 to 1, y from 10 to 11
    picture = render(frame(food=food), SIZE)
    assert at(picture, 0.5, 10.5)[0] > 90
    assert at(picture, -0.3, 10.5)[0] > at(picture, -1.5, 10.5)[0] + 15
    assert at(picture, 10.5, 0.5)[0] < 20


def test_bodies_lie_in_their_heading_and_tumbling_ones_are_warm() -> None:
    picture = render(frame(), SIZE)
    assert at(picture, 8.2, 20) == pytest.approx(palette.FED, abs=2)
    # As long as it is in its heading, it is not aside of it.
    assert at(picture, 8, 20.7)[1] < 120
    assert at(picture, 24.5, 20.5) == pytest.approx(palette.TUMBLING, abs=2)
    assert at(picture, 16, 8) == pytest.approx(palette.BACKGROUND, abs=1)
    dim = render(frame(energy=np.array([0.2, 2], np.float32)), SIZE)
    assert at(dim, 8.2, 20)[1] < at(picture, 8.2, 20)[1] - 50


@pytest.mark.parametrize("size", [64, 256, 640])
def test_every_colour_has_a_name_in_the_corner(size: int) -> None:
    def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
        corner = picture[-size // 2 :, : 3 * size // 4].reshape(-1, 3)
        return set(map(tuple, corner.tolist())) & {
            palette.FED,
            palette.TUMBLING,
            palette.FOOD,
            palette.SIGNAL,
        }

    empty = frame(x=np.array([], np.float32), y=np.array([], np.float32), uid=np.array([], np.int32))
    assert colours(render(empty, size)) == {palette.FED, palette.TUMBLING, palette.FOOD}
    signal = replace(empty, signal=np.zeros_like(empty.food))
    assert colours(render(signal, size)) == {palette.FED, palette.TUMBLING, palette.FOOD, palette.SIGNAL}


def test_a_body_on_the_seam_is_seen_on_both_sides() -> None:
    picture = render(frame(x=np.array([0, 16], np.float32)), SIZE)
    assert at(picture, 0.4, 20)[1] > 200
    assert at(picture, -0.4, 20)[1] > 200


def test_the_order_of_the_bacteria_does_not_matter() -> None:
    some = next(walk(1))
    order = np.random.default_rng(0).permutation(len(some.uid))
    names = ("uid", "x", "y", "direction", "energy", "tumbling")
    mixed = replace(some, **{name: getattr(some, name)[order] for name in names})
    np.testing.assert_allclose(render(mixed, SIZE).astype(int), render(some, SIZE).astype(int), atol=1)


def test_the_step_is_written() -> None:
    first, again, later = (render(frame(step=step), SIZE) for step in (7, 7, 8))
    assert (first == again).all()
    changed = np.argwhere((first != later).any(2))
    assert len(changed) > 0
    assert changed.max() < SIZE / 4


def test_a_gif_has_all_frames_and_lasts_as_long_as_it_should(tmp_path: Path) -> None:
    path = write_video(walk(7), tmp_path / "world.gif", fps=30, size=64)
    with Image.open(path) as film:
        assert (getattr(film, "n_frames", 1), film.size) == (7, (64, 64))
        lasts = []
        for i, seen in enumerate(walk(7)):
            film.seek(i)
            lasts.append(film.info["duration"])
            off = np.abs(np.asarray(film.convert("RGB")).astype(int) - render(seen, 64))
            assert off.mean() < 3
    assert sum(lasts) == pytest.approx(1000 * 7 / 30, abs=5)
    assert [p.name for p in tmp_path.iterdir()] == ["world.gif"]


def test_an_mp4_has_all_frames(tmp_path: Path) -> None:
    path = write_video(walk(9), tmp_path / "world.MP4", fps=24, size=128)
    read = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    film = subprocess.run(read, capture_output=True, check=True)
    assert re.search(rb"Video: h264.*, 128x128.*, 24 fps", film.stderr)
    pictures = np.frombuffer(film.stdout, np.uint8).reshape(-1, 128, 128, 3)
    assert len(pictures) == 9
    for picture, seen in zip(pictures, walk(9), strict=True):
        assert np.abs(picture.astype(int) - render(seen, 128)).mean() < 6
    assert [p.name for p in tmp_path.iterdir()] == ["world.MP4"]


@pytest.mark.parametrize("name", ["world.gif", "world.mp4"])
def test_a_film_that_is_not_finished_leaves_the_old_one(tmp_path: Path, name: str) -> None:
    def broken() -> Iterator[Frame]:
        yield from walk(2)
        raise ZeroDivisionError

    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        write_video(broken(), tmp_path / name, size=64)
    with pytest.raises(EcologyError, match="no frames"):
        write_video([], tmp_path / name, size=64)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(name, b"old")]
    with pytest.raises(StorageError, match="no such folder"):
        write_video(walk(1), tmp_path / "nowhere" / name, size=64)


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("world.avi", {}, r"world\.avi.*\.gif or \.mp4"),
        ("world", {}, r"\.gif or \.mp4"),
        ("world.gif", {"fps": 0}, "1 to 60"),
        ("world.gif", {"size": 65}, "even number of pixels"),
        ("world.mp4", {"size": 32}, "even number of pixels"),
    ],
)
def test_what_cannot_be_filmed_is_said(tmp_path: Path, name: str, more: dict[str, int], said: str) -> None:
    with pytest.raises(EcologyError, match=said):
        write_video(walk(1), tmp_path / name, **more)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "package", "module"), [("a.gif", "pillow", "PIL"), ("a.mp4", "imageio-ffmpeg", "imageio_ffmpeg")]
)
def test_a_missing_package_names_its_extra(
    tmp_path: Path, name: str, package: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"no package '{package}'.*fairyring\[video\]"):
        write_video(walk(1), tmp_path / name)
