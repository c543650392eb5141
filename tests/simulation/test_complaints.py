"""A simulated client that seals garbage: what the round costs, and that the others' sum comes of it."""

from typing import Any

import msgspec
import numpy as np
import pytest

from fairyring.rounds.cohorts import RoundCohort
from fairyring.secagg import Device, Terms, Traffic, traffic
from fairyring.secagg.messages import SEALED_BYTES, Shares, decode_kept, encode
from fairyring.simulation import masked

CLIENTS = 8
TERMS = Terms(bytes(32), 5, 20, 3, CLIENTS, "semi_malicious", 0.1, 0.2)
EVERYONE = np.arange(CLIENTS)


class Spoiling(Device):
    """A device that seals garbage for its first two neighbours."""

    def receive(self, data: bytes) -> bytes | None:
        answer = super().receive(data)
        if self.phase != "shared" or answer is None:
            return answer
        shares = decode_kept(answer, Shares)
        changed = msgspec.structs.replace(shares, sealed=(bytes(SEALED_BYTES),) * 2 + shares.sealed[2:])
        signature = self.identity.sign(changed.payload(self.session.context))
        return encode(msgspec.structs.replace(changed, signature=signature))


def summed(vectors: np.ndarray) -> masked.SecureSumResult:
    cohort = RoundCohort(0, EVERYONE, EVERYONE)
    return masked.MaskedSums(TERMS).run(cohort, {}, bytes(32), enumerate(vectors))


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1 << 17, (CLIENTS, TERMS.length), np.uint32)


def test_where_nobody_complains_a_round_takes_the_bytes_foretold(vectors: np.ndarray) -> None:
    found = summed(vectors)
    one = traffic(TERMS, CLIENTS)
    assert found.traffic == Traffic(CLIENTS * one.up, CLIENTS * one.down)
    assert found.vector is not None
    assert found.vector.tolist() == (vectors.sum(0) % (1 << 20)).tolist()


def test_a_client_that_seals_garbage_is_left_out_and_nobody_else(
    vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Device] = []

    def device(*given: Any) -> Device:
        made.append((Spoiling if len(made) == 3 else Device)(*given))
        return made[-1]

    monkeypatch.setattr(masked, "Device", device)
    found = summed(vectors)
    assert found.aborted is None
    assert found.count == CLIENTS - 1
    assert found.vector is not None
    assert found.vector.tolist() == (np.delete(vectors, 3, 0).sum(0) % (1 << 20)).tolist()
    assert [one.phase for one in made] == ["done"] * 3 + ["aborted"] + ["done"] * 4
