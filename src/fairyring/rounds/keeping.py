"""What a run keeps as it goes: header, a line a round, transcripts, history, checkpoints; and taking all that up again."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fairyring.core.tensors import flatten_state, restore_state
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState
from fairyring.records.folder import RunFolder
from fairyring.records.layout import CLIENTS, METRICS, PLAN, POPULATION, RUN, SCORES
from fairyring.records.round_record import RoundRecord
from fairyring.records.states import ClientStates, check_states, delete_states, has_table
from fairyring.records.store import Store
from fairyring.rounds.header import check_same
from fairyring.rounds.history import HISTORY, History, Signers, new_course
from fairyring.rounds.ran import contradicts
from fairyring.rounds.spending import Earlier, Spending
from fairyring.rounds.total import Summed
from fairyring.rounds.transcripts import Transcripts


class Restored(NamedTuple):
    """Where a run stands that is begun, or taken up.

    Attributes:
        round: that is over.
        state: the server's after it.
        participation: how often each client reported so far, `[clients]`.
        records: of all rounds so far.
        seconds: they took.
        earlier: what is told of rounds that were begun; None for a new run.
        head: of the run's history.
        entropy_given: the secret of its noise is one that somebody gave.
        tested: it was evaluated, also if only in rounds that are run again.
    """

    round: int
    state: ServerState
    participation: np.ndarray
    records: list[RoundRecord]
    seconds: float = 0.0
    earlier: Earlier | None = None
    head: str | None = None
    entropy_given: bool = False
    tested: bool = False


class Keeping:
    """Keeps a run's record in a store that nobody else writes meanwhile.

    Args:
        store: where.
        header: of the run; what run.json is written from.
        plan: what runs.
        states: opens what its clients remember; None where they remember nothing.
        signers: devices that sign the run's history, where masks are real; None for nobody.

    Raises:
        RunError: somebody else writes it.
    """

    def __init__(
        self,
        store: Store,
        header: dict[str, Any],
        plan: Plan,
        states: Callable[[], ClientStates] | None,
        signers: Signers | None,
    ) -> None:
        self.store, self.header, self.plan, self.signers = store, header, plan, signers
        self._open_states = states
        self.states: ClientStates | None = None
        self.history: History | None = None
        self._transcripts: Transcripts | None = None
        self._transcript: bytes | None = None  # of the last round's secure sum
        self._lock = store.hold()

    def begin(self, first: ServerState, clients: int, summary: Mapping[str, Any]) -> Restored:
        """Begin a new run, from state `first`, of so many clients; `summary` tells of its population."""
        if self.signers is not None and self.store.keeps:
            self.header[HISTORY] = new_course(self.plan)
        if self.store.keeps:
            write_head(self.store, self.header, self.plan, summary)
        self._begin_states()
        return Restored(0, first, np.zeros(clients, np.int32), [])

    def take_up(self, first: ServerState, clients: int, rounds: int) -> Restored:
        """Go on with the run that is kept, for so many rounds in all; nothing is written.

        Raises:
            RunMismatch: it is another run.
            RunDamaged, RunError: something of it is missing.
        """
        self.store.tidy()
        saved = self.store.read(RUN)
        check_same(self.header, saved, str(self.store.path))
        self.header["started"] = saved["started"]
        if self.signers is not None:
            self.header[HISTORY] = saved.get(HISTORY)
        if saved.get("audit") is not None:  # what was found stays found
            self.header["audit"] = saved["audit"]
        given = saved.get("entropy") == "given"  # what is found in the folder is no less known than it was
        covered = (one["names"] for one in saved.get("outside", ()))
        tested = any(f"{METRICS}: test.*" in names for names in covered)
        over = saved["status"] == "finished" or saved.get("stopped_by") == "budget"
        shown = (record for record in self.store.records() if record.aborted is None)
        earlier = Earlier(frozenset(record.round for record in shown), over, None)
        found = self.store.last_checkpoint(self.header["fingerprint"])
        if found is None:
            self._begin_states()
            nobody = np.zeros(clients, np.int32)
            return Restored(0, first, nobody, [], earlier=earlier, entropy_given=given, tested=tested)
        round, arrays, facts = found
        path = self.store.path
        if self._open_states is not None and path is not None and (round < rounds or has_table(path)):
            check_states(path, private=self.plan.protection is not None)
            self.states = self._open_states()
            self.states.recover(facts, round)
        # The checkpoint comes before the header of the end, which may be missing.
        if facts.get("audit") is not None and not contradicts(self.header.get("audit")):
            self.header["audit"] = facts["audit"]
        participation = arrays.pop("participation")
        state = restore_state(first, {name.removeprefix("server/"): a for name, a in arrays.items()})
        earlier = earlier._replace(head=facts.get("ledger"))
        records = self.store.records(upto=round)
        return Restored(
            round, state, participation, records, facts["seconds"], earlier, facts.get(HISTORY), given, tested
        )

    def go_on(self, restored: Restored, spending: Spending | None, *, more: bool) -> None:
        """Write what follows from where the run stands, now that its ledger was found to be the one of its rounds.

        Args:
            restored: where it stands.
            spending: of a private plan.
            more: rounds are left to be run.
        """
        if restored.earlier is not None:
            # Only now: until the ledger was found to be theirs, later rounds' records were what told of it. And what the
            # header says of an end that is no longer one goes before anything more is released.
            if more or len(self.store.records()) > len(restored.records):
                self.store.cut_records(restored.round)
            if (
                more and self.header.get(HISTORY) is None
            ):  # a history does it when it takes the run up, and no sooner
                self.store.write(RUN, self.header)
        if self.store.keeps:
            self._transcripts = Transcripts(self.store, spending)
        if (
            self.signers is not None
            and isinstance(self.store, RunFolder)
            and self.header[HISTORY] is not None
        ):
            self.history = History(self.store, self.header, self.signers, restored.round, restored.head)

    def keep_sum(self, round: int, summed: Summed) -> None:
        """Keep what may be kept of a round's secure sum."""
        if self._transcripts is not None:
            self._transcript = self._transcripts.keep(round, summed)

    def add(self, record: RoundRecord, model: Callable[[], bytes]) -> None:
        """A round is over; `model` gives the digest of the model after it."""
        self.store.append_records([record])
        if self.history is not None:
            self.history.add(record, self._transcript, model())

    def checkpoint(
        self, round: int, state: ServerState, participation: np.ndarray, facts: Mapping[str, Any]
    ) -> None:
        """Save all that the rounds after `round` need."""
        if not self.store.keeps:
            return
        if self.states is not None:
            self.states.flush()
        self.store.checkpoint(round, checkpoint_arrays(state, participation), self.facts(facts))
        if self.states is not None:
            self.states.settle(round)

    def facts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """A checkpoint's plain values: `facts`, and what is known of audits, history and states."""
        audit = {"audit": self.header["audit"]} if self.header.get("audit") is not None else {}
        history = self.history.facts if self.history is not None else {}
        return {**facts, **audit, **history, **(self.states.facts if self.states is not None else {})}

    def end(
        self,
        clients: Mapping[str, np.ndarray],
        scores: np.ndarray | None,
        model: Callable[[], bytes],
        checkpoint: Callable[[], None] | None,
    ) -> None:
        """Write what is known at the end.

        Args:
            clients: by client.
            scores: of an audit's canaries; None where there was none.
            model: gives the digest of the last model.
            checkpoint: saves the last state, if that was not done yet.
        """
        if self.history is not None:
            self.history.before(model())
        if scores is not None:
            self.store.write_arrays(SCORES, {"scores": scores})
        if checkpoint is not None:
            checkpoint()
        self.store.write_arrays(CLIENTS, clients)
        self.store.write(RUN, self.header)  # the last: it says that the rest is there
        if self.history is not None:
            self.history.end()

    @property
    def untouched(self) -> bool:
        """Whether the run had come to its end, its history is sealed, and nothing was run since."""
        return self.history is not None and self.history.untouched

    def forget_states(self) -> None:
        """Delete what clients remember: it is outside of a promise, and the run is over."""
        if self.store.path is not None:
            delete_states(self.store.path)

    def close(self) -> None:
        """The store is somebody else's to write again."""
        if self._lock is not None:
            self._lock.release()

    def _begin_states(self) -> None:
        if self._open_states is not None:
            self.states = self._open_states()
            self.states.recover({"journal": 0, "journal_rows": 0}, 0)


def write_head(store: Store, header: Mapping[str, Any], plan: Plan, population: Mapping[str, Any]) -> None:
    """What is known of a run before its first round."""
    store.write(PLAN, plan.describe())
    store.write(POPULATION, population)
    store.write(RUN, header)


def checkpoint_arrays(state: ServerState, participation: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint."""
    return {f"server/{name}": leaf for name, leaf in flatten_state(state).items()} | {
        "participation": participation
    }
