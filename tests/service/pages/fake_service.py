"""A service for tests of the dashboard: the real files, and an invented snapshot that a test changes while the page is open."""

import asyncio
import json
import math
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, Self

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fairyring.service import pages

AUTHOR = "9f3c51d207b84e6a" * 4
NAMES = {"viewer": "vera", "operator": "otto"}
DOCUMENT = {
    "fairyring": 3,
    "aggregation": [{"clip": {"norm": 0.5}}, {"secure_sum": {"modulus_bits": 16, "minimum_cohort": 88}}],
    "cohort": {"in_turn": {"size": 100, "separation": 10}},
    "local": {"optimizer": {"sgd": {"learning_rate": 2.0}}, "batch_size": 10, "epochs": 1},
    "privacy": {"epsilon": 8.0, "delta": 1e-05, "unit": "device"},
    "server": {"sgd": {"learning_rate": 1.0, "momentum": 0.9}},
    "task": {"name": "classification", "metrics": [{"name": "accuracy", "bound": 1.0}]},
}


def run_row(run: str = "digits-7", **changes: Any) -> pages.RunRow:
    """A masked and private run in its twelfth round of sixty."""
    row = pages.RunRow(
        id=run, name="Handwritten digits", state="running", wanted="run", round=12, rounds=60,
        phase="masking", phase_done=71, phase_expected=96, phase_deadline=time.time() + 24, cohort=100,
        loss=0.8312, metrics={"accuracy": 0.8123, "macro_f1": 0.7991}, epsilon_spent=2.31471, epsilon=8.0, delta=1e-5,
        bytes_up=38_200_000, bytes_down=71_900_000, seconds=512.0, rounds_per_hour=84.2,
        funnel=pages.Funnel(checked_in=412, invited=120, trained=98, advertised=112, shared=108, masked=71, failed=9),
        failures=(pages.Failure(reason="vanished before it was trained", count=31), pages.Failure(reason="took longer than its limit of 60 s", count=8)),
        author=AUTHOR, signed=True, masked=True,
        privacy="Epsilon at most 8 at delta 1e-05 for every device, by noise that the devices add under masks.",
    )  # fmt: skip
    return msgspec.structs.replace(row, **changes)


def rounds_of(run: pages.RunRow, rate: float = 0.06) -> list[pages.RoundRow]:
    """Rounds whose loss falls at a rate; the fourth had no sum, and every third is evaluated."""
    rows = []
    for n in range(1, run.round + (run.state != "running")):
        loss = 0.25 + 2.1 * math.exp(-rate * n) + 0.03 * math.sin(2.3 * n)
        accuracy = 1 - 0.9 * math.exp(-rate * n)
        lost = n == 4
        test = {} if n % 3 else {"loss": loss + 0.04, "accuracy": accuracy, "macro_f1": accuracy - 0.02}
        rows.append(
            pages.RoundRow(
                round=n, loss=None if lost else loss, metrics={"accuracy": None if lost else accuracy - 0.03}, test=test,
                clients=0 if lost else 92 + n % 5, sampled=100, dropped=8 - n % 5, seconds=40 + 3 * math.sin(n),
                bytes_up=3_200_000, bytes_down=6_000_000,
                epsilon=None if run.epsilon_spent is None else run.epsilon_spent * math.sqrt(n / run.round),
                aborted="masking: too few devices were left" if lost else None,
            )
        )  # fmt: skip
    return rows


def snapshot(runs: Sequence[pages.RunRow] = (), **fleet: Any) -> pages.Snapshot:
    """A service with these runs."""
    some = {"enrolled": 10_412, "revoked": 3, "active_1h": 1_874, "barred": 2} | fleet
    return pages.Snapshot(
        service=pages.Service(
            version="0.9.0", started=time.time() - 93_000, now=time.time(), address="https://fl.example.org",
            processes=(pages.Process(owner="web-1", address="10.0.0.4:8443", leases=3), pages.Process(owner="web-2", address="10.0.0.5:8443", leases=1)),
        ),
        runs=tuple(runs),
        fleet=pages.Fleet(
            by_version={"0.9.0": 1_702, "0.8.3": 172}, by_runtime={"iree": 1_821, "participant": 53}, **some
        ),
        requests=pages.Requests(per_second=41.7, refused={"rate limit": 214, "signature": 3}),
    )  # fmt: skip


