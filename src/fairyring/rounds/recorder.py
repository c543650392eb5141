"""Writing what a run leaves behind as it goes, and resuming from it: header, records, transcripts, history, checkpoints."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fairyring.core.errors import RunDamaged
from fairyring.core.tensors import flatten_state, restore_state
from fairyring.learning.forward import stored_model
from fairyring.learning.plan import Plan
from fairyring.learning.server import ServerState
from fairyring.records.folder import RunFolder
from fairyring.records.layout import CLIENTS, METRICS, MODEL, PLAN, POPULATION, RUN, SCORES
from fairyring.records.models import model_arrays
from fairyring.records.round_record import RoundRecord
from fairyring.records.states import ClientStates
from fairyring.records.store import Store
from fairyring.records.stored_states import check_states, delete_states, has_table
from fairyring.rounds.header import check_same
from fairyring.rounds.history import HISTORY, History, Signers, new_course
from fairyring.rounds.keeping import Keeping
from fairyring.rounds.privacy_context import contradicts
from fairyring.rounds.spending import EarlierRounds, RunSpending
from fairyring.rounds.total import SecureSumResult
from fairyring.rounds.transcripts import Transcripts


class Restored(NamedTuple):
    """Where a run stands that is new, or resumed.

    Attributes:
        round: how many rounds are over.
        state: the server's state after them.
        participation: how often each client reported so far, int32 `[clients]`.
        records: of all rounds so far.
        seconds: that they took.
        earlier: what the folder tells of rounds that were begun; None for a new run.
        head: of the run's history.
        entropy_given: the secret of the run's noise was given by a caller.
        tested: the run was evaluated, even if only in rounds that are to be run again.
        keep: which models it was to keep; None for none.
    """

    round: int
    state: ServerState
    participation: np.ndarray
    records: list[RoundRecord]
    seconds: float = 0.0
    earlier: EarlierRounds | None = None
    head: str | None = None
    entropy_given: bool = False
    tested: bool = False
    keep: Mapping[str, Any] | None = None


class Recorder:
    """Writes what a run leaves behind into a store that nobody else may write meanwhile.

    Args:
        store: where it is kept.
        header: of the run; what run.json is written from.
        plan: what runs.
        states: opens the clients' states; None where clients have none.
        signers: devices that sign the run's history, under the masked protocol; None without it.

    Raises:
        RunError: another process writes the store.
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
        self._adding: int | None = None  # the round whose record was last begun to be added
        self._lock = store.hold()

    def begin(self, first: ServerState, clients: int, summary: Mapping[str, Any]) -> Restored:
        """Begin a new run from state `first`, with so many clients and a summary of their population."""
        if self.signers is not None and self.store.keeps:
            self.header[HISTORY] = new_course(self.plan)
        if self.store.keeps:
            write_head(self.store, self.header, self.plan, summary)
        self._begin_states()
        return Restored(0, first, np.zeros(clients, np.int32), [])

    def resume(self, first: ServerState, clients: int, rounds: int) -> Restored:
        """Resume the run that is kept, for so many rounds in all. Nothing is written yet.

        Raises:
            RunMismatch: it is another run.
            RunDamaged, RunError: part of it is missing.
        """
        self.store.tidy()
        saved = self.store.read(RUN)
        check_same(self.header, saved, str(self.store.path))
        self.header["started"] = saved["started"]
        self.header["test"] = self.header["test"] or saved.get("test")
        if self.signers is not None:
            self.header[HISTORY] = saved.get(HISTORY)
        if saved.get("audit") is not None:  # an earlier result stays
            self.header["audit"] = saved["audit"]
        if saved.get("cautions"):
            self.header["cautions"] = [*saved["cautions"]]
        given = saved.get("entropy") == "given"  # a secret that was known once stays known
        covered = (one["names"] for one in saved.get("outside", ()))
        tested = any(f"{METRICS}: test.*" in names for names in covered)
        over = saved["status"] == "finished" or saved.get("stopped_by") == "budget"
        shown = (record for record in self.store.records() if record.aborted is None)
        earlier = EarlierRounds(frozenset(record.round for record in shown), over, None)
        checkpoint = self.store.last_checkpoint(self.header["fingerprint"])
        if checkpoint is None:
            self._begin_states()
            nobody = np.zeros(clients, np.int32)
            return Restored(
                0,
                first,
                nobody,
                [],
                earlier=earlier,
                entropy_given=given,
                tested=tested,
                keep=saved.get("keep"),
            )
        round, arrays, facts = checkpoint
        path = self.store.path
        if self._open_states is not None and path is not None and (round < rounds or has_table(path)):
            check_states(path, private=self.plan.protection is not None)
            self.states = self._open_states()
            self.states.recover(facts, round)
        # The checkpoint is written before the final header, which may be missing.
        if facts.get("audit") is not None and not contradicts(self.header.get("audit")):
            self.header["audit"] = facts["audit"]
        participation = arrays.pop("participation")
        state = restore_state(first, {name.removeprefix("server/"): a for name, a in arrays.items()})
        earlier = earlier._replace(head=facts.get("ledger"))
        records = self.store.records(upto=round)
        if [record.round for record in records] != list(range(1, round + 1)):
            raise RunDamaged(
                str(path),
                given=f"records of {len(records)} rounds, and a checkpoint after round {round}",
                expected=f"one record of each of the rounds 1 to {round}, in order",
                do="Restore metrics.jsonl from a copy, or start a new run folder.",
            )
        return Restored(
            round,
            state,
            participation,
            records,
            facts["seconds"],
            earlier,
            facts.get(HISTORY),
            given,
            tested,
            saved.get("keep"),
        )

    def go_on(self, restored: Restored, spending: RunSpending | None, *, more: bool) -> None:
        """Drop what is to be run again, now that the ledger was found to be the one of these rounds.

        Args:
            restored: where the run stands.
            spending: of a private plan.
            more: whether rounds are left to be run.
        """
        if restored.earlier is not None:
            # Only now: until the ledger was checked, the records of later rounds were what told that there was one. And the
            # header must no longer say that the run is over before anything more is released.
            if more or len(self.store.records()) > len(restored.records):
                self.store.cut_records(restored.round)
                for round in self.store.kept_models():
                    if round > restored.round:
                        self.store.drop_model(round)
            if (
                more and self.header.get(HISTORY) is None
            ):  # a history does this when its first round opens, not before
                self.store.write(RUN, self.header)
        if self.store.keeps:
            self._transcripts = Transcripts(self.store, spending)
        if (
            self.signers is not None
            and isinstance(self.store, RunFolder)
            and self.header[HISTORY] is not None
        ):
            self.history = History(self.store, self.header, self.signers, restored.round, restored.head)

    def say_failed(self, why: str) -> None:
        """Write that the run has failed, and why. A run with a history leaves its header as it was signed."""
        if self.store.keeps and self.history is None:
            self.header |= {"status": "failed", "failed_by": why}
            self.store.write(RUN, self.header)

    def keep_sum(self, round: int, summed: SecureSumResult) -> None:
        """Keep what may be kept of a round's secure sum."""
        if self._transcripts is not None:
            self._transcript = self._transcripts.keep(round, summed)

    def add(self, record: RoundRecord, model: Callable[[], bytes]) -> None:
        """Add the record of a round that is over; `model` gives the digest of the model after it.

        It may be called again for a round where it failed halfway.
        """
        if self._adding == record.round:
            self.store.cut_records(record.round - 1)
        self._adding = record.round
        self.store.append_records([record])
        if self.history is not None:
            self.history.add(record, self._transcript, model())

    def keep_model(self, round: int, params: Any) -> None:
        """Keep the model after `round`."""
        self.store.keep_model(round, model_arrays(params))

    def drop_models(self, keeping: Keeping, records: Sequence[RoundRecord], *, since: int) -> None:
        """Drop the models that are no longer kept, given the records of all rounds so far; of rounds up to `since` none."""
        for round in keeping.dropped(self.store.kept_models(), records):
            if round > since:
                self.store.drop_model(round)

    def checkpoint(
        self, round: int, state: ServerState, participation: np.ndarray, facts: Mapping[str, Any]
    ) -> None:
        """Save everything that the rounds after `round` need."""
        if not self.store.keeps:
            return
        if self.states is not None:
            self.states.flush()
        self.store.checkpoint(round, checkpoint_arrays(state, participation), self.facts(facts))
        if self.states is not None:
            self.states.settle(round)

    def facts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """A checkpoint's plain values: `facts`, and those of audit, history and states."""
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
            clients: arrays `[clients]` by name, for clients.safetensors.
            scores: of an audit's canaries; None without them.
            model: gives the digest of the last model.
            checkpoint: saves the last state; None where that is done.
        """
        if self.history is not None:
            self.history.before(model())
        if scores is not None:
            self.store.write_arrays(SCORES, {"scores": scores})
        if checkpoint is not None:
            checkpoint()
        self.store.write_arrays(CLIENTS, clients)
        self.store.write(RUN, self.header)  # last: it says that the rest is there
        if self.history is not None:
            self.history.end()

    @property
    def untouched(self) -> bool:
        """Whether the run had come to its end, with its history sealed, and nothing was run since."""
        return self.history is not None and self.history.untouched

    def forget_states(self) -> None:
        """Delete the clients' states of a private run that is over: its guarantee does not cover them."""
        if self.store.path is not None:
            delete_states(self.store.path)

    def close(self) -> None:
        """Release the lock on the store."""
        if self._lock is not None:
            self._lock.release()

    def _begin_states(self) -> None:
        if self._open_states is not None:
            self.states = self._open_states()
            self.states.recover({"journal": 0, "journal_rows": 0}, 0)


def write_head(store: Store, header: Mapping[str, Any], plan: Plan, population: Mapping[str, Any]) -> None:
    """Write what is known of a run before its first round."""
    columns = {name: (tuple(one["shape"]), one["dtype"]) for name, one in header["code"]["columns"].items()}
    store.write(PLAN, plan.describe())
    store.write_bytes(MODEL, stored_model(plan, columns).encode())
    store.write(POPULATION, population)
    store.write(RUN, header)


def checkpoint_arrays(state: ServerState, participation: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint."""
    return {f"server/{name}": leaf for name, leaf in flatten_state(state).items()} | {
        "participation": participation
    }
