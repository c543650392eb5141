"""Devices that load a service: the real protocol, over sockets, and no training. A program of its own, beside the service.

    python benchmarks/_service_devices.py URL KEYS rounds|check-ins [...]

Every request is signed, every secure sum is by `fairyring.secagg.Device`, and manifest, program and model are fetched as a device
fetches them. What a device of ours has beside that is left out: its files, its training, and its process. The vector is the same
for all. KEYS is a file with 32 bytes of private key for each device. The last line that is printed is JSON.
"""

import argparse
import asyncio
import hashlib
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from fairyring._version import __version__
from fairyring.messages import (
    About,
    CheckIn,
    Invitation,
    Later,
    Manifest,
    Problem,
    Turn,
    decode,
    encode,
    model_arrays,
    model_digest,
    read_manifest,
    signed_request,
)
from fairyring.messages.forms import MEDIA, VERSION
from fairyring.secagg import Device, Identity, MemoryLog, Session
from fairyring.secagg.keystream import word_of

PIECE = 4 << 20  # bytes of a blob in one request, as a device asks
LARGEST = 256 << 20


class Refused(Exception):
    """The service said no."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(f"{problem.kind}: {problem.given}")


class Line(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._read = bytearray()
        self._answer: asyncio.Future[tuple[int, dict[str, str], bytes]] | None = None
        self._head: tuple[int, dict[str, str], int] | None = None
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        if self._head is None:
            end = self._read.find(b"\r\n\r\n")
            if end < 0:
                return
            first, *lines = self._read[:end].decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            del self._read[: end + 4]
            self._head = int(first.split()[1]), headers, int(headers.get("content-length", 0))
        status, headers, length = self._head
        if len(self._read) < length or self._answer is None:
            return
        body, self._read, self._head = bytes(self._read[:length]), bytearray(), None
        answer, self._answer = self._answer, None
        answer.set_result((status, headers, body))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("closed by the service"))

    @property
    def is_open(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()

    async def ask(self, head: bytes, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send a request; its status, headers and body."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.writelines([head, body])
        return await self._answer


class Load:
    """What all devices share, and what they measure together."""

    def __init__(self, url: str, rounds: int) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self.service = b""
        self.rounds = rounds
        self.requests = self.up = self.down = 0
        self.secagg = 0.0  # CPU seconds of all devices' steps
        self.refused: dict[str, int] = {}
        self.outcomes: dict[str, int] = {}
        self.phases: dict[int, dict[str, float]] = {}  # round -> phase -> when a device first heard of it
        self.manifests: dict[bytes, Manifest] = {}
        self.contexts: dict[bytes, bytes] = {}
        self.vectors: dict[tuple[int, int], np.ndarray] = {}

    def heard(self, round: int, phase: str) -> None:
        """Note when a phase was first heard of."""
        self.phases.setdefault(round, {}).setdefault(phase, time.time())


class LoadDevice:
    """One device."""

    def __init__(self, load: Load, key: bytes) -> None:
        self.load, self.identity = load, Identity(key)
        self._line: Line | None = None
        self._kept: set[bytes] = set()

    async def request(
        self, method: str, target: str, body: bytes = b"", more: str = "", *, sign: bool = True
    ) -> tuple[dict[str, str], bytes]:
        """An answer's headers and body."""
        load = self.load
        if self._line is None or not self._line.is_open:
            loop = asyncio.get_running_loop()
            _, self._line = await loop.create_connection(Line, load.host, load.port)
        signed = ""
        if sign:
            headers = signed_request(self.identity, load.service, method, target, body, time.time()).headers()
            signed = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = (
            f"{method} {target} HTTP/1.1\r\nhost: {load.host}:{load.port}\r\ncontent-type: {MEDIA}\r\n"
            f"content-length: {len(body)}\r\n{signed}{more}\r\n"
        ).encode()
        status, answered, data = await self._line.ask(head, body)
        load.requests += 1
        load.up += len(head) + len(body)
        load.down += len(data)
        if status >= 400:
            raise Refused(decode(data, Problem))
        return answered, data

    async def check_in(self, *, eligible: bool = True) -> Later | Invitation:
        """Say that this device is there."""
        form = CheckIn(__version__, (VERSION,), ("jax",), (), eligible)
        _, data = await self.request("POST", "/v1/check-in", encode(form))
        return decode(data, Later | Invitation)

    async def blob(self, digest: bytes, *, once: bool) -> bytes:
        """A blob; with `once` not again if it was fetched before."""
        if once and digest in self._kept:
            return b""
        data, total = b"", 1
        while len(data) < total:
            asked = f"range: bytes={len(data)}-{len(data) + PIECE - 1}\r\n"
            headers, part = await self.request("GET", f"/v1/blobs/{digest.hex()}", more=asked)
            data += part
            total = int(headers.get("content-range", f"/{len(data)}").rpartition("/")[2])
        if hashlib.sha256(data).digest() != digest:
            raise SystemExit("a blob with another digest")
        self._kept.add(digest)
        return data

    async def take_part(self, given: Invitation) -> str:
        """One round; how its session ended."""
        load = self.load
        load.heard(given.round, "invited")
        data = await self.blob(given.manifest, once=True)
        if given.manifest not in load.manifests:
            load.manifests[given.manifest] = read_manifest(data)
        manifest = load.manifests[given.manifest]
        await self.blob(manifest.programs["jax"], once=True)
        model = await self.blob(given.model, once=False)
        if given.model not in load.contexts:
            load.contexts[given.model] = model_digest(model_arrays(model, manifest.model))
        terms = manifest.terms
        if terms is None:
            raise SystemExit("a plan without a secure sum")
        session = Session(terms, given.round, load.contexts[given.model], given.previous)
        form = terms.length, terms.modulus_bits
        if form not in load.vectors:
            load.vectors[form] = np.ones(terms.length, word_of(terms.modulus_bits))
        vector = load.vectors[form]
        device = Device(session, self.identity, MemoryLog())
        message, seen = self._step(device.start), "advertising"
        path = f"/v1/sessions/{given.session.hex()}?seen="
        while True:
            _, answer = await self.request("POST", path + seen, message or b"")
            turn = decode(answer, Turn, LARGEST)
            message, seen = b"", turn.phase or seen
            if turn.over:
                load.heard(given.round, turn.over)
                return turn.over
            load.heard(given.round, turn.phase)
            for received in turn.messages:
                message = self._step(lambda received=received: device.receive(received)) or message
            if turn.phase == "masking" and device.phase == "ready":
                message = self._step(lambda: device.contribute(vector))
            if turn.wait:
                await asyncio.sleep(turn.wait)

    def _step(self, work: Callable[[], bytes | None]) -> bytes | None:
        began = time.thread_time()
        found = work()
        self.load.secagg += time.thread_time() - began
        return found

    async def run(self) -> None:
        """Take part in so many rounds."""
        load, done = self.load, 0
        await asyncio.sleep(random.random())
        while done < load.rounds:
            try:
                answer = await self.check_in()
                if isinstance(answer, Later):
                    await asyncio.sleep(answer.seconds)
                    continue
                outcome = await self.take_part(answer)
                load.outcomes[outcome] = load.outcomes.get(outcome, 0) + 1
                done += 1
            except Refused as error:
                kind = error.problem.kind
                load.refused[kind] = load.refused.get(kind, 0) + 1
                if error.problem.retry is None:
                    raise
                await asyncio.sleep(error.problem.retry)
        self.close()

    def close(self) -> None:
        """Close its connection."""
        if self._line is not None:
            self._line.close()


