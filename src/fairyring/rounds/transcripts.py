"""What a run keeps of its secure sums, so that anybody can check them, and a report can show one."""

import msgspec

from fairyring.core.packing import pack_words
from fairyring.records.folder import KEPT
from fairyring.records.layout import EXHIBIT, SUM, TRANSCRIPT
from fairyring.records.store import Store
from fairyring.rounds.spending import RunSpending
from fairyring.rounds.total import SecureSumResult

EXHIBITED = 1 << 16  # how many numbers of a vector are shown


class Transcripts:
    """Writes transcripts into a run's store.

    Args:
        store: of the run.
        spending: of a private plan; None for a plan without a privacy guarantee.
    """

    def __init__(self, store: Store, spending: RunSpending | None) -> None:
        self.store, self.spending, self._exhibited = store, spending, False

    def keep(self, round: int, summed: SecureSumResult) -> bytes | None:
        """Write what may be kept of a round's secure sum; returns the bytes of its transcript, None if there is none."""
        kept = None
        if summed.transcript is not None and summed.vector is not None:
            bits = summed.transcript.terms.modulus_bits
            kept = msgspec.msgpack.encode(summed.transcript)
            self.store.write_bytes(TRANSCRIPT.format(round), kept)
            if self.spending is None or self.spending.complete:  # a sum that lacks noise is not kept
                self.store.write_bytes(SUM.format(round), pack_words(summed.vector, bits))
        self.store.remove(SUM.format(round - KEPT))
        if summed.exhibit is not None and not self._exhibited:
            shown = {"received": summed.exhibit.received[:EXHIBITED]}
            if self.spending is None:  # with a privacy guarantee a client's own vector is not kept
                shown["clear"] = summed.exhibit.clear[:EXHIBITED]
            self.store.write_arrays(EXHIBIT, shown)
            self._exhibited = True
        return kept
