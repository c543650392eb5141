"""What does a secure sum cost? Each figure beside its target, then the same pieces in Flower's SecAgg+.

    python benchmarks/peers/environments.py flower      once, for the part `flower`
    python benchmarks/secagg.py [--quick] [--part kernel --part device ...] [--json FILE]

- `kernel`: adding one mask to 10^6 uint32, beside AES-256-CTR alone over the same bytes in the same run.
- `device`: one device of 1000, 10^5 coordinates modulo 2^32, semi-malicious at rates 0.1 and 0.1, nobody vanishing: the
  sum of all its steps, the median over several devices. Its peers' messages are real.
- `server`: 1000 devices, 10^5 coordinates, semi-honest. All that `receive` and `close` take, without the devices; the log is
  in memory. Devices that vanish do so after sharing their secrets, which costs the server most. The terms' dropout rate is
  0.1, 0.1 and 0.3.
- `upload`: every byte one device of 2^10 sends in a session of 2^20 coordinates of 16 bits each, against the 2 bytes a
  coordinate of the plain vector. The modulus is 2^26, the least in which 2^10 such numbers cannot overflow.
- `round`: a session of 1000 devices with 10 % vanishing, all parties in this one process, everything included.
- `memory`: what a server's resident set grows by from before its session to its peak, in a fresh process, with its log in an
  SQLite file and messages read from a file, where they were written first. Linux only.
- `flower`: pieces of a device's and a server's work in the same run on the same vector, degree and threshold, ours and those
  of flwr (the version `environments.py` pins, printed). Ours expands masks by AES-256-CTR and agrees by X25519;
  Flower's `pseudo_rand_gen` is NumPy's Mersenne Twister seeded with 32 bits and its keys are on P-384, so that times differ by
  what is computed as well as by how. Each side is measured as its device calls it: a key agreement with loading what that
  device keeps as bytes (for us the neighbour's key, for Flower both keys), a mask with adding it, the sharing of
  a self-mask's seed and of a masking key. A mask's key is derived, so each of ours is a new key. Joining shares is timed with
  another set of holders each time: where all sets are equal ours is faster still. Flower's signatures, quantisation and transport are
  not in it, nor ours.

Load on the machine makes these numbers worth nothing; it is printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from _machine import introduce, keep
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from environments import python
from timing import median_seconds

from fairyring.secagg import Device, FileLog, Identity, MemoryLog, Server, Session, Terms, shamir
from fairyring.secagg._suite import KeyPair, pair_mask
from fairyring.secagg.keystream import BLOCK_BYTES, apply_masks, random_bytes, word_of
from fairyring.secagg.messages import (
    HASH_BYTES,
    Advertise,
    Roster,
    Signatures,
    Survivors,
    decode_kept,
    encode,
    entry_bytes,
)

PEERS = Path(__file__).resolve().parent / "peers"
PARTS = ("kernel", "device", "server", "upload", "round", "memory", "flower")
MIB = 1 << 20
STEPS = ("advertise", "share", "open", "mask", "sign", "unmask")
CLOSE = b"c"
MESSAGE = b"m"


@dataclass
class Table:
    """The lines as they are printed, and kept for `--json`.

    Attributes:
        quick: sessions are smaller than the targets are for.
        rows: what was printed, by what was measured.
        pieces: of the comparison with Flower.
    """

    quick: bool
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    pieces: dict[str, dict[str, float]] = field(default_factory=dict)

    def row(self, what: str, measured: float, target: float | None, unit: str, note: str = "") -> None:
        """Print a figure, its target, and how they compare; every target is a most."""
        line = f"{what:56}{measured:9.3g} {unit:6}"
        target = None if self.quick else target
        if target is not None:
            line += f"{target:7.4g}{measured / target:7.2f}  {'met' if measured <= target else 'MISSED'}"
        print(f"{line}  {note}".rstrip(), flush=True)
        self.rows[what.strip()] = {"measured": measured, "unit": unit, "target": target, "note": note}


def terms_of(devices: int, length: int, threat: str, dropout: float = 0.1, bits: int = 32) -> Terms:
    """Terms of a benchmark's session."""
    return Terms(bytes(32), length, bits, 3, devices, threat, 0.1, dropout)  # pyright: ignore[reportArgumentType]


# -- a whole session -------------------------------------------------------------------------------------------