async def rounds(load: Load, devices: list[LoadDevice]) -> dict[str, Any]:
    """All devices take part in all rounds."""
    print("ready", flush=True)
    await asyncio.gather(*(device.run() for device in devices))
    return {"phases": load.phases, "outcomes": load.outcomes, "secagg": load.secagg}


async def check_ins(devices: list[LoadDevice], rate: float, seconds: float) -> dict[str, Any]:
    """Devices check in at random times, `rate` a second of all together; none waits for another."""
    print("ready", flush=True)
    took: list[float] = []
    failed: list[str] = []
    late = 0.0
    loop = asyncio.get_running_loop()
    began = loop.time() + 0.5
    draw = random.Random(0)
    times = sorted(draw.uniform(0, seconds) for _ in range(int(rate * seconds)))
    tasks = []

    async def one(device: LoadDevice, due: float) -> None:
        try:
            await device.check_in(eligible=False)
        except (Refused, OSError) as error:
            failed.append(str(error)[:80])
        else:
            took.append(loop.time() - due)

    for number, time_of in enumerate(times):
        due = began + time_of
        if (left := due - loop.time()) > 0:
            await asyncio.sleep(left)
        late = max(late, loop.time() - due)
        tasks.append(asyncio.create_task(one(devices[number % len(devices)], due)))
    await asyncio.gather(*tasks)
    spent = loop.time() - began
    took.sort()
    return {
        "count": len(took), "failed": failed, "seconds": spent, "late": late,
        "p50": statistics.median(took), "p99": took[int(0.99 * (len(took) - 1))], "most": took[-1],
    }  # fmt: skip


async def main() -> None:
    """Do what is asked, and print what it took."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("url")
    arguments.add_argument("keys", type=Path)
    arguments.add_argument("what", choices=("rounds", "check-ins"))
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--rate", type=float, default=300.0)
    arguments.add_argument("--seconds", type=float, default=20.0)
    given = arguments.parse_args()
    load = Load(given.url, given.rounds)
    keys = given.keys.read_bytes()
    devices = [LoadDevice(load, keys[at : at + 32]) for at in range(0, len(keys), 32)]
    _, data = await devices[0].request("GET", "/v1/about", sign=False)
    load.service = decode(data, About).service
    if given.what == "rounds":
        found = await rounds(load, devices)
    else:
        found = await check_ins(devices, given.rate, given.seconds)
    for device in devices:
        device.close()
    told = {"requests": load.requests, "up": load.up, "down": load.down, "refused": load.refused}
    print(json.dumps(found | told | {"cpu": time.process_time()}), flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
