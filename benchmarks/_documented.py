"""The speed figures of the README and the docs: where each stands, which benchmark measures it, and how closely it must hold.

The figures themselves are read out of the documents. A `Place` is a piece of a document with `#` where a figure is; it must
be found exactly once, whatever the lines break at. Its figures say how to find the same number in the JSON that a benchmark keeps.
"""

import re
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NUMBER = r"(\d[\d,]*(?:\.\d+)?)"
# By how much a measured figure may differ from what a document says. Ratios come from one run on one machine, so they carry
# over; what is absolute does not, and is judged only on the machine the documents name. Bytes and targets do not vary.
RATIO, ABSOLUTE, EXACT = 0.15, 0.25, 0.02


class Unmeasured(Exception):
    """A benchmark ran, but without this figure."""


class Measured(NamedTuple):
    """What a benchmark gave.

    Attributes:
        value: to be compared.
        low: the least of several turns; `value` where there was one.
        high: the most of several turns.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: what it is of, with its unit.
        part: the benchmark that measures it, a file's name without `.py`.
        measured: finds it in the benchmark's results; raises `Unmeasured` or `KeyError` where they are without it.
        tolerance: by which share of the documented figure it may be off.
        absolute: whether it is of one machine.
        quiet: whether it takes a machine that does nothing else: times by the wall, also as a ratio. PyTorch's threads spin while they
            wait for each other, so that beside another program a peer may be ten times as slow.
        at_most: whether less is as documented, too.
        written: how the documents write such a number.
    """

    name: str
    part: str
    measured: Callable[[dict[str, Any]], Measured]
    tolerance: float
    absolute: bool = False
    quiet: bool = False
    at_most: bool = False
    written: Callable[[float], str] = lambda value: significant(value, 2)


class Said(NamedTuple):
    """What a document says.

    Attributes:
        figure: of what.
        value: the number.
        rounding: half a unit of its last digit.
        file: the document, from the root of the repository.
        line: counted from 1.
        span: where in the document the number stands.
    """

    figure: Figure
    value: float
    rounding: float
    file: str
    line: int
    span: tuple[int, int]


@dataclass(frozen=True)
class Place:
    """A piece of a document with its figures, in order.

    Attributes:
        file: the document, from the root of the repository.
        text: the piece, `#` for each figure. One that begins with `|` is a whole row of a table.
        figures: as many as there are `#`.
    """

    file: str
    text: str
    figures: tuple[Figure, ...]

    def find(self, document: str) -> list[Said]:
        """What the document says here. Raises `LookupError` where the piece is not found exactly once."""
        words = [r"\s+".join(map(re.escape, piece.split(" "))) for piece in self.text.split("#")]
        pattern = NUMBER.join(words)
        if self.text.startswith("|"):
            pattern = f"^{pattern}$"
        matches = list(re.finditer(pattern, document, re.MULTILINE))
        if len(matches) != 1 or len(words) - 1 != len(self.figures):
            raise LookupError(
                f"{self.file}: {self.text!r} is found {len(matches)} times and has {len(words) - 1} figures, "
                f"expected once and {len(self.figures)}. Where the document was rewritten, rewrite the piece in "
                f"{Path(__file__).name}."
            )
        match, found = matches[0], []
        for group, figure in enumerate(self.figures, 1):
            number = match[group].replace(",", "")
            decimals = len(number.partition(".")[2])
            line = document.count("\n", 0, match.start(group)) + 1
            span = match.span(group)
            found.append(Said(figure, float(number), 0.5 * 10**-decimals, self.file, line, span))
        return found


def read(file: str) -> str:
    """The text of a document."""
    return (ROOT / file).read_text("utf-8")


def said(places: Iterable[Place]) -> list[Said]:
    """What the documents say at all places. Raises `LookupError` that names every place that is not found exactly once."""
    found, lost = [], []
    for place in places:
        try:
            found += place.find(read(place.file))
        except LookupError as error:
            lost.append(str(error))
    if lost:
        raise LookupError("\n".join(lost))
    return found


def is_documented(machine: dict[str, Any]) -> bool:
    """Whether a machine is of the kind that the documents name: two cores of an Intel Xeon with AVX-512."""
    return "Xeon" in machine["cpu"] and machine["cores"] == 2 and machine["avx512"]


# -- how numbers are written -----------------------------------------------------------------------------------


def significant(value: float, digits: int) -> str:
    """A number with so many significant digits: 88,100 or 0.097."""
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = int(f"{rounded:e}".partition("e")[2])
    return f"{rounded:,.{max(0, digits - 1 - exponent)}f}"


def three(value: float) -> str:
    """A rate: 88,100."""
    return significant(value, 3)


