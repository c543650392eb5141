"""How a run that was submitted is to be run."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Selection = Literal["plan", "available"]


class RunOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of a run.

    Attributes:
        rounds: how many.
        seed: of all randomness that protects nobody.
        source: digest of the plan's source, a blob, in hexadecimal digits; see `fairyring.service.source`.
        evaluate_every: rounds between evaluations; None for about twenty in a run.
        selection: who is invited to a round. `plan`: as the plan's cohort samples from all enrolled devices, whether or not they are
            there. `available`: of those that checked in lately, any, all equally likely.
        invite: with `available`, how many times as many as a cohort has are invited; those that come first take part.
        seconds: that devices have to report, from the time when they are invited.
        stage_seconds: that they have for each later message of a secure sum.
        tries: how often a round is tried that ends without a sum, before it counts as one without.
        devices: keys of the devices that are the run's clients, in order; None for all that are enrolled.
        sizes: how many examples each of them has, where that is known; only records tell it.
        entropy: 32 bytes from which all noise is made, for rehearsals: then nothing is promised.
    """

    rounds: Annotated[int, Meta(ge=1, lt=1 << 40)]
    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0
    source: str = ""
    evaluate_every: Annotated[int, Meta(ge=1)] | None = None
    selection: Selection = "plan"
    invite: Annotated[float, Meta(ge=1, le=10)] = 1.0
    seconds: Annotated[float, Meta(gt=0, le=86400 * 30)] = 600.0
    stage_seconds: Annotated[float, Meta(gt=0, le=86400)] = 60.0
    tries: Annotated[int, Meta(ge=1, le=100)] = 3
    devices: list[str] | None = None
    sizes: list[int] | None = None
    entropy: str | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return msgspec.to_builtins(self)

    @classmethod
    def read(cls, settings: dict[str, Any]) -> "RunOptions":
        """The inverse of `plain`."""
        return msgspec.convert(settings, cls)


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plan that is submitted: its signed manifest, how it is to be run, and the files that define it.

    Attributes:
        request: 16 random bytes: the same submission again gives the same run.
        manifest: signed.
        options: see `RunOptions`; its `source` is filled in.
        files: relative path -> content.
        entry: the file that defines `plan`.
    """

    request: Annotated[bytes, Meta(min_length=16, max_length=16)]
    manifest: bytes
    options: RunOptions
    files: dict[str, bytes]
    entry: str


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The files that define a plan, as one blob."""

    files: dict[str, bytes]
    entry: str


class Submitted(msgspec.Struct, frozen=True):
    """The run that a submission became."""

    run: str