@dataclass
class Drive:
    """What a session took.

    Attributes:
        steps: seconds of each step, a number a device.
        phases: seconds of the server in each of its phases, with what ends it.
        wall: seconds from the first message to the sum.
    """

    steps: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})
    phases: dict[str, float] = field(default_factory=dict)
    wall: float = 0.0

    @property
    def server(self) -> float:
        """Seconds of the server in all."""
        return sum(self.phases.values())


def drive(terms: Terms, dropped: float = 0.0, record: BinaryIO | None = None) -> Drive:
    """Run a session of `terms.maximum_cohort` devices, of which the share `dropped` vanish after sharing, and check its sum.

    Args:
        terms: of the session.
        dropped: the share of devices that vanish.
        record: gets every message to the server, and the end of each phase, in order.
    """
    took = Drive()
    session = Session(terms, 1, bytes(32))
    server = Server(session, MemoryLog())
    identities = [Identity.generate() for _ in range(terms.maximum_cohort)]
    devices = {identity.public: Device(session, identity, MemoryLog()) for identity in identities}
    gone = {identity.public for identity in identities[: int(terms.maximum_cohort * dropped)]}
    rng = np.random.default_rng(0)
    word = word_of(terms.modulus_bits)
    expected = np.zeros(terms.length, word)
    clock = time.perf_counter

    def step(name: str, work: Callable[[], bytes | None]) -> bytes | None:
        began = clock()
        message = work()
        took.steps[name].append(clock() - began)
        return message

    def timed(work: Callable[[], Any]) -> Any:
        phase, began = str(server.phase), clock()
        done = work()
        took.phases[phase] = took.phases.get(phase, 0.0) + clock() - began
        return done

    def deliver(message: bytes) -> None:
        if record is not None:
            record.write(MESSAGE + len(message).to_bytes(8, "little") + message)
        timed(lambda: server.receive(message))

    def close() -> list[tuple[bytes, bytes]]:
        if record is not None:
            record.write(CLOSE)
        return timed(lambda: list(server.close()))

    began = clock()
    for device in devices.values():
        deliver(step("advertise", device.start))
    for to, data in close():
        deliver(step("share", lambda to=to, data=data: devices[to].receive(data)))
    for to, data in close():
        step("open", lambda to=to, data=data: devices[to].receive(data))
    assert close() == []  # nobody complains
    for to, device in devices.items():
        if to in gone:
            continue
        vector = rng.integers(0, 1 << terms.modulus_bits, terms.length, word)
        expected += vector
        deliver(step("mask", lambda device=device, vector=vector: device.contribute(vector)))
    for name in ("sign", "unmask"):
        for to, data in close():
            deliver(step(name, lambda to=to, data=data: devices[to].receive(data)))
    close()
    took.wall = clock() - began
    assert server.result is not None
    assert np.array_equal(server.result.sum, expected & session.mask)
    return took


# -- one device among many -------------------------------------------------------------------------------------


@dataclass
class Lone:
    """What one device did.

    Attributes:
        seconds: of each step.
        sent: bytes of each message it sent.
    """

    seconds: dict[str, float]
    sent: dict[str, int]