def times(value: float) -> str:
    """How many times as fast: 8.4 or 104."""
    return f"{value:.1f}" if round(value, 1) < 10 else f"{value:,.0f}" if value < 1000 else three(value)


def hundredths(value: float) -> str:
    """A ratio near 1: 1.08."""
    return f"{value:.2f}"


# -- where benchmarks keep them --------------------------------------------------------------------------------


def only(value: float) -> Measured:
    """A figure without turns."""
    return Measured(value, value, value)


def at(part: str, name: str, *keys: str, scale: float = 1.0, tolerance: float = RATIO) -> Figure:
    """A number at these keys of a benchmark's results, times `scale`."""

    def measured(results: Any) -> Measured:
        for key in keys:
            results = results[key]
        return only(scale * results)

    return Figure(name, part, measured, tolerance)


def absolute(figure: Figure) -> Figure:
    """The figure, as one of the machine the documents name."""
    return replace(figure, absolute=True, quiet=True, tolerance=ABSOLUTE)


def by_the_wall(figure: Figure) -> Figure:
    """The figure, as one that other programs change."""
    return replace(figure, quiet=True)


def turns(
    part: str, name: str, ours: tuple[str, str], field: str, theirs: tuple[str, str] | None = None
) -> Figure:
    """The median over turns of a rate of one work and system, or its ratio to another's."""

    def rates(results: dict[str, Any], work: str, system: str) -> list[float]:
        took = results["works"][work].get(system)
        if not took:
            raise Unmeasured(f"{part} has no turn of {system} on {work}")
        return [turn[field] for turn in took]

    def measured(results: dict[str, Any]) -> Measured:
        above = rates(results, *ours)
        if theirs is None:
            return Measured(statistics.median(above), min(above), max(above))
        below = rates(results, *theirs)
        pairs = [a / b for a, b in zip(above, below, strict=False)]
        return Measured(statistics.median(above) / statistics.median(below), min(pairs), max(pairs))

    if theirs is None:
        return absolute(Figure(name, part, measured, ABSOLUTE, written=three))
    return by_the_wall(Figure(name, part, measured, RATIO, written=times))


# -- examples a second -----------------------------------------------------------------------------------------

WORKS = {
    "logistic regression 784-62": "lr",
    "2NN 784-200-200-62": "2nn",
    "CNN C1, with dropout": "c1",
    "CNN C2, with dropout": "c2",
}
PEERS = {"pfl": "pfl-research, 2 threads", "pfl-2": "pfl-research, 2 processes", "flower": "Flower"}


def spread(results: dict[str, Any]) -> Measured:
    """The most by which turns of a system differ, in % of their median."""
    spreads = []
    for systems in results["works"].values():
        for took in systems.values():
            rates = [turn["examples_per_second"] for turn in took]
            spreads += [100 * (max(rates) - min(rates)) / statistics.median(rates)] if len(rates) > 1 else []
    if not spreads:
        raise Unmeasured("simulators: one turn of a system has no spread")
    return only(max(spreads))


SPREAD = by_the_wall(Figure("turns of one system, %", "simulators", spread, RATIO, at_most=True))


def simulators(file: str, peers: tuple[str, ...]) -> list[Place]:
    """The table of simulators with these peers."""
    places = []
    for label, work in WORKS.items():
        figures = [
            turns("simulators", f"{label}, fairyring, examples/s", (work, "fairyring"), "examples_per_second")
        ]
        for peer in peers:
            name = f"{label}, {PEERS[peer]}"
            theirs, ours = (work, peer), (work, "fairyring")
            figures.append(turns("simulators", f"{name}, examples/s", theirs, "examples_per_second"))
            figures.append(turns("simulators", f"{name}, ratio", ours, "examples_per_second", theirs))
        text = f"| {label} | # | {' | '.join(['# (#x)'] * len(peers))} |"
        places.append(Place(file, text, tuple(figures)))
    return places


def limits() -> list[Place]:
    """What a round costs beside the plain loop."""
    places = []
    for label, work in WORKS.items():
        plain, engine = (work, "plain"), (work, "engine")
        cost = turns("limit", f"{label}, a round's cost, ratio", plain, "median", engine)
        figures = (
            turns("limit", f"{label}, plain loop, examples/s", plain, "median"),
            turns("limit", f"{label}, engine, examples/s", engine, "median"),
            replace(cost, written=hundredths),
        )
        places.append(Place("docs/comparison.md", f"| {label} | # | # | # |", figures))
    return places


# -- how a model is written ------------------------------------------------------------------------------------