class FakeService:
    """Serves the dashboard: `with FakeService(snapshot) as service`, and `service.show(...)` changes what it shows.

    Attributes:
        role: of whoever signs in, and of whoever is already there.
        wanted: what pages have asked for: run and word.
        refuses: a status and a body with which wishes are refused.
        asked: runs that were asked for, with the query.
        listeners: how many pages wait for events.
    """

    def __init__(self, shown: pages.Snapshot, role: str | None = "operator", *, port: int = 0) -> None:
        self.shown, self.role, self.port = shown, role, port
        self.details: dict[str, pages.RunDetail] = {}
        self.wanted: list[tuple[str, str]] = []
        self.refuses: tuple[int, Any] | None = None
        self.asked: list[str] = []
        self.stopping = False
        self.listeners = 0

    def show(self, shown: pages.Snapshot) -> None:
        self.shown = shown

    def detail(self, run: str) -> pages.RunDetail | None:
        row = next((row for row in self.shown.runs if row.id == run), None)
        if run in self.details or row is None:
            return self.details.get(run)
        sentences = ("Examples stay on the devices.", "The service sees sums of at least 88 devices.")
        return pages.RunDetail(
            run=row, rounds=tuple(rounds_of(row)), document=json.dumps(DOCUMENT), sentences=sentences
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Self:
        files = pages.contents()

        def file(request: Request) -> Response:
            body, kind = files[request.url.path]
            return Response(body, media_type=kind, headers=dict(pages.HEADERS))

        async def login(request: Request) -> Response:
            given = await request.json()
            if not self._means_it(request) or given["password"] != "right":
                told = {"what": "sign in", "given": "another", "expected": "a password", "do": "Try again."}
                return JSONResponse({"error": told}, 401)
            self.role = next(role for role, name in NAMES.items() if name == given["name"])
            return JSONResponse({"name": given["name"], "role": self.role, "token": "for a command"})

        async def logout(request: Request) -> Response:
            self.role = None
            return JSONResponse({})

        async def want(request: Request) -> Response:
            if not self._means_it(request):
                return JSONResponse({"error": {"what": "no intent", "do": ""}}, 400)
            if self.refuses:
                return JSONResponse(self.refuses[1], self.refuses[0])
            if self.role != "operator":
                return JSONResponse({"error": {"what": "role", "do": "Ask an operator."}}, 403)
            self.wanted.append((request.path_params["run"], (await request.json())["what"]))
            return JSONResponse({})

        async def detail(request: Request) -> Response:
            self.asked.append(f"{request.path_params['run']} {request.url.query}")
            found = self.detail(request.path_params["run"])
            if found is None or self.role is None:
                return JSONResponse({}, 404)
            after = int(request.query_params.get("after", 0))
            rounds = tuple(row for row in found.rounds if row.round > after)
            return _json(msgspec.structs.replace(found, rounds=rounds))

        async def now(request: Request) -> Response:
            return _json(self.shown) if self.role else self._me()

        async def me(request: Request) -> Response:
            return self._me()

        async def events(request: Request) -> Response:
            if self.role is None:
                return JSONResponse({}, 401)
            return StreamingResponse(self._events(), media_type="text/event-stream")

        routes = [Route(path, file) for path in files]
        routes += [
            Route("/v1/login", login, methods=["POST"]),
            Route("/v1/logout", logout, methods=["POST"]),
            Route("/v1/me", me),
            Route("/v1/snapshot", now),
            Route("/v1/events", events),
            Route("/v1/runs/{run}", detail),
            Route("/v1/runs/{run}/want", want, methods=["POST"]),
        ]
        self._socket = socket.create_server(("127.0.0.1", self.port))
        self.port = self._socket.getsockname()[1]
        config = uvicorn.Config(
            Starlette(routes=routes),
            log_config=None,
            log_level="critical",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping = True
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    async def _events(self) -> Any:
        sent = None
        self.listeners += 1
        try:
            yield b"retry: 300\n\n"
            while not self.stopping:
                if self.shown is not sent:
                    sent = self.shown
                    yield b"event: snapshot\ndata: " + msgspec.json.encode(sent) + b"\n\n"
                await asyncio.sleep(0.02)
        finally:
            self.listeners -= 1

    def _me(self) -> Response:
        if self.role is None:
            told = {
                "what": "nobody who has signed in",
                "given": "none",
                "expected": "an operator",
                "do": "Sign in.",
            }
            return JSONResponse({"error": told}, 401)
        return JSONResponse({"name": NAMES[self.role], "role": self.role})

    def _means_it(self, request: Request) -> bool:
        header, value = pages.INTENT
        return request.headers.get(header) in (value, "command")


def _json(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
