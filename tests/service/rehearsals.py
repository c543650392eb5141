"""A service and its devices in one process, over real sockets: the devices draw what a simulation draws."""

import secrets
import threading
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import msgspec
import numpy as np

from fairyring.device.agent import Agent
from fairyring.device.eligibility import Always
from fairyring.device.folder import DeviceFolder
from fairyring.device.ledger import DeviceLedger
from fairyring.device.randomness import Rehearsed
from fairyring.device.runtimes import loaded
from fairyring.device.training import Ran, _complete, trained
from fairyring.device.transport import Transport
from fairyring.learning import Plan
from fairyring.population import Population
from fairyring.publishing import Package, package
from fairyring.secagg import Identity
from fairyring.service.options import RunOptions, Submission
from fairyring.service.runner import Runner
from fairyring.service.serving import Service


class InProcess:
    """Trains in this process, with one loaded program for all devices: what is tested is not the child process."""

    reads_examples = True
    targets = ("jax",)
    programs: ClassVar[dict[str, Any]] = {}
    lock = threading.Lock()

    def train(self, manifest, target, program, values):
        name = Path(program).name
        with self.lock:
            if name not in self.programs:
                self.programs[name] = loaded(target, Path(program).read_bytes())
            given = _complete(manifest, values)
            results = self.programs[name]([np.asarray(given[a.name]) for a in manifest.arguments])
        return trained(manifest.results, Ran([np.asarray(r) for r in results], 0.0, 0))


class Rows:
    """A client of a population as the examples of a device."""

    def __init__(self, rows):
        self.rows = rows

    def load(self, columns, most):
        return {column.name: np.asarray(self.rows[column.name][:most]) for column in columns}


class InThread:
    """Conducts a run in a thread."""

    def __init__(self, service: Service, run: str, plan: Plan, test: Any):
        self.status: int | None = None
        self.error: BaseException | None = None

        def go() -> None:
            try:
                stored = service.storage.runs.get(run)
                runner = Runner(
                    service.storage,
                    service.blobs,
                    stored,
                    plan,
                    test,
                    service.runs,
                    owner=f"r{secrets.token_hex(4)}",
                )
                self.runner = runner
                try:
                    runner.end(runner.go())
                finally:
                    runner.close()
                self.status = 0
            except BaseException as error:
                traceback.print_exc()
                self.error, self.status = error, 1

        self.thread = threading.Thread(target=go, daemon=True)
        self.thread.start()

    def poll(self):
        return self.status

    def terminate(self):
        """It is a thread of the test."""


class Rehearsal:
    """A service, and a device for each client."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        population: Population,
        *,
        seed: int,
        entropy: bytes | None,
        rounds: int,
        target="jax",
        test=None,
        **service,
    ):
        self.folder, self.plan, self.population, self.seed, self.entropy = (
            folder,
            plan,
            population,
            seed,
            entropy,
        )
        self.rounds, self.author, self.target = rounds, Identity.generate(), target
        self.conductors: list[InThread] = []

        def conduct(service: Service, run: str):
            self.conductors.append(InThread(service, run, plan, test))
            return self.conductors[-1]

        self.service = Service(folder / "service", conduct, **service)
        self.package = package(
            plan,
            self.author,
            name="a plan",
            rounds=rounds,
            columns=plan.task.columns_of(population),
            examples=int(np.max(population.sizes)),
            targets=(target,),
        )
        self.agents: list[Agent] = []
        self.stack = ExitStack()

    def __enter__(self):
        self.stack.enter_context(self.service)
        identities = []
        for client in range(len(self.population)):
            folder = self.stack.enter_context(DeviceFolder(self.folder / f"device{client}"))
            identities.append(folder.identity)
            ledger = self.stack.enter_context(DeviceLedger(folder.ledger))
            transport = Transport(self.service.url, folder.identity)
            self.stack.callback(transport.close)
            agent = Agent(
                folder,
                transport,
                Rows(self.population.client(client)),
                ledger,
                InProcess(),
                Rehearsed(self.seed, self.entropy),
                authors=[self.author.public],
                conditions=Always(),
                targets=[self.target],
            )
            self.agents.append(agent)
        self.keys = [identity.public for identity in identities]
        self.service.storage.devices.allow(self.keys)
        self.threads = [threading.Thread(target=agent.run, daemon=True) for agent in self.agents]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        for agent in self.agents:
            agent.stopping.set()
        for thread in self.threads:
            thread.join(30)
        self.stack.close()

    def submit(self, **options) -> str:
        return submit(
            self.service.url,
            self.package,
            RunOptions(
                rounds=self.rounds,
                seed=self.seed,
                devices=[key.hex() for key in self.keys],
                sizes=[int(size) for size in self.population.sizes],
                entropy=self.entropy.hex() if self.entropy else None,
                **options,
            ),
        )

    def wait(self, run: str, seconds: float = 150.0):
        import time

        until = time.monotonic() + seconds
        while time.monotonic() < until:
            stored = self.service.storage.runs.get(run)
            if stored.state in ("finished", "failed", "cancelled"):
                return stored
            if self.conductors and self.conductors[-1].error is not None:
                raise self.conductors[-1].error
            time.sleep(0.02)
        raise AssertionError(f"{stored}")


def submit(url: str, package: Package, options: RunOptions) -> str:
    headers = {"fairyring-intent": "command"}
    with httpx2.Client(headers=headers) as client:
        for digest, blob in package.blobs.items():
            client.put(f"{url}/v1/blobs/{digest.hex()}", content=blob).raise_for_status()
        body = Submission(secrets.token_bytes(16), package.signed, options, {}, "plan.py")
        answer = client.post(f"{url}/v1/runs", content=msgspec.msgpack.encode(body))
        assert answer.status_code == 200, answer.text
        return answer.json()["run"]
