"""What the owner of a device is told of it, in plain words."""

from fairyring.device.agent import Agent
from fairyring.device.eligibility import Conditions
from fairyring.device.examples import ExampleStore
from fairyring.device.folder import DeviceFolder
from fairyring.device.ledger import DeviceLedger
from fairyring.device.page import Holding, OwnerState, Participation, Refusal, Totals
from fairyring.device.settings import DeviceSettings

SHOWN = 50  # participations and refusals

_OUTCOMES = {
    "summed": "in the sum",
    "aborted": "without a sum: too few devices stayed, and what this device sent was of no use",
    "left": "left before it was over",
    "begun": "going on",
    "contributed": "sent; how it ended is not known yet",
}


def owner_state(
    settings: DeviceSettings,
    folder: DeviceFolder,
    store: ExampleStore,
    ledger: DeviceLedger,
    agent: Agent | None,
    conditions: Conditions,
) -> OwnerState:
    """What is shown of a device; without an agent it is not running."""
    eligibility, totals = conditions.now(), ledger.totals()
    return OwnerState(
        device=folder.identity.public.hex()[:16],
        name=settings.name,
        service=settings.server,
        on=settings.on if agent is None else agent.on,
        doing="not running" if agent is None else agent.status.doing,
        eligible=eligibility.eligible,
        why_not=eligibility.reasons if agent is None else (*eligibility.reasons, *agent.status.why_not),
        examples=tuple(
            Holding(
                source=one.name,
                consent=one.consent,
                number=one.number,
                oldest=one.oldest,
                kept_until=one.kept_until,
            )
            for one in store.sources()
        ),
        taken_part=tuple(
            Participation(
                when=one.ended or one.contributed or one.began,
                plan=one.name,
                author=one.author.hex()[:16],
                round=one.round,
                outcome=_OUTCOMES[one.state],
                bytes_up=one.bytes,
                masked=one.masked,
                epsilon=one.epsilon or None,
            )
            for one in ledger.history(SHOWN)
        ),
        refused=tuple(Refusal(when=one.last, what=one.what, why=one.why) for one in ledger.refusals(SHOWN)),
        totals=Totals(
            rounds=totals.contributions,
            bytes_up=totals.bytes,
            bytes_down=agent.received() if agent is not None else 0,
        ),
        caps=_caps(settings),
        promises=_promises(settings),
    )


def _caps(settings: DeviceSettings) -> tuple[str, ...]:
    said = ["In no plan does this device take part more often than its author has signed."]
    if settings.per_day is not None:
        said.append(f"It takes part at most {settings.per_day} times in 24 hours.")
    only = [
        word
        for wanted, word in (
            (settings.idle, "nobody uses it"),
            (settings.charging, "it is charging"),
            (settings.unmetered, "its network is free"),
        )
        if wanted
    ]
    if only:
        said.append(f"It trains only while {' and '.join(only)}.")
    return tuple(said)


def _promises(settings: DeviceSettings) -> tuple[str, ...]:
    said = [
        "Examples never leave this device.",
        "Only plans signed by an author whom this device trusts are run: "
        + (", ".join(author[:16] for author in settings.authors) or "nobody yet")
        + ".",
    ]
    if settings.rehearsal is not None:
        said.append("This is a rehearsal: what this device draws is known to others, and protects nobody.")
    return tuple(said)
