"""A service with real devices over real sockets, and no JAX: what a device computes is a sum of small numbers that the test knows."""

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairyring.aggregation.contract import MessageSpec
from fairyring.device import agent as agents
from fairyring.device.agent import Agent
from fairyring.device.eligibility import Always
from fairyring.device.folder import DeviceFolder
from fairyring.device.ledger import DeviceLedger
from fairyring.device.randomness import Own
from fairyring.device.training import Trained
from fairyring.device.transport import Transport
from fairyring.messages import Array, Limits, Manifest, model_bytes, model_digest, sign
from fairyring.secagg import Identity, Terms
from fairyring.service.facts import SessionFacts
from fairyring.service.options import RunOptions
from fairyring.service.pace import Pace
from fairyring.service.serving import Service
from fairyring.service.storage import StoredSession

SIZE, TARGET = 6, "numbers"
QUICK = Pace(soonest=0.05, latest=0.2, idle=1.0)


class Numbers:
    """Trains: the vector is made of the round and the device's number, and of the model's first number."""

    reads_examples = True
    targets = (TARGET,)

    def __init__(self, number: int) -> None:
        self.number, self.rounds = number, []

    def train(self, manifest: Manifest, target: str, program: Path, values: Any) -> Trained:
        self.rounds.append(int(values["round"]))
        if manifest.terms is None:
            vector = contribution(self.number, int(values["round"])).astype(np.float32)
            return Trained(vector, np.ones(1, np.float32), None, True, 0.0, 0)
        return Trained(
            contribution(self.number, int(values["round"])), np.zeros(0, np.float32), None, True, 0.0, 0
        )


class Rows:
    """Examples that nobody looks at."""

    def load(self, columns: Any, most: int) -> dict[str, np.ndarray]:
        return {column.name: np.zeros((1, *column.shape), column.dtype) for column in columns}


def contribution(number: int, round: int) -> np.ndarray:
    return np.arange(SIZE, dtype=np.uint32) * (number + 1) + round


def manifest_of(author: Identity, *, masked: bool, minimum: int, maximum: int, **changes: Any) -> Manifest:
    """A plan that nobody trained: what a device reads of one."""
    spec = MessageSpec(
        SIZE, maximum, **({"integer": True, "modulus_bits": 32} if masked else {"integer": False})
    )
    given: dict[str, Any] = {
        "name": "numbers",
        "description": "adds numbers",
        "statements": (),
        "plan": b"p" * 32,
        "document": b"{}",
        "author": author.public,
        "columns": (Array("x", (2,), "<f4"),),
        "examples": 4,
        "arguments": (Array("params", (SIZE,), "<f4"),),
        "results": (),
        "model": (Array("w", (SIZE,), "<f4"),),
        "programs": {},
        "message": spec,
        "terms": Terms(b"p" * 32, SIZE, 32, minimum, maximum) if masked else None,
        "step_noise": None,
        "rate": None,
        "limits": Limits(1000, 1000),
        "promise": None,
    }
    return Manifest(**(given | changes))


