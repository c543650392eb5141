"""Films of a world: a GIF or MP4 of what the live page shows."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np

from fairyring.core.errors import EcologyError, MissingExtra, StorageError
from fairyring.ecology.watch.live import palette
from fairyring.ecology.watch.scene import Frame, Scene

# Half the thickness of a body, and half its length without the round ends, in cells, when running and when tumbling. The page
# uses the same numbers.
THICKNESS = np.array([0.37, 0.414], np.float32)
HALVES = np.array([0.58, 0.175], np.float32)
HALO = np.float32(1.5)
_Entry = tuple[tuple[int, int, int] | None, str]  # a colour, and what it stands for
_AT_ONCE = 64  # steps between two calls of progress
# Bitmaps of the characters: five rows of three dots, one bit for each dot.
GLYPHS = {
    "0": 0b111_101_101_101_111,
    "1": 0b010_110_010_010_111,
    "2": 0b111_001_111_100_111,
    "3": 0b111_001_111_001_111,
    "4": 0b101_101_111_001_001,
    "5": 0b111_100_111_001_111,
    "6": 0b111_100_111_101_111,
    "7": 0b111_001_010_010_010,
    "8": 0b111_101_111_101_111,
    "9": 0b111_101_111_001_111,
    "A": 0b010_101_111_101_101,
    "B": 0b110_101_110_101_110,
    "D": 0b110_101_101_101_110,
    "E": 0b111_100_111_100_111,
    "F": 0b111_100_110_100_100,
    "G": 0b111_100_101_101_111,
    "I": 0b111_010_010_010_111,
    "L": 0b100_100_100_100_111,
    "M": 0b101_111_111_101_101,
    "N": 0b110_101_101_101_101,
    "O": 0b111_101_101_101_111,
    "P": 0b111_101_111_100_100,
    "R": 0b110_101_110_101_101,
    "S": 0b111_100_111_001_111,
    "T": 0b111_010_010_010_010,
    "U": 0b101_101_101_101_111,
    " ": 0,
}
_HIGH, _SWATCH = 7, 6  # dots: of a line of text, and of a colour with the space after it


def write_video(frames: Iterable[Frame], path: str | Path, *, fps: float = 30, size: int = 512) -> Path:
    """Write a film of `frames` and return its path.

    It is written to a temporary file and renamed when it is complete. Until then, or if the frames end with an error, an older
    film at `path` stays as it was.

    Args:
        frames: in order; they are consumed one by one.
        path: of the film; `.gif` (by Pillow) or `.mp4` (H.264, by FFmpeg).
        fps: frames per second, from 1 to 60. A GIF counts in hundredths of a second, so it keeps the rate on average.
        size: pixels per side, an even number from 64 to 4096.

    Raises:
        EcologyError: another file type, no frames, or an impossible rate or size.
        StorageError: the file cannot be written.
        MissingExtra: Pillow or imageio-ffmpeg is not installed.
    """
    path = Path(path)
    writers: dict[str, Callable[[Iterable[Frame], Path, float, int], int]] = {".gif": _gif, ".mp4": _mp4}
    suffix = path.suffix.lower()
    if suffix not in writers:
        raise EcologyError(
            "film",
            given=path.name,
            expected="a name that ends in .gif or .mp4",
            do="Choose one of these file types.",
        )
    require_writer(suffix)  # before a frame is asked for, since a world may have to be compiled for it
    write = writers[suffix]
    if not 1 <= fps <= 60:
        raise EcologyError(
            "fps", given=fps, expected="1 to 60 frames a second", do="Choose a rate between them."
        )
    _check_size(size)
    # The suffix stays last, since FFmpeg infers the format from it.
    beside = path.with_name(f".{path.stem}.part{path.suffix.lower()}")
    try:
        if not path.parent.is_dir():
            raise FileNotFoundError(2, "no such folder")
        if not write(frames, beside, fps, size):
            raise EcologyError(
                "film", given="no frames", expected="at least one", do="Let the world make a step."
            )
        os.replace(beside, path)
    except OSError as error:
        raise StorageError(
            f"film {str(path)!r}",
            given=error.strerror or type(error).__name__,
            expected="a file that can be written",
            do="Free space, or give another place.",
        ) from error
    finally:
        beside.unlink(missing_ok=True)
    return path


def require_writer(suffix: str) -> None:
    """Check that films of a type can be written.

    Args:
        suffix: ".gif" or ".mp4".

    Raises:
        MissingExtra: Pillow or imageio-ffmpeg is not installed.
    """
    module, package, purpose = {
        ".gif": ("PIL", "pillow", "a film as a GIF"),
        ".mp4": ("imageio_ffmpeg", "imageio-ffmpeg", "a film as an MP4"),
    }[suffix]
    try:
        import_module(module)
    except ImportError as error:
        raise MissingExtra(package, extra="video", purpose=purpose) from error


def render(frame: Frame, size: int = 512) -> np.ndarray:
    """A frame as a picture, with its step and a legend of the colours.

    Args:
        frame: of any world.
        size: pixels per side, an even number from 64 to 4096.

    Returns:
        uint8 `[size, size, 3]`, RGB; rows run along y, as on the page.

    Raises:
        EcologyError: an impossible size.
    """
    _check_size(size)
    picture = np.asarray(palette.BACKGROUND, np.float32) + _glow(
        frame.food, size, palette.FOOD, palette.FOOD_GLOW
    )
    if frame.signal is not None:
        picture += _glow(frame.signal, size, palette.SIGNAL, palette.SIGNAL_GLOW)
    np.clip(picture, 0, 255, out=picture)
    if len(frame.uid):
        _bodies(picture, frame)
    _write(picture, [[(None, f"STEP {frame.step}")]], top=True)
    _write(picture, _legend(frame.signal is not None, size), top=False)
    return np.rint(picture).astype(np.uint8)


def _glow(field: np.ndarray, size: int, colour: tuple[int, int, int], glow: float) -> np.ndarray:
    """The light that a field adds to each pixel. Quadratic splines between cells, since linear interpolation shows diamonds."""
    bright = (1 - np.exp(-np.asarray(field, np.float32) / np.float32(glow))).T
    cells = len(field)
    place = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / size) - np.float32(0.5)
    nearest = np.rint(place).astype(np.int64)
    off = place - nearest
    taps = ((-1, (0.5 - off) ** 2 / 2), (0, 0.75 - off**2), (1, (0.5 + off) ** 2 / 2))
    for axis in (0, 1):
        parts = [
            bright.take((nearest + step) % cells, axis) * np.expand_dims(weight, 1 - axis)
            for step, weight in taps
        ]
        bright = parts[0] + parts[1] + parts[2]
    return bright[:, :, None] * np.asarray(colour, np.float32)


def _bodies(picture: np.ndarray, frame: Frame) -> None:
    """Draw all bacteria over the fields. Overlapping bodies mix, so their order does not matter."""
    size = len(picture)
    scale = size / len(frame.food)
    reach = int(np.ceil(scale * HALO))
    near = np.arange(-reach, reach + 1)
    bright = np.clip(np.asarray(frame.energy, np.float32) / palette.SATED, 0, 1)
    tumbling = np.asarray(frame.tumbling, bool)
    hungry, fed, warm = (np.asarray(c, np.float32) for c in (palette.HUNGRY, palette.FED, palette.TUMBLING))
    part = np.where(tumbling, 0.4 + 0.6 * bright, bright)[:, None]
    colours = hungry * (1 - part) + np.where(tumbling[:, None], warm, fed) * part
    covered: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # pixels, by how much, and by whom
    # A few hundred at a time, so that the arrays of pixels near them stay in the cache.
    for start in range(0, len(frame.uid), 256):
        some = slice(start, start + 256)
        centre = [np.asarray(v[some], np.float32) * np.float32(scale) for v in (frame.x, frame.y)]
        pixel = [np.floor(c).astype(np.int64)[:, None] + near for c in centre]
        dx, dy = (
            (p + np.float32(0.5) - c[:, None]) / np.float32(scale) for p, c in zip(pixel, centre, strict=True)
        )
        dx, dy = dx[:, None, :].astype(np.float32), dy[:, :, None].astype(np.float32)
        angle = np.asarray(frame.direction[some], np.float32)[:, None, None]
        along, aside = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        thick, half = (
            lengths[tumbling[some].astype(np.int64), None, None] for lengths in (THICKNESS, HALVES)
        )
        away = np.hypot(np.maximum(np.abs(along) - half, 0), aside) - thick
        solid = np.clip(np.float32(0.5) - away * np.float32(scale), 0, 1)
        halo = np.clip(1 - np.sqrt(dx * dx + dy * dy) / HALO, 0, 1) * (0.05 + 0.22 * bright[some, None, None])
        strength = np.maximum(solid, halo)
        where = (pixel[1][:, :, None] % size) * size + pixel[0][:, None, :] % size
        # Most pixels near a body are not covered by it.
        seen = np.flatnonzero(strength > 1 / 512)
        where, strength = where.ravel()[seen], strength.ravel()[seen]
        covered.append((where, strength, start + seen // len(near) ** 2))
    where, strength, whose = (np.concatenate(parts) for parts in zip(*covered, strict=True))
    weights = [*(strength * colours[whose, i] for i in range(3)), strength]
    sums = np.stack([np.bincount(where, weight, size * size) for weight in weights])
    strength = sums[3].reshape(size, size, 1)
    colour = (sums[:3] / np.maximum(sums[3], 1e-9)).T.reshape(size, size, 3)
    cover = np.minimum(strength, 1)
    picture += ((colour - picture) * cover).astype(np.float32)


def _legend(signal: bool, size: int) -> list[list[_Entry]]:
    """What each colour stands for: in one line, or one below the other in a small picture."""
    entries: list[_Entry] = [(palette.FED, "RUNS"), (palette.TUMBLING, "TUMBLES"), (palette.FOOD, "FOOD")]
    entries += [(palette.SIGNAL, "SIGNAL")] * signal
    room = size // _dot(size) - 4
    long = sum(_SWATCH + 4 * len(text) + 3 for _, text in entries)
    return [entries] if long <= room else [[entry] for entry in entries]


def _write(picture: np.ndarray, lines: Sequence[Sequence[_Entry]], *, top: bool) -> None:
    """Write lines of text, each after a patch of its colour, into the left corner at the top or at the bottom."""
    dot = _dot(len(picture))
    wide = max(
        sum(_SWATCH * (colour is not None) + 4 * len(text) + 3 for colour, text in line) for line in lines
    )
    bits = np.zeros((_HIGH * len(lines), wide), bool)
    patches = []
    for row, line in enumerate(lines):
        high, at = _HIGH * row, 1
        for colour, text in line:
            if colour is not None:
                patches.append((high + 1, at, colour))
                at += _SWATCH
            for glyph in text:
                rows = np.array([int(bit) for bit in f"{GLYPHS[glyph]:015b}"], bool).reshape(5, 3)
                bits[high + 1 : high + 6, at : at + 3] = rows
                at += 4
            at += 3
    letters = bits.repeat(dot, 0).repeat(dot, 1)[: len(picture), : len(picture) - 2 * dot]
    down = 2 * dot if top else len(picture) - 2 * dot - len(letters)
    corner = picture[down : down + letters.shape[0], 2 * dot : 2 * dot + letters.shape[1]]
    corner *= np.float32(0.45)
    corner[letters] = 235
    for high, at, colour in patches:
        corner[high * dot : (high + 5) * dot, at * dot : (at + 5) * dot] = colour


def _dot(size: int) -> int:
    """Pixels per side of a dot of the text."""
    return max(1, size // 200)


def _gif(frames: Iterable[Frame], path: Path, fps: float, size: int) -> int:
    from PIL import Image

    pictures = [
        Image.fromarray(render(frame, size)).quantize(256, dither=Image.Dither.NONE) for frame in frames
    ]
    if pictures:
        ends = [round(100 * i / fps) for i in range(len(pictures) + 1)]
        # Viewers show durations below two hundredths of a second as a tenth.
        lasts = [10 * max(2, end - begin) for begin, end in pairwise(ends)]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=lasts, loop=0)
    return len(pictures)


def _mp4(frames: Iterable[Frame], path: Path, fps: float, size: int) -> int:
    import imageio_ffmpeg

    writer, count = None, 0
    try:
        for frame in frames:
            if writer is None:
                # A constant rate factor, since a limited bit rate would blur bodies of a few pixels first.
                writer = imageio_ffmpeg.write_frames(
                    str(path),
                    (size, size),
                    fps=fps,  # pyright: ignore[reportArgumentType] annotated as int, but accepts any number
                    codec="libx264",
                    quality=None,  # pyright: ignore[reportArgumentType] the rate factor below replaces it
                    macro_block_size=2,
                    ffmpeg_log_level="error",
                    output_params=["-crf", "18", "-movflags", "+faststart"],
                )
                with warnings.catch_warnings():
                    # JAX warns of any fork; this one executes FFmpeg at once.
                    warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
                    writer.send(None)
            writer.send(render(frame, size).tobytes())
            count += 1
    finally:
        if writer is not None:
            writer.close()
    return count


def _check_size(size: int) -> None:
    if not 64 <= size <= 4096 or size % 2:
        raise EcologyError(
            "size",
            given=size,
            expected="an even number of pixels from 64 to 4096",
            do="Choose such a number.",
        )


def film(
    world: Scene,
    first: int,
    last: int,
    every: int,
    *,
    before: Callable[[int, int], None],
    progress: Callable[[int, int], None],
) -> Iterator[Frame]:
    """Frames of a world between two steps.

    Args:
        world: at its start; it is run up to `last`.
        first, last: steps of the first and the last frame.
        every: steps between two frames.
        before: called with steps done and steps to do up to `first`.
        progress: likewise from `first` to `last`.
    """
    while world.step < first:
        world.advance(min(_AT_ONCE, first - world.step))
        before(world.step, first)
    yield world.frame()
    while world.step < last:
        for _ in range(every // _AT_ONCE):
            world.advance(min(_AT_ONCE, last - world.step))
        if world.step < last and every % _AT_ONCE:
            world.advance(min(every % _AT_ONCE, last - world.step))
        progress(world.step - first, last - first)
        yield world.frame()
