"""What the dashboard and `fairyring top` are given: all that is shown of a service, and nothing else of it.

Times are seconds since 1970, UTC, by the clock of the service. A number that is not known, or not finite, is None: JSON has no NaN. An
older page ignores what a newer service adds.
"""

import msgspec


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the service.

    Attributes:
        owner: the name under which it holds leases.
        address: where it listens.
        leases: how many jobs it holds.
    """

    owner: str
    address: str
    leases: int


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """The service itself.

    Attributes:
        version: of fairyring.
        started: when the process that answers was started.
        now: when this was written.
        address: under which devices reach the service.
        processes: all that work on the same database.
    """

    version: str
    started: float
    now: float
    address: str
    processes: tuple[Process, ...] = ()


class Funnel(msgspec.Struct, frozen=True, kw_only=True):
    """How many devices have come how far in the round that is shown. Without masks, the stages of the protocol stay 0.

    `checked_in` is 0, too, where it is not known.
    """

    checked_in: int = 0
    invited: int = 0
    trained: int = 0
    advertised: int = 0
    shared: int = 0
    masked: int = 0
    confirmed: int = 0
    summed: int = 0
    failed: int = 0


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why devices failed in a run so far, and how many of them."""

    reason: str
    count: int


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it is now.

    Attributes:
        id: names it in addresses.
        name: that people gave it.
        state: "queued", "running", "paused", "finished", "cancelled" or "failed".
        wanted: what an operator wants of it: "run", "pause" or "cancel". It differs from `state` until the driver has got there.
        round: the round that is open, or the last; 0 before the first.
        rounds: how many are planned.
        phase: of the open round, in one or two words; empty where none is open.
        phase_done: how many devices have done what the phase waits for.
        phase_expected: of how many.
        phase_deadline: when the phase is closed in any case.
        cohort: how many devices a round asks for.
        loss: mean training loss of the last round with a sum.
        metrics: of the last test evaluation, by name.
        epsilon_spent: an upper bound on what all rounds have spent; None where nothing is promised.
        epsilon: the budget; None without one.
        delta: of the budget.
        bytes_up: sent by all devices, in all rounds.
        bytes_down: received by them.
        seconds: that the run has been at work.
        rounds_per_hour: of late.
        funnel: of the open round, or of the last.
        failures: of all rounds, the most frequent first.
        author: the public key that signed the plan, hexadecimal; empty of an unsigned one.
        signed: whether the service has found that signature to be right.
        privacy: what is promised, in one sentence.
        masked: whether updates are summed under masks.
        why: it is in its state, such as what a failed run failed by; empty where there is nothing to say.
    """

    id: str
    name: str
    state: str
    wanted: str
    round: int
    rounds: int
    phase: str
    phase_done: int
    phase_expected: int
    phase_deadline: float | None
    cohort: int
    loss: float | None
    metrics: dict[str, float | None]
    epsilon_spent: float | None
    epsilon: float | None
    delta: float | None
    bytes_up: int
    bytes_down: int
    seconds: float
    rounds_per_hour: float | None
    funnel: Funnel
    failures: tuple[Failure, ...]
    author: str
    signed: bool
    privacy: str
    masked: bool
    why: str = ""


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """The devices.

    Attributes:
        enrolled: how many may take part.
        revoked: how many no longer may.
        active_1h: how many were heard of within the last hour.
        by_version: how many of those run which version of fairyring.
        by_runtime: how many compute with which runtime.
        barred: how many are kept out for a while, since they broke a protocol.
    """

    enrolled: int
    revoked: int
    active_1h: int
    by_version: dict[str, int]
    by_runtime: dict[str, int]
    barred: int


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """What the service answers: requests a second of late, and how many it refused since it started, by reason."""

    per_second: float
    refused: dict[str, int]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The service at one moment. Runs that go on come first, then the newest."""

    service: Service
    runs: tuple[RunRow, ...]
    fleet: Fleet
    requests: Requests


class RoundRow(msgspec.Struct, frozen=True, kw_only=True):
    """A round of a run, as its record has it.

    Attributes:
        round: its number; the first is 1.
        loss: mean training loss; None where there was no sum, or the mean is lost in noise.
        metrics: means of training, by name; None as of the loss.
        test: of the evaluation after it, "loss" and metrics by name; empty without one.
        clients: how many devices are in the sum.
        sampled: how many were asked.
        dropped: how many of those vanished.
        seconds: it took.
        bytes_up: sent by its devices.
        bytes_down: received by them.
        epsilon: what all rounds up to it have spent; None where that was not recorded.
        aborted: why there was no sum; None where there was one.
    """

    round: int
    loss: float | None
    metrics: dict[str, float | None]
    test: dict[str, float | None]
    clients: int
    sampled: int
    dropped: int
    seconds: float
    bytes_up: int
    bytes_down: int
    epsilon: float | None = None
    aborted: str | None = None


class RunDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A run with its rounds.

    Attributes:
        run: as in the snapshot.
        rounds: that are recorded, the first one first; with ``?after=N`` only those with a greater number, if the service can do that.
        document: the plan as JSON text, as it was signed.
        sentences: of the privacy statement.
        report: path of the run's report at this service, which begins with a slash; None without one.
    """

    run: RunRow
    rounds: tuple[RoundRow, ...]
    document: str
    sentences: tuple[str, ...]
    report: str | None = None


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    """Who is signed in: `role` is "viewer" or "operator"."""

    name: str
    role: str