class Scene:
    """A service, a run in its database, and devices; the test opens the sessions.

    Args:
        folder: for all of it.
        devices: how many.
        masked: whether sums are secure.
        minimum: devices of a sum.
        agent: makes the agent of a device; `Agent` by default.
        service: arguments of `Service`.
    """

    def __init__(
        self,
        folder: Path,
        devices: int = 4,
        *,
        masked: bool = True,
        minimum: int = 3,
        agent: Callable[..., Agent] = Agent,
        changes: dict[str, Any] | None = None,
        conduct: Any = None,
        **service: Any,
    ) -> None:
        self.folder, self.count, self.masked, self.minimum = folder, devices, masked, minimum
        self.author, self._agent, self._changes, self._conduct = (
            Identity.generate(),
            agent,
            changes or {},
            conduct,
        )
        self._arguments = {"pace": QUICK} | service
        self.stack = ExitStack()
        self.agents: list[Agent] = []
        self.threads: list[threading.Thread] = []

    def __enter__(self) -> "Scene":
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(agents, "PAUSE", (0.05, 0.2))  # tests have no time for a device that leaves a session
        self.service = self.stack.enter_context(self.serving())
        self.model = np.zeros(SIZE, np.float32)
        self.submit()
        self.folders = [
            self.stack.enter_context(DeviceFolder(self.folder / f"device{number}"))
            for number in range(self.count)
        ]
        self.keys = [folder.identity.public for folder in self.folders]
        self.storage.devices.allow(self.keys)
        for number in range(self.count):
            self.begin(number)
        return self

    def serving(self, **changes: Any) -> Service:
        return Service(self.folder / "service", self._conduct, **(self._arguments | changes))

    def submit(self, **changes: Any) -> str:
        """Publish the plan, and submit a run of it."""
        blobs = self.service.blobs
        program = blobs.put(b"a program")
        self.manifest = manifest_of(
            self.author, masked=self.masked, minimum=self.minimum, maximum=max(self.count, 3),
            **({"programs": {TARGET: program}} | self._changes | changes),
        )  # fmt: skip
        self.digest = blobs.put(sign(self.manifest, self.author).encode())
        self.run = self.storage.runs.submit(
            "numbers", self.digest, self.author.public, RunOptions(rounds=1000).plain(), by="test"
        )
        return self.run

    @property
    def storage(self) -> Any:
        return self.service.storage

    def begin(self, number: int, agent: Callable[..., Agent] | None = None, url: str | None = None) -> Agent:
        """Let a device run, in a thread."""
        folder = self.folders[number]
        ledger = DeviceLedger(folder.ledger)
        transport = Transport(url or self.service.url, folder.identity)
        made = (agent or self._agent)(
            folder, transport, Rows(), ledger, Numbers(number), Own(folder.secret),
            authors=[self.author.public], conditions=Always(), targets=[TARGET],
        )  # fmt: skip

        def run() -> None:
            with suppress(SystemExit):  # a test lets it end there
                made.run()

        thread = threading.Thread(target=run, daemon=True, name=f"device {number}")
        made.parts = transport, ledger, thread
        thread.start()
        self.agents.append(made)
        self.threads.append(thread)
        return made

    def end(self, agent: Agent) -> None:
        """Let a device end."""
        agent.stopping.set()
        transport, ledger, thread = agent.parts
        thread.join(30)
        assert not thread.is_alive(), agent.status
        transport.close()
        ledger.close()
        self.agents.remove(agent)

    def open(
        self, round: int, invited: Sequence[int] | None = None, *, seconds: float = 20.0, stage: float = 10.0,
        **changes: Any,
    ) -> bytes:  # fmt: skip
        """Open a session of a round; returns its identity."""
        data = model_bytes([self.model])
        places = range(self.count) if invited is None else invited
        facts: dict[str, Any] = {
            "round": round,
            "manifest": self.digest.hex(),
            "model": self.service.blobs.put(data).hex(),
            "earlier": {},
            "context": model_digest([self.model]).hex(),
            "previous": None,
            "shared_key": (1, 2),
            "reservation": 0,
            "invited": {self.keys[place].hex(): place for place in places},
            "minimum": self.minimum,
            "maximum": max(self.count, 3),
            "seconds": seconds,
            "stage_seconds": stage,
        }
        session = secrets.token_bytes(16)
        self.storage.sessions.open(self.run, round, session, SessionFacts(**(facts | changes)).plain())
        return session

    def ended(self, session: bytes, seconds: float = 40.0) -> StoredSession:
        """Wait for the end of a session."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            stored = self.storage.sessions.get(session)
            if stored.outcome is not None:
                return stored
            time.sleep(0.02)
        raise AssertionError(f"{stored}: {[agent.status for agent in self.agents]}")

    def sum_of(self, session: bytes) -> np.ndarray:
        """The sum of a session: whole numbers."""
        import msgspec

        from fairyring.service.facts import SumOfReports

        total = msgspec.msgpack.decode(self.storage.sessions.result(session), type=SumOfReports)
        kind = "<u4" if self.masked else "<f4"
        return np.frombuffer(total.vector, kind).astype(np.int64)

    def round(self, number: int, **given: Any) -> StoredSession:
        """A session from its beginning to its end; its sum is that of the devices in it."""
        session = self.open(number, **given)
        stored = self.ended(session)
        self.check(session, number)
        return stored

    def check(self, session: bytes, round: int) -> None:
        """A session that was summed is the sum of its reports, and no other."""
        stored, reports = self.storage.sessions.get(session), self.storage.sessions.reports(session)
        assert all(report.outcome in ("summed", "aborted") for report in reports)
        if stored.outcome == "summed":
            places = [self.keys.index(one.device) for one in reports if one.outcome == "summed"]
            assert len(places) == stored.count >= self.minimum
            expected = sum(contribution(place, round).astype(np.int64) for place in places)
            np.testing.assert_array_equal(self.sum_of(session), expected)

    def __exit__(self, *_: object) -> None:
        for agent in list(self.agents):
            agent.stopping.set()
        for agent in list(self.agents):
            self.end(agent)
        self.stack.close()