def lone_devices(terms: Terms, count: int) -> list[Lone]:
    """Take `count` devices of a session of `terms.maximum_cohort` through all their steps, with real messages.

    Only they and their neighbours do anything after advertising. The measured ones are beside each other on the ring,
    so that their neighbours are much the same. The set of survivors they are told is all who sent shares, and
    their neighbours' signatures of it are made here.
    """
    session = Session(terms, 1, bytes(32))
    server = Server(session, MemoryLog())
    identities = [Identity.generate() for _ in range(terms.maximum_cohort)]
    owners = {identity.public: identity for identity in identities}
    devices = {identity.public: Device(session, identity, MemoryLog()) for identity in identities}
    took: dict[bytes, Lone] = {}
    measured = {}
    for public, device in devices.items():
        began = time.perf_counter()
        advert = device.start()
        measured[public] = (time.perf_counter() - began, len(advert))
        server.receive(advert)
    rosters = dict(server.close())
    first = decode_kept(rosters[identities[0].public], Roster)
    degree = terms.graph(terms.maximum_cohort).degree
    after = -(-degree // 2)
    beside = [*first.neighbours[: count // 2], *first.neighbours[after:degree][::-1][: (count - 1) // 2]]
    chosen = [identities[0].public, *(advert.identity for advert in beside)]
    near = {public: decode_kept(rosters[public], Roster).neighbours for public in chosen}
    taking_part = {*chosen, *(advert.identity for adverts in near.values() for advert in adverts)}
    for public in taking_part:
        began = time.perf_counter()
        shares = devices[public].receive(rosters[public])
        seconds = time.perf_counter() - began
        assert shares is not None
        server.receive(shares)
        if public in near:
            took[public] = Lone(
                {"advertise": measured[public][0], "share": seconds},
                {"advertise": measured[public][1], "shares": len(shares)},
            )
    mailboxes = dict(server.close())
    rng = np.random.default_rng(0)
    inputs = {}
    for public in chosen:
        vector = rng.integers(0, 1 << terms.modulus_bits, terms.length, word_of(terms.modulus_bits))
        began = time.perf_counter()
        devices[public].receive(mailboxes[public])
        opened = time.perf_counter()
        inputs[public] = devices[public].contribute(vector)
        took[public].seconds |= {"open": opened - began, "mask": time.perf_counter() - opened}
        took[public].sent["masked input"] = len(inputs[public])
    root, survivors = survivors_of(session, rosters[chosen[0]], devices, taking_part)
    told = Survivors(root, survivors)
    payload = told.payload(session.context)
    for public, adverts in near.items():
        device, lone = devices[public], took[public]
        began = time.perf_counter()
        consistency = device.receive(encode(told))
        lone.seconds["sign"] = time.perf_counter() - began
        signatures = tuple(owners[advert.identity].sign(payload) for advert in adverts)
        given = encode(Signatures(root, survivors, signatures))
        began = time.perf_counter()
        unmask = device.receive(given)
        lone.seconds["unmask"] = time.perf_counter() - began
        assert consistency is not None
        assert unmask is not None
        lone.sent |= {"consistency": len(consistency), "unmask": len(unmask)}
    return list(took.values())


def survivors_of(
    session: Session, roster: bytes, devices: dict[bytes, Device], members: Iterable[bytes]
) -> tuple[bytes, bytes]:
    """The session's root and the bitmap of `members`, from a roster and the devices' adverts."""
    from fairyring.secagg._suite import bitmap, digest

    read = decode_kept(roster, Roster)
    size = entry_bytes(named=session.terms.sparse)
    entries = [read.entries[i : i + size] for i in range(0, len(read.entries), size)]
    at = {entry[:HASH_BYTES]: index for index, entry in enumerate(entries)}
    places = [at[decode_kept(devices[public].start(), Advertise).hash(session.context)] for public in members]
    return digest("roster", session.context, read.beacon, *entries), bitmap(places, len(entries))


# -- the parts -------------------------------------------------------------------------------------------------


def kernel(table: Table, quick: bool) -> None:
    """A mask on 10^6 words, and the cipher alone."""
    size, masks = 10**6, 4 if quick else 16
    vector = np.zeros(size, np.uint32)
    keys = [(os.urandom(32), 1 - 2 * (i % 2)) for i in range(masks)]
    zeros, buffer = memoryview(bytes(BLOCK_BYTES)), bytearray(BLOCK_BYTES + 15)

    def cipher_alone() -> None:
        streams = [Cipher(AES256(key), CTR(bytes(16))).encryptor() for key, _ in keys]
        for start in range(0, vector.nbytes, BLOCK_BYTES):
            block = zeros[: min(BLOCK_BYTES, vector.nbytes - start)]
            for stream in streams:
                stream.update_into(block, buffer)

    repeats = 5 if quick else 25
    alone = 1e3 * median_seconds(cipher_alone, repeats) / masks
    ours = 1e3 * median_seconds(lambda: apply_masks(vector, keys), repeats) / masks
    table.row("kernel: a mask on 10^6 uint32", ours, 0.8, "ms", f"{ours / alone:.2f} times the cipher alone")
    table.row("  limit: AES-256-CTR alone", alone, None, "ms")


def device(table: Table, quick: bool) -> None:
    """One device's steps."""
    terms = terms_of(100 if quick else 1000, 10**5, "semi_malicious")
    lone = lone_devices(terms, 3 if quick else 9)
    totals = [1e3 * sum(one.seconds.values()) for one in lone]
    degree, threshold = terms.graph(terms.maximum_cohort)
    note = f"{min(totals):.1f} to {max(totals):.1f} over {len(lone)} devices; degree {degree}, threshold {threshold}"
    table.row(f"device: one of {terms.maximum_cohort}, 10^5", statistics.median(totals), 60, "ms", note)
    beside = (sum(one.sent.values()) - one.sent["masked input"] for one in lone)
    table.row("  sent beside its masked input", statistics.median(beside) / 1e3, None, "kB")
    for name in STEPS:
        table.row(f"  {name}", 1e3 * statistics.median(one.seconds[name] for one in lone), None, "ms")


class Sessions:
    """Whole sessions, each run once whoever asks for it."""

    def __init__(self, quick: bool) -> None:
        self.devices = 100 if quick else 1000
        self._kept: dict[tuple[str, float, float], Drive] = {}

    def of(self, threat: str, dropout_rate: float, dropped: float) -> Drive:
        """The session of these terms, in which the share `dropped` vanish."""
        key = threat, dropout_rate, dropped
        if key not in self._kept:
            self._kept[key] = drive(terms_of(self.devices, 10**5, threat, dropout_rate), dropped)
        return self._kept[key]


def server(table: Table, sessions: Sessions) -> None:
    """A server's work at three rates of dropout."""
    for dropped, rate, target in ((0.0, 0.1, 1.5), (0.1, 0.1, 2.5), (0.3, 0.3, 4.0)):
        took = sessions.of("semi_honest", rate, dropped)
        degree, threshold = terms_of(sessions.devices, 1, "semi_honest", rate).graph(sessions.devices)
        phases = ", ".join(f"{phase} {seconds:.2f}" for phase, seconds in took.phases.items())
        note = f"{phases}; degree {degree}, threshold {threshold}"
        table.row(
            f"server: {sessions.devices} devices, {dropped:.0%} vanish, 10^5", took.server, target, "s", note
        )


def whole_round(table: Table, sessions: Sessions) -> None:
    """A round with all parties in one process."""
    for threat in ("semi_honest", "semi_malicious"):
        took = sessions.of(threat, 0.1, 0.1)
        table.row(
            f"round: {sessions.devices} devices, 10% vanish, 10^5, {threat}",
            took.wall, 60, "s", f"of it the server {took.server:.2f}",
        )  # fmt: skip


def upload(table: Table, quick: bool) -> None:
    """What a device sends, in all."""
    devices, length = 1 << (7 if quick else 10), 1 << (16 if quick else 20)
    bits = (devices * (2**16 - 1)).bit_length()
    terms = terms_of(devices, length, "semi_malicious", bits=bits)
    (one,) = lone_devices(terms, 1)
    note = f"modulus 2^{bits}; " + ", ".join(f"{name} {size:,} B" for name, size in one.sent.items())
    what = f"upload: {devices:,} devices x {length:,} x 16 bit, against plain"
    table.row(what, sum(one.sent.values()) / (2 * length), 1.65, "times", note)


def memory(table: Table, quick: bool) -> None:
    """How far a server's memory grows, in fresh processes."""
    if not Path("/proc/self/clear_refs").exists():
        print("memory: only where /proc tells a process's peak")
        return
    # More and more devices, whose number must not show; and few long vectors, which must not pile up.
    sizes = (
        [(100, 10**4), (200, 10**4)] if quick else [(250, 10**5), (1000, 10**5), (4000, 10**3), (16, 1 << 24)]
    )
    for devices, length in sizes:
        terms = terms_of(devices, length, "semi_honest")
        with tempfile.TemporaryDirectory() as folder:
            feed = Path(folder, "messages")
            with feed.open("wb") as record:
                drive(terms, 0.1, record)
            command = [sys.executable, __file__, "--feed", str(feed), "--feed-devices", str(devices)]
            command += ["--feed-length", str(length)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        told = json.loads(done.stdout)
        limit = 3 * terms.vector_bytes / MIB + 64
        note = f"all inputs {told['inputs'] / MIB:.0f} MiB; target 3 x {terms.vector_bytes / MIB:.1f} + 64; {told['seconds']:.1f} s"
        table.row(
            f"memory: server of {devices} devices x {length:,}", told["grown"] / MIB, limit, "MiB", note
        )


def replay(feed: Path, devices: int, length: int) -> None:
    """A server fed from a file, in this process; prints what it took."""
    session = Session(terms_of(devices, length, "semi_honest"), 1, bytes(32))
    inputs = 0
    with tempfile.TemporaryDirectory() as folder, feed.open("rb") as messages:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before, began = resident("VmRSS"), time.perf_counter()
        log = FileLog(Path(folder, "log"), durable=False)
        server = Server(session, log)
        while kind := messages.read(1):
            if kind == CLOSE:
                for _ in server.close():
                    pass
                continue
            size = int.from_bytes(messages.read(8), "little")
            inputs += size
            server.receive(messages.read(size))
        seconds, peak = time.perf_counter() - began, resident("VmHWM")
        log.close()
    assert server.result is not None
    print(json.dumps({"grown": peak - before, "inputs": inputs, "seconds": seconds}))


def resident(name: str) -> int:
    """A size of this process, in bytes. `VmHWM`: unlike `ru_maxrss`, the peak is not inherited from the parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def flower(table: Table, quick: bool) -> None:
    """Pieces of the work, in Flower's code and in ours."""
    if not python("flower").exists():
        print(f"Flower is left out: run python {PEERS / 'environments.py'} flower")
        return
    devices, length = (100, 10**4) if quick else (1000, 10**5)
    degree, threshold = terms_of(devices, length, "semi_malicious").graph(devices)
    table.pieces["shares"] = {"neighbours": degree, "threshold": threshold}
    repeats = 1 if quick else 3
    command = [str(python("flower")), str(PEERS / "run_flower_secagg.py"), "--length", str(length)]
    command += ["--shares", str(degree), "--threshold", str(threshold), "--repeats", str(repeats)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    ours = our_pieces(devices, length, degree, threshold)
    print(
        f"\nflwr {theirs.pop('version')}: {devices} devices, {length:,} numbers modulo 2^32, {degree} shares, threshold {threshold}"
    )
    print(f"{'':56}{'fairyring':>12}{'Flower':>12}{'ratio':>9}")
    for what, value in ours.items():
        print(f"  {what:54}{value:12.4g}{theirs[what]:12.4g}{theirs[what] / value:8.1f}x", flush=True)
        table.pieces[what] = {"fairyring": value, "flower": theirs[what]}


def our_pieces(devices: int, length: int, degree: int, threshold: int) -> dict[str, float]:
    """Our side of the comparison; the names are those `run_flower_secagg.py` prints."""
    vector, masks = np.zeros(length, np.uint32), [(os.urandom(32), 1) for _ in range(degree)]
    mask = median_seconds(lambda: apply_masks(vector, masks), 9) / degree
    own, other = KeyPair(os.urandom(32)), KeyPair(os.urandom(32)).public
    root = context = bytes(32)
    agree = median_seconds(lambda: pair_mask(own.agree(other), root, context, 0, 1), 99)
    places = range(1, degree + 1)

    def share() -> list[bytes]:
        for _ in range(2):
            randomness = random_bytes(os.urandom(32), coefficients)
            shares = shamir.share(os.urandom(32), places, threshold, randomness)
        return shares

    coefficients = (threshold - 1) * shamir.COEFFICIENT_BYTES
    shares = dict(zip(places, share(), strict=True))
    rng = np.random.default_rng(0)

    def join() -> None:
        # A basis is kept for each set of holders: this set is new.
        chosen = sorted(rng.choice(degree, threshold, replace=False).tolist())
        assert shamir.reconstruct({place + 1: shares[place + 1] for place in chosen})

    joined = 1e3 * median_seconds(join, 9)
    message = lone_devices(terms_of(devices, length, "semi_malicious"), 1)[0].sent["masked input"]
    return {
        "mask a neighbour: expand and add, ms": 1e3 * mask,
        "agree on a mask's key with a neighbour, ms": 1e3 * agree,
        "share a device's two secrets, ms": 1e3 * median_seconds(share, 9),
        "join the shares of a self-mask's seed, ms": joined,
        "join the shares of a masking key, ms": joined,
        "masked vector on the wire, bytes a number": message / length,
    }


def main() -> None:
    """Measure the parts asked for, and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="smaller sessions, without targets")
    arguments.add_argument("--part", action="append", choices=PARTS)
    arguments.add_argument("--json", type=Path, help="write every line here")
    arguments.add_argument("--feed", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--feed-devices", type=int, help=argparse.SUPPRESS)
    arguments.add_argument("--feed-length", type=int, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.feed:
        replay(options.feed, options.feed_devices, options.feed_length)
        return
    here = introduce()
    if options.quick:
        print("Quick: smaller sessions than the targets are for, which are left out.")
    print(f"\n{'':56}{'measured':>9} {'':6}{'at most':>7}{'ratio':>7}")
    table, sessions = Table(options.quick), Sessions(options.quick)
    for part in options.part or PARTS:
        match part:
            case "kernel":
                kernel(table, options.quick)
            case "device":
                device(table, options.quick)
            case "server":
                server(table, sessions)
            case "upload":
                upload(table, options.quick)
            case "round":
                whole_round(table, sessions)
            case "memory":
                memory(table, options.quick)
            case "flower":
                flower(table, options.quick)
        keep(options.json, here, quick=options.quick, rows=table.rows, pieces=table.pieces)


if __name__ == "__main__":
    main()
