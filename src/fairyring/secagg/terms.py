"""What all parties know before a secure sum, and what follows from it."""

import functools
import math
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from fairyring.core.errors import PlanError
from fairyring.core.packing import packed_size
from fairyring.secagg._committee import Committee
from fairyring.secagg._suite import digest
from fairyring.secagg.graph import (
    COMPLETE_UP_TO,
    GraphParameters,
    Threat,
    adversaries_in,
    session_committee,
    session_graph,
)
from fairyring.secagg.keystream import random_bytes, word_of

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]

CHECK_BITS = 64
MINIMUM_COHORT = 3  # from a sum of two, each learns the other's input
MINIMUM_HONEST = 2  # from a sum with one honest device, the adversaries learn its input


class Terms(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={"minimum_cohort": "fewest", "maximum_cohort": "most"},  # their names in the encoding
):
    """The terms of a plan's secure sums, the same in every round. A device derives them from its signed plan.

    Attributes:
        plan: digest of the plan, 32 bytes.
        length: length of each device's vector.
        modulus_bits: sums are taken modulo `2**modulus_bits`, 16 to 64.
        minimum_cohort: a sum of fewer devices is never released.
        maximum_cohort: a session of more devices is refused, since its sum might overflow.
        threat: how far the server is trusted.
        adversarial_rate: fraction of devices that may work together with the server.
        dropout_rate: fraction of devices that may vanish. Barred devices count as vanished; all adversaries may be
            barred, so the rate must cover them in addition to honest devices that vanish.

    Raises:
        PlanError: a term is out of range, or there is no neighbour graph for `maximum_cohort` devices at these rates.
    """

    plan: Digest
    length: Annotated[int, Meta(ge=1, le=1 << 40)]
    modulus_bits: Annotated[int, Meta(ge=16, le=64)]
    minimum_cohort: Annotated[int, Meta(ge=MINIMUM_COHORT)]
    maximum_cohort: Annotated[int, Meta(ge=MINIMUM_COHORT)]
    threat: Threat = "semi_honest"
    adversarial_rate: float = 0.1
    dropout_rate: float = 0.1

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("length", self.length, 1, 1 << 40),
            ("modulus_bits", self.modulus_bits, 16, 64),
            ("minimum_cohort", self.minimum_cohort, MINIMUM_COHORT, self.maximum_cohort),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise PlanError(
                    f"secure sum {name}",
                    given=repr(value),
                    expected=f"a whole number from {low} to {high}",
                    do=f"Choose {name} in that range"
                    + (
                        ": from a sum of two, each learns the other's input."
                        if name == "minimum_cohort"
                        else "."
                    ),
                )
        self.graph(self.maximum_cohort)
        for name in ("adversarial_rate", "dropout_rate"):
            # 0 and 0.0 are encoded differently, and would give different sessions.
            msgspec.structs.force_setattr(self, name, float(getattr(self, name)))

    def graph(self, devices: int) -> GraphParameters:
        """Degree and threshold in a session of so many devices; every device computes them for itself.

        Raises:
            PlanError: there is no graph for so many devices.
        """
        return session_graph(devices, self.adversarial_rate, self.dropout_rate, self.threat)

    def committee(self, devices: int) -> Committee:
        """The committee of a session of so many devices.

        Raises:
            PlanError: there is no session of so many devices.
        """
        return session_committee(devices, self.adversarial_rate, self.dropout_rate, self.threat)

    @property
    def maximum_adverts(self) -> int:
        """An upper bound on the adverts in a roster: those of all neighbours, and of a committee if there can be one."""
        return self.maximum_cohort - 1 + (self.maximum_cohort if self.sparse else 0)

    @property
    def sparse(self) -> bool:
        """Whether devices may see the adverts of only a few others while the server may lie.

        Then there is a committee, and rosters contain the start of every identity.
        """
        return self.threat == "semi_malicious" and self.maximum_cohort > COMPLETE_UP_TO

    @property
    def checks(self) -> int:
        """Number of check numbers after the vector: a wrong sum passes with probability 2^-64."""
        return math.ceil(CHECK_BITS / self.modulus_bits)

    @property
    def words(self) -> int:
        """Length of a masked vector: the vector and the check numbers."""
        return self.length + self.checks

    @property
    def vector_bytes(self) -> int:
        """Bytes of a masked vector on the wire."""
        return packed_size(self.words, self.modulus_bits)

    def says(self) -> str:
        """What the server learns, and under which assumptions, as text for people."""
        server = {
            "semi_honest": "a server that follows the protocol but looks at everything it receives",
            "semi_malicious": "a server that follows the protocol but may declare any device vanished, and announce different survivors to different devices",
        }[self.threat]
        return (
            f"The server learns the sum of at least {self.minimum_cohort} devices' vectors modulo 2^{self.modulus_bits}, and who "
            f"took part. This holds against {server}, {self._together()}. {self._recovered()} "
            "What the sum itself reveals is for differential privacy to bound."
        )

    def _together(self) -> str:
        """How many devices may work together with the server."""
        adversaries = adversaries_in(self.maximum_cohort, self.adversarial_rate)
        if not adversaries:
            return (
                f"alone: at a rate of {self.adversarial_rate:.0%} none of {self.maximum_cohort} devices may work together with it; one that does "
                "can subtract its own input from the sum"
            )
        return (
            f"together with up to {adversaries} of a session's {self.maximum_cohort} devices; at least {self.minimum_cohort - adversaries} "
            "others are in a sum"
        )

    def _recovered(self) -> str:
        """How many devices may vanish. A barred device counts as vanished."""
        vanished = math.floor(self.dropout_rate * self.maximum_cohort + 1e-9)
        if not vanished:
            return (
                f"The sum is certain to be recovered only if none of {self.maximum_cohort} devices vanishes."
            )
        return f"The sum is recovered if up to {vanished} of {self.maximum_cohort} devices vanish."


