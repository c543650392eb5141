"""Training in a process of its own, with limits: whatever a program does there, the device goes on.

The child is a fresh interpreter. It gets the program and its arguments by a pipe, nothing is written to a disk, and it has none of the
device's keys. The limits keep a program that is wrong from taking the machine; they are no sandbox for one that is hostile, which is why a
device runs only programs that an author signed whom its owner trusts.
"""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fairyring.core.errors import TrainingFailed
from fairyring.device._child_process import Child, failure
from fairyring.device.runtimes import targets_here
from fairyring.messages import Array, Manifest

Program = bytes | Path
_ANSWER = 1 << 20  # bytes of an answer beside its arrays


class Trained(NamedTuple):
    """What a round's training gave.

    Attributes:
        vector: the encoded vector: `[dimension]`, without noise and masks.
        auxiliary: the values that travel beside it in the clear, float32; empty where all of them are in the vector.
        client_state: the algorithm's new state on this device, float32, flat; None if it has none.
        finite: whether the update was finite. The vector may be sent whether or not it is.
        seconds: that the program ran.
        memory: the most bytes that the process had at a time so far; 0 if the system does not say.
    """

    vector: np.ndarray
    auxiliary: np.ndarray
    client_state: np.ndarray | None
    finite: bool
    seconds: float
    memory: int


class Bounds(NamedTuple):
    """What a program may take.

    Attributes:
        seconds: from the start of the process to the results.
        memory: bytes beyond what its runtime needs, where the system can hold a process to that.
    """

    seconds: float
    memory: int


class Ran(NamedTuple):
    """The results of a program, in order, with what it took."""

    results: list[np.ndarray]
    seconds: float
    memory: int


