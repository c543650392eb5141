"""The speed figures of the README and the docs: where each stands, which benchmark measures it, and how closely it must hold."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from _documented import Figure, Measured, Place, Unmeasured, hundredths, tenths, three, times, whole

# By how much a measured figure may differ from what a document says. Ratios come from one run on one machine, so they carry
# over; what is absolute does not, and is judged only on the machine the documents name. Bytes and targets do not vary.
RATIO, ABSOLUTE, EXACT = 0.15, 0.25, 0.02


def is_documented(machine: dict[str, Any]) -> bool:
    """Whether a machine is of the kind that the documents name: two cores of an Intel Xeon with AVX-512."""
    return "Xeon" in machine["cpu"] and machine["cores"] == 2 and machine["avx512"]


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


def torch_module() -> Place:
    """What a PyTorch module of the peers trains at, beside the zoo's model and beside a peer."""
    kind, module = "examples_per_second", ("c2", "torch")
    figures = (
        turns("simulators", "C2 as a PyTorch module, examples/s", module, kind),
        replace(
            turns(
                "simulators", "C2 as a PyTorch module, of the zoo's rate", module, kind, ("c2", "fairyring")
            ),
            written=hundredths,
        ),
        turns("simulators", "C2 as a PyTorch module, pfl-research, ratio", module, kind, ("c2", "pfl")),
    )
    text = "trains here at # examples a second, # times the rate of the zoo's C2 and #x that of pfl-research with two threads."
    return Place("docs/comparison.md", text, figures)


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

MODELS = {  # and the ways to write each, in the order of the table's columns
    "CNN C2, without dropout": ("cnn", ("Equinox", "Flax NNX", "PyTorch", "zoo")),
    "CNN C2, with dropout": ("c2", (None, None, "PyTorch", "zoo")),
    "strided and dilated convolutions, GroupNorm, overlapping pools": (
        "pools",
        ("Equinox", "Flax NNX", "PyTorch", "functions"),
    ),
    "depthwise separable convolutions, GroupNorm": ("separable", ("Equinox", "Flax NNX", "PyTorch", "zoo")),
    "dense layers, LayerNorm": ("perceptron", ("Equinox", "Flax NNX", "PyTorch", "functions")),
    "LSTM": ("lstm", ("Equinox", "Flax NNX", "PyTorch", "zoo")),
}


def models() -> list[Place]:
    """CPU time of a step beside the best way to write the model."""
    places = []
    for label, (model, ways) in MODELS.items():
        figures = [
            replace(at("models", f"{label}, {way}, ratio", "models", model, way, "ratio"), written=hundredths)
            for way in ways
            if way is not None
        ]
        row = "".join(" # |" if way is not None else " |" for way in ways)
        places.append(Place("docs/comparison.md", f"| {label} |{row}", tuple(figures)))
    return places


# -- small models, and many runs -------------------------------------------------------------------------------


def small_rounds() -> list[Place]:
    """Milliseconds of a round that hardly computes, and how many times as long it takes without rounds ahead."""
    places = []
    for cohort in ("5", "20"):
        ahead = at("small_rounds", f"{cohort} clients, many rounds, ms", cohort, "milliseconds", "ahead")
        ratios = [
            replace(
                at("small_rounds", f"{cohort} clients, {way}, ratio", cohort, "ratios", way), written=times
            )
            for way in ("alone", "all")
        ]
        figures = (absolute(ahead), *map(by_the_wall, ratios))
        places.append(Place("docs/comparison.md", f"| {cohort} clients | # ms | #x | #x |", figures))
    return places


def waits() -> list[Place]:
    """How long one waits for a first answer, and for a sweep beside it."""

    def wait(label: str, kind: str) -> Place:
        figures = (
            replace(absolute(at("sweeps", f"{label}, s", "seconds", kind)), written=tenths),
            replace(by_the_wall(at("sweeps", f"{label}, ratio", "ratios", kind)), written=tenths),
        )
        return Place("docs/comparison.md", f"| {label} | # s | #x |", figures)

    c2, again = (
        absolute(at("sweeps", f"first round of C2, {kind}, s", "seconds", kind))
        for kind in ("c2", "c2 again")
    )
    return [
        wait("the quickstart, 20 rounds", "first"),
        wait("the same in a second process", "again"),
        wait("five rates x three seeds of it", "sweep"),
        Place(
            "docs/comparison.md",
            "The first round of C2 is there # s after the call, and after # s in a second process.",
            (c2, again),
        ),
    ]


# -- a Ray cluster ---------------------------------------------------------------------------------------------

CLUSTER = {
    "the CNN C2, 50 clients": "C2, 50 clients",
    "logistic regression, 1,000 clients": "logistic regression, 10^3 clients",
    "logistic regression, 10,000 clients": "logistic regression, 10^4 clients",
}
RAY = "docs/cluster.md"


def clusters() -> list[Place]:
    """Milliseconds of a round in this process and on a Ray cluster of one node, and what Ray adds to a short one."""
    places = [Place(RAY, "On two cores of an Intel Xeon (AVX-512), Ray", ())]
    for label, work in CLUSTER.items():

        def ratio(results: dict[str, Any], work: str = work) -> Measured:
            took = results["works"][work]
            each = [turn["ray"] / turn["here"] for turn in took["turns"]]
            return Measured(took["ratio"], min(each), max(each))

        times_by_the_clock = [
            replace(
                absolute(at("scale", f"{label}, {way}, ms", "works", work, "milliseconds", way)),
                written=whole,
            )
            for way in ("here", "ray")
        ]
        longer = by_the_wall(Figure(f"{label}, on Ray, ratio", "scale", ratio, RATIO, written=hundredths))
        places.append(Place(RAY, f"| {label} | # ms | # ms | #x |", (*times_by_the_clock, longer)))

    def of_ray(results: dict[str, Any]) -> Measured:
        works = [results["works"][work]["milliseconds"] for work in CLUSTER.values() if "logistic" in work]
        return only(statistics.mean(took["ray"] - took["here"] for took in works))

    adds = absolute(Figure("what Ray adds to a short round, ms", "scale", of_ray, ABSOLUTE, written=whole))
    return [*places, Place(RAY, "About # ms of a round are Ray's", (adds,))]


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
    neighbours, threshold = (
        at("secagg", f"{what} of the comparison with Flower", "pieces", "shares", what, tolerance=0.0)
        for what in ("neighbours", "threshold")
    )
    return [
        Place(comparison, "with 1000 devices, # neighbours, a threshold of # and", (neighbours, threshold)),
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
    torch_module(),
    *limits(),
    *models(),
    *small_rounds(),
    *waits(),
    *clusters(),
    *secure_sums(),
    *privacy(),
]