MODELS = {
    "CNN C2, without dropout": ("cnn", "zoo"),
    "strided and dilated convolutions, GroupNorm, overlapping pools": ("pools", "functions"),
    "depthwise separable convolutions, GroupNorm": ("separable", "zoo"),
    "dense layers, LayerNorm": ("perceptron", "functions"),
    "LSTM": ("lstm", "zoo"),
}


def models() -> list[Place]:
    """CPU time of a step beside the best way to write the model."""
    places = []
    for label, (model, third) in MODELS.items():
        figures = [
            replace(at("models", f"{label}, {way}, ratio", "models", model, way, "ratio"), written=hundredths)
            for way in ("Equinox", "Flax NNX", third)
        ]
        places.append(Place("docs/comparison.md", f"| {label} | # | # | # |", tuple(figures)))
    return places


# -- secure aggregation ----------------------------------------------------------------------------------------

PIECES = {
    "expand and add a neighbour's mask": ("mask a neighbour: expand and add, ms", " ms"),
    "agree on its key": ("agree on a mask's key with a neighbour, ms", " ms"),
    "share two secrets": ("share a device's two secrets, ms", " ms"),
    "join the shares of a seed": ("join the shares of a self-mask's seed, ms", " ms"),
    "bytes a number on the wire": ("masked vector on the wire, bytes a number", ""),
}
KERNEL, ALONE = "kernel: a mask on 10^6 uint32", "limit: AES-256-CTR alone"
DEVICE = "device: one of 1000, 10^5"
SERVERS = [f"server: 1000 devices, {share}% vanish, 10^5" for share in (0, 10, 30)]
UPLOAD = "upload: 1,024 devices x 1,048,576 x 16 bit, against plain"
ROUNDS = [f"round: 1000 devices, 10% vanish, 10^5, {threat}" for threat in ("semi_honest", "semi_malicious")]
MEMORY = "memory: server of 1000 devices x 100,000"
LONG_MEMORY = "memory: server of 16 devices x 16,777,216"


def row(name: str) -> Figure:
    """A row of the secure sum's costs."""
    return at("secagg", name, "rows", name, "measured")


def target(name: str) -> Figure:
    """The target of a row."""
    return at("secagg", f"{name}, target", "rows", name, "target", tolerance=EXACT)


def times_the_cipher(results: dict[str, Any]) -> Measured:
    """A mask beside the cipher alone."""
    rows = results["rows"]
    return only(rows[KERNEL]["measured"] / rows[ALONE]["measured"])


def secure_sums() -> list[Place]:
    """The two tables of secure sums, and the bytes of a device."""
    places, comparison = [], "docs/comparison.md"
    for label, (piece, unit) in PIECES.items():

        def ratio(results: dict[str, Any], piece: str = piece) -> Measured:
            got = results["pieces"][piece]
            return only(got["flower"] / got["fairyring"])

        ours, theirs = (
            at("secagg", f"{piece}, {who}", "pieces", piece, who) for who in ("fairyring", "flower")
        )
        against = Figure(f"{piece}, ratio", "secagg", ratio, RATIO, written=times)
        if unit:
            ours, theirs, against = absolute(ours), absolute(theirs), by_the_wall(against)
        places.append(Place(comparison, f"| {label} | #{unit} | #{unit} | #x |", (ours, theirs, against)))
    cipher = by_the_wall(
        Figure(f"{KERNEL}, times the cipher", "secagg", times_the_cipher, RATIO, written=hundredths)
    )
    upload = replace(row(UPLOAD), tolerance=EXACT, written=hundredths)
    beside = at(
        "secagg",
        "device: sent beside its masked input, kB",
        "rows",
        "sent beside its masked input",
        "measured",
    )
    memory = [replace(row(name), tolerance=ABSOLUTE, written=three) for name in (MEMORY, LONG_MEMORY)]
    return [
        *places,
        Place(
            comparison,
            "| a mask on 10^6 uint32 | # ms, # times the cipher alone | # ms |",
            (absolute(row(KERNEL)), cipher, target(KERNEL)),
        ),
        Place(
            comparison,
            "| a device of 1000, semi-malicious, 10^5 numbers | # ms | # ms |",
            (absolute(row(DEVICE)), target(DEVICE)),
        ),
        Place(
            comparison,
            "| the server, 1000 devices, none / 10 % / 30 % vanish | # / # / # s | # / # / # s |",
            (*(absolute(row(name)) for name in SERVERS), *map(target, SERVERS)),
        ),
        Place(
            comparison,
            "| upload against 16-bit numbers in the clear, 1,024 devices, 2^20 numbers | #x | #x |",
            (upload, replace(target(UPLOAD), written=hundredths)),
        ),
        Place(
            comparison,
            "| a whole round of 1000 devices, all parties' work, semi-honest / semi-malicious | # / # s | # s |",
            (*(absolute(row(name)) for name in ROUNDS), target(ROUNDS[0])),
        ),
        Place(
            comparison,
            "| memory of a server of 1000 devices | # MiB | # MiB |",
            (memory[0], target(MEMORY)),
        ),
        Place(
            comparison,
            "| memory of a server of 16 devices, 2^24 numbers (a later run) | # MiB | # MiB |",
            (memory[1], replace(target(LONG_MEMORY), written=three)),
        ),
        Place(
            "docs/secure_aggregation.md",
            "Without its vector a device then sends # kB rather than 12",
            (replace(beside, tolerance=EXACT),),
        ),
    ]