class Trainer:
    """Runs programs of plans, one at a time, each in a child process.

    It may be used by several threads: they wait for each other.

    Args:
        seconds, memory: the device's own limits of a round, in bytes; a manifest's hold, too.
        nice: how much other programs of the device go first, from 0 to 19.
        cores: the most that training uses; None for all.
        keep_warm: seconds after a round for which the child waits for the next of the same program; 0 to end it at once.

    Attributes:
        reads_examples: an agent loads examples for it.
        targets: the programs that it runs, the best first.
    """

    reads_examples = True

    def __init__(
        self,
        *,
        seconds: float = float("inf"),
        memory: int = 1 << 62,
        nice: int = 10,
        cores: int | None = None,
        keep_warm: float = 60.0,
    ) -> None:
        self._own = Bounds(seconds, memory)
        self._nice, self._cores, self._keep_warm = nice, cores, keep_warm
        self._lock = threading.RLock()
        self._child: Child | None = None
        self._expiry: threading.Timer | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """Those of the runtimes that are installed here."""
        return targets_here()

    def train(
        self, manifest: Manifest, target: str, program: Program, values: Mapping[str, np.ndarray]
    ) -> Trained:
        """Run a plan's program.

        Args:
            manifest: of the plan.
            target: one of its programs.
            program: its bytes, or the path of a file with them. That they are the ones the manifest names is for the caller to check.
            values: by name, the program's arguments (see `fairyring.learning.program`). Columns may have fewer rows than the program
                takes, `[size, ...]`; `size` is theirs. `model_values` makes `params` and `server_state`.

        Raises:
            TrainingFailed: it took more than it may, it ended, or its results are not what the manifest says.
        """
        bounds = self.bounds(manifest)
        _check_size((*manifest.arguments, *manifest.results), bounds)
        arguments = _complete(manifest, values)
        ran = self.run(target, program, manifest.arguments, manifest.results, arguments, bounds)
        return trained(manifest.results, ran)

    def run(
        self,
        target: str,
        program: Program,
        arguments: Sequence[Array],
        results: Sequence[Array],
        values: Mapping[str, np.ndarray],
        bounds: Bounds,
    ) -> Ran:
        """Run a program of these arguments and results; see `train` for what is raised."""
        _check_size((*arguments, *results), bounds)
        given = [_checked(argument, values.get(argument.name)) for argument in arguments]
        most = sum(result.nbytes for result in results) + _ANSWER
        with self._lock:
            child = self._ready(target, program, bounds)
            try:
                facts, found = child.ask(given, most, bounds.seconds)
                seconds, memory = float(facts["seconds"]), int(facts["memory"])
                found = _fitting(results, found)
            except BaseException as error:
                self._end()
                if isinstance(error, KeyError | ValueError | TypeError):
                    raise _nonsense("an answer that cannot be read") from error
                raise
            self._rest()
        return Ran(found, seconds, memory)

    def bounds(self, manifest: Manifest) -> Bounds:
        """What a program of this plan may take here: the smaller of the manifest's limits and the device's own."""
        limits = manifest.limits
        return Bounds(min(limits.seconds, self._own.seconds), min(limits.memory, self._own.memory))

    def close(self) -> None:
        """End the child. The next round starts another."""
        with self._lock:
            self._end()

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ready(self, target: str, program: Program, bounds: Bounds) -> Child:
        content = program.read_bytes() if isinstance(program, Path) else program
        key = target, hashlib.sha256(content).digest(), bounds.memory
        if self._expiry is not None:
            self._expiry.cancel()
        if self._child is not None and (self._child.key != key or not self._child.alive):
            self._end()
        if self._child is None:
            self._child = Child(key, target, content, bounds.memory, self._nice, self._cores)
        return self._child

    def _rest(self) -> None:
        if self._keep_warm <= 0:
            self._end()
            return
        child = self._child

        def expire() -> None:
            with self._lock:
                if self._child is child and self._expiry is timer:
                    self._end()

        timer = self._expiry = threading.Timer(self._keep_warm, expire)
        timer.daemon = True
        timer.start()

    def _end(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self._child is not None:
            self._child.end()
            self._child = None


def model_values(manifest: Manifest, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The model as a program takes it: `params`, and `server_state` where there is one, flat, float32.

    Args:
        manifest: of the plan.
        arrays: of the model, as `fairyring.messages.model_arrays` reads them.
    """
    sizes = {argument.name: argument.size for argument in manifest.arguments}
    flat = [np.ravel(array).astype(np.float32) for array in arrays]
    joined = np.concatenate(flat) if flat else np.zeros(0, np.float32)
    params, state = sizes.get("params", 0), sizes.get("server_state", 0)
    if len(joined) != params + state:
        raise _nonsense(f"a model of {len(joined)} numbers for a program that takes {params + state}")
    values = {"params": joined[:params]}
    return {**values, "server_state": joined[params:]} if state else values


def trained(results: Sequence[Array], ran: Ran) -> Trained:
    """The results of a program by what they are: those that it has of `vector`, `side`, `client_state` and `finite`."""
    found = dict(zip((result.name for result in results), ran.results, strict=True))
    return Trained(
        found["vector"],
        found.get("side", np.zeros(0, np.float32)),
        found.get("client_state"),
        bool(found["finite"]),
        ran.seconds,
        ran.memory,
    )


def _check_size(arrays: Sequence[Array], bounds: Bounds) -> None:
    """Refuse a program whose arrays alone are larger than its memory may be, before this process makes one of them."""
    size = sum(array.nbytes for array in arrays)
    if size > bounds.memory:
        raise failure(
            "memory", f"arguments and results of {size:,} bytes, where {bounds.memory:,} are allowed"
        )


def _complete(manifest: Manifest, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arguments with columns of the program's length, and with the number of rows in them."""
    given = {name: np.asarray(value) for name, value in values.items()}
    columns = [given[column.name] for column in manifest.columns if column.name in given]
    rows = {len(column) for column in columns if column.ndim > 0}
    if len(rows) > 1 or max(rows, default=0) > manifest.examples:
        raise TrainingFailed(
            "nonsense",
            given=f"columns of {' and '.join(map(str, sorted(rows)))} rows",
            expected=f"columns of one length, of at most {manifest.examples} rows",
            do="Load the rows with ExampleStore.load(columns, most=manifest.examples).",
        )
    if rows:
        given.setdefault("size", np.asarray(max(rows), np.int32))
    for column in manifest.columns:
        if column.name in given and len(given[column.name]) < manifest.examples:
            rest = manifest.examples - len(given[column.name])
            given[column.name] = np.pad(
                given[column.name], [(0, rest), *[(0, 0)] * (given[column.name].ndim - 1)]
            )
    return given


def _checked(argument: Array, value: np.ndarray | None) -> np.ndarray:
    array = None if value is None else np.asarray(value)
    if array is None or array.shape != argument.shape or array.dtype != np.dtype(argument.dtype):
        raise TrainingFailed(
            "nonsense",
            given=f"no {argument.name}"
            if array is None
            else f"{argument.name}: {array.dtype} {list(array.shape)}",
            expected=f"{np.dtype(argument.dtype)} {list(argument.shape)}, as the manifest says",
            do="Give every argument of the plan's program.",
        )
    return array


def _fitting(results: Sequence[Array], found: list[np.ndarray]) -> list[np.ndarray]:
    """Results in the manifest's dtypes; truth values may come as bytes."""
    if len(found) != len(results):
        raise _nonsense(f"{len(found)} results of {len(results)}")
    fitting: list[np.ndarray] = []
    for result, array in zip(results, found, strict=True):
        dtype = np.dtype(result.dtype)
        if dtype == np.bool_ and array.dtype in (np.int8, np.uint8):
            array = array != 0
        if array.shape != result.shape or array.dtype != dtype:
            raise _nonsense(
                f"{result.name}: {array.dtype} {list(array.shape)}, not {dtype} {list(result.shape)}"
            )
        fitting.append(array)
    return fitting


def _nonsense(given: str) -> TrainingFailed:
    return TrainingFailed(
        "nonsense",
        given=given,
        expected="what the manifest says of the program",
        do="Nothing is sent; the plan's author must publish another program.",
    )
