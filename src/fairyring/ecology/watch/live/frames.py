"""The wire format of a frame: about fifty kilobytes instead of a quarter of a megabyte, without visible loss.

Version 1, little-endian, without padding except as stated:

| bytes | what |
|---|---|
| 4 | `FRY` and the version, 1 |
| 4 + 4 + 4 | uint32: low 32 bits of the step, its high 32 bits, the number n of bacteria |
| 2 + 1 + 1 | uint16 width W; uint8 flags (bit 0: a signal; bit 1: the mind holds rewards); uint8 0 |
| 1 + 1 + 2 | uint8 rows R and columns C of the mind; uint16 length L of the names |
| 4 + 4 + 4 | float32 largest food F, signal S and energy E in this frame |
| 4 x 4 | uint32 population, births, deaths, immigrants |
| 8 + 8 | float64 food and signal in the whole world |
| 4 R C, twice | float32 mean and spread of the mind, row by row |
| 4 n | uint32 uid |
| 2 n, 2 n | uint16 x and y, in 65536ths of the width, rounded around the torus |
| n, n | uint8 direction, in 256ths of a turn; uint8 energy, in 255ths of E, negative values as 0 |
| n / 8 | tumbling, one bit each, lowest first, padded to a byte |
| W W, once or twice | uint8 of food, then of signal, x first: `q` stands for `F (q / 255)^2` |
| L | UTF-8: names of the rows, then of the columns, each ended by a line feed |

A field is sent as square roots, so that low concentrations, which matter for behaviour, remain visible: food of a hundredth of the
largest value has an error of 4 %. Numbers that a reader maps as arrays are aligned to their size.
"""

import struct

import numpy as np

from fairyring.core.errors import EcologyError
from fairyring.ecology.watch.scene import Counts, Frame, Mind

VERSION = 1
MAGIC = b"FRY" + bytes([VERSION])
HEADER = struct.Struct("<4sIIIHBBBBHfffIIIIdd")
_SIGNAL, _REWARDS = 1, 2


def encode(frame: Frame) -> bytes:
    """A frame as bytes, quantised as described above.

    Raises:
        EcologyError: the arrays do not fit each other or the format: a field that is not square or wider than 65,535 cells, a
            mind with more than 255 rows or columns, names with line feeds or with more than 65,535 bytes, or a value of a field
            that is negative or not finite.
    """
    width, n = _checked(frame)
    mind = frame.mind
    names = "".join(f"{name}\n" for name in (*mind.rows, *mind.columns)).encode()
    food, most_food = _roots("food", frame.food)
    signal, most_signal = (b"", 0.0) if frame.signal is None else _roots("signal", frame.signal)
    most_energy = max(0.0, float(frame.energy.max())) if n else 0.0
    counts = frame.counts
    header = HEADER.pack(
        MAGIC,
        frame.step & 0xFFFFFFFF,
        frame.step >> 32,
        n,
        width,
        (_SIGNAL if frame.signal is not None else 0) | (_REWARDS if mind.kind == "rewards" else 0),
        0,
        len(mind.rows),
        len(mind.columns),
        len(names),
        most_food,
        most_signal,
        most_energy,
        counts.population,
        counts.births,
        counts.deaths,
        counts.immigrants,
        counts.food,
        counts.signal,
    )
    energy = np.maximum(frame.energy, 0) * np.float32(255 / most_energy if most_energy else 0)
    parts = (
        header,
        np.asarray(mind.mean, "<f4").tobytes(),
        np.asarray(mind.spread, "<f4").tobytes(),
        np.asarray(frame.uid, "<u4").tobytes(),
        _place(frame.x, width),
        _place(frame.y, width),
        (np.rint(frame.direction * np.float32(128 / np.pi)).astype(np.int64) & 255)
        .astype(np.uint8)
        .tobytes(),
        np.rint(energy).astype(np.uint8).tobytes(),
        np.packbits(frame.tumbling, bitorder="little").tobytes(),
        food,
        signal,
        names,
    )
    return b"".join(parts)