class Session:
    """One secure sum: the terms, a round, and the model that the round starts from.

    Devices that were given another plan, round, model or history derive other masks, which do not cancel.

    Args:
        terms: the terms.
        round: number of the round, from 0 to 2^64 - 1.
        model: digest of the model that the round starts from, 32 bytes.
        previous: head of the history before the session, 32 bytes; None if no history is kept. See
            `fairyring.secagg.history`.

    Raises:
        PlanError: the round or a digest is out of range.
    """

    def __init__(self, terms: Terms, round: int, model: bytes, previous: bytes | None = None) -> None:
        if not 0 <= round < 1 << 64:
            raise PlanError(
                "secure sum round",
                given=repr(round),
                expected="a number from 0 to 2^64 - 1",
                do="Give that of the round.",
            )
        for name, value in (("model", model), ("previous", previous)):
            if value is not None and len(value) != 32:
                raise PlanError(
                    f"secure sum {name}",
                    given=f"{len(value)} bytes",
                    expected="a digest of 32 bytes",
                    do="Give that of the round.",
                )
        self.terms, self.round, self.model, self.previous = terms, round, model, previous
        plan = digest("terms", msgspec.msgpack.encode(msgspec.to_builtins(terms, builtin_types=(bytes,))))
        history = () if previous is None else (previous,)
        self.context = digest("context", plan, round.to_bytes(8, "little"), model, *history)

    @functools.cached_property
    def check(self) -> np.ndarray:
        """The check numbers that each device appends, `[terms.checks]`; the server knows what they must add up to."""
        word = word_of(self.terms.modulus_bits)
        stream = random_bytes(digest("check", self.context), self.terms.checks * np.dtype(word).itemsize)
        return np.frombuffer(stream, np.dtype(word).newbyteorder("<")).astype(word) & self.mask

    @property
    def mask(self) -> np.unsignedinteger:
        """The modulus minus 1: a mask of its low bits."""
        return word_of(self.terms.modulus_bits)((1 << self.terms.modulus_bits) - 1)