# -- differential privacy --------------------------------------------------------------------------------------

AGGREGATIONS = {
    "clip and Gaussian noise": "clip, gaussian noise",
    "the same under a secure sum in its ideal form": "clip, gaussian noise, secure sum",
    "clip and correlated noise": "clip, correlated noise",
    "clip, rotation, Skellam noise, secure sum in its ideal form": "clip, rotate, skellam, secure sum",
}
LAWS = ("rounded_gaussian", "discrete_gaussian", "skellam")


def plain(work: str) -> Figure:
    """Milliseconds of a round without clip and noise."""
    figure = at(
        "private_rounds", f"a plain round of {work}, ms", "works", work, "plain", "seconds", scale=1e3
    )
    return replace(absolute(figure), written=three)


def noise(name: str, field: str, choose: Callable[[list[float]], float], scale: float = 1.0) -> Figure:
    """The least or the most over all laws and sizes of noise."""

    def measured(results: dict[str, Any]) -> Measured:
        return only(scale * choose([draw[field] for law in LAWS for draw in results["laws"][law].values()]))

    return absolute(Figure(name, "noise", measured, ABSOLUTE))


def privacy() -> list[Place]:
    """What clipping and noise add to a round, and how fast noise is drawn."""
    file, places = "docs/differential_privacy.md", []
    for label, aggregation in AGGREGATIONS.items():
        figures = [
            replace(
                at("private_rounds", f"{work}: {aggregation}, {kind}", "works", work, aggregation, field),
                written=hundredths,
                quiet=field == "ratio",
            )
            for work in ("c2", "2nn")
            for kind, field in (("ratio", "ratio"), ("ratio of CPU time", "cpu_ratio"))
        ]
        places.append(Place(file, f"| {label} | # (#) | # (#) |", tuple(figures)))
    memory, disk = (
        absolute(at("private_rounds", f"a round's ledger {where}, ms", "ledger", where, scale=1e3))
        for where in ("in memory", "on disk")
    )
    return [
        Place(file, "50 clients of 50 examples) takes # ms on two cores of a Xeon", (plain("c2"),)),
        Place(file, "| | C2, of # ms | 2NN (210,000 parameters), of # ms |", (plain("c2"), plain("2nn"))),
        *places,
        Place(
            file,
            "The two entries of a round's ledger took # ms in memory and # ms on the disk.",
            (memory, disk),
        ),
        Place(
            file,
            "Drawing 10^6 numbers takes one core # to # ms, by any of the three laws",
            (
                noise("10^6 draws, the fastest law, ms", "milliseconds", min),
                noise("10^6 draws, the slowest law, ms", "milliseconds", max),
            ),
        ),
        Place(
            file,
            "the keystream alone takes # ms), after up to # s for the first of a kind",
            (
                absolute(at("noise", "the keystream of 10^6 draws, ms", "keystream")),
                replace(noise("the first draw of a kind, s", "first", max, scale=1e-3), at_most=True),
            ),
        ),
    ]


PLACES = [
    Place(
        "README.md",
        "after less than # s of training on two Xeon cores",
        (replace(absolute(at("quickstart", "the quickstart's training, s", "seconds")), at_most=True),),
    ),
    # No figure, but the machine that all of them are of: `is_documented`.
    Place("README.md", "on two cores of a Xeon (AVX-512)", ()),
    Place("README.md", "Turns differ by up to # %.", (SPREAD,)),
    *simulators("README.md", ("pfl-2", "flower")),
    Place("docs/comparison.md", "on two cores of an Intel Xeon (AVX-512, jaxlib", ()),
    Place("docs/comparison.md", "Turns of one system differ by up to # %,", (SPREAD,)),
    *simulators("docs/comparison.md", ("pfl", "pfl-2", "flower")),
    *limits(),
    *models(),
    *secure_sums(),
    *privacy(),
]