def decode(data: bytes) -> Frame:
    """The frame that `data` encodes, up to quantisation.

    Raises:
        EcologyError: `data` is not one whole frame of this version.
    """
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        raise _broken(f"{len(data)} bytes that begin with {data[:4]!r}")
    head = HEADER.unpack_from(data)
    (
        _,
        low,
        high,
        n,
        width,
        has,
        zero,
        rows,
        columns,
        length,
        most_food,
        most_signal,
        most_energy,
        *counted,
    ) = head
    cells = width * width
    field_count = 1 + bool(has & _SIGNAL)
    size = HEADER.size + 8 * rows * columns + 10 * n + (n + 7) // 8 + field_count * cells + length
    if len(data) != size or has & ~(_SIGNAL | _REWARDS) or zero:
        raise _broken(f"{len(data)} bytes with a header for {size}")
    at = HEADER.size

    def take(kind: str, count: int) -> np.ndarray:
        nonlocal at
        part = np.frombuffer(data, kind, count, at)
        at += part.nbytes
        return part

    mean, spread = (take("<f4", rows * columns).reshape(rows, columns) for _ in range(2))
    uid = take("<u4", n).astype(np.int32)
    x, y = (take("<u2", n).astype(np.float32) * np.float32(width / 65536) for _ in range(2))
    direction = take("u1", n).astype(np.float32) * np.float32(np.pi / 128)
    energy = take("u1", n).astype(np.float32) * np.float32(most_energy / 255)
    tumbling = np.unpackbits(take("u1", (n + 7) // 8), count=n, bitorder="little").astype(bool)
    fields = [
        np.square(take("u1", cells).astype(np.float32) / np.float32(255)).reshape(width, width)
        * np.float32(largest)
        for largest in (most_food, most_signal)[:field_count]
    ]
    try:
        names = data[at:].decode().split("\n")
    except UnicodeDecodeError as error:
        raise _broken("names that are not UTF-8") from error
    if len(names) != rows + columns + 1 or names[-1]:
        raise _broken(f"{len(names) - 1} names for {rows} rows and {columns} columns")
    return Frame(
        step=low | high << 32,
        food=fields[0],
        signal=fields[1] if field_count == 2 else None,
        uid=uid,
        x=x,
        y=y,
        direction=direction,
        energy=energy,
        tumbling=tumbling,
        mind=Mind(
            kind="rewards" if has & _REWARDS else "table",
            rows=tuple(names[:rows]),
            columns=tuple(names[rows:-1]),
            mean=mean,
            spread=spread,
        ),
        counts=Counts(*counted),
    )


def _checked(frame: Frame) -> tuple[int, int]:
    """Width of the world and number of bacteria, after checking all shapes."""
    width, n = len(frame.food), len(frame.uid)
    if not 0 < width < 65536:
        raise _unfit("food", f"{width} rows", "1 to 65535 rows")
    shape = (len(frame.mind.rows), len(frame.mind.columns))
    expected: dict[str, tuple[int, ...]] = {
        name: (n,) for name in ("x", "y", "direction", "energy", "tumbling")
    }
    expected["food"] = (width, width)
    if frame.signal is not None:
        expected["signal"] = (width, width)
    shapes = {name: np.shape(getattr(frame, name)) for name in expected}
    shapes |= {"mind.mean": np.shape(frame.mind.mean), "mind.spread": np.shape(frame.mind.spread)}
    expected |= {"mind.mean": shape, "mind.spread": shape}
    for name, given in shapes.items():
        if given != expected[name]:
            raise _unfit(name, f"shape {given}", f"shape {expected[name]}")
    names = "".join((*frame.mind.rows, *frame.mind.columns))
    if max(shape) > 255 or "\n" in names or len(names.encode()) + sum(shape) > 65535:
        raise _unfit(
            "mind",
            f"{shape[0]} rows, {shape[1]} columns, their names",
            "255 of each, short names of one line",
        )
    return width, n


def _roots(name: str, field: np.ndarray) -> tuple[bytes, float]:
    """A field in 255ths of the square root of its largest value, x first, and that value."""
    largest, least = np.float32(field.max()), float(field.min())
    if not least >= 0 or not np.isfinite(largest):
        raise _unfit(name, f"values from {least:g} to {largest:g}", "finite values from 0")
    if largest == 0:
        return bytes(field.size), 0.0
    # Divided first, since a precomputed scale would lose precision for values close to the smallest float.
    return np.rint(np.sqrt(np.asarray(field, np.float32) / largest) * np.float32(255)).astype(
        np.uint8
    ).tobytes(), float(largest)


def _place(values: np.ndarray, width: int) -> bytes:
    steps = np.rint(np.asarray(values, np.float64) * (65536 / width)).astype(np.int64)
    return (steps & 65535).astype("<u2").tobytes()


def _broken(given: str) -> EcologyError:
    return EcologyError(
        "frame",
        given=given,
        expected=f"one whole frame of version {VERSION}",
        do="Reload the page, or ask again.",
    )


def _unfit(name: str, given: str, expected: str) -> EcologyError:
    return EcologyError(f"frame.{name}", given=given, expected=expected, do="Correct the scene's frames.")
