"""The tables of a service. A change here needs a migration in `migrations/versions`; a test compares the two."""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

REVISIONS = ("0001",)  # every version of the schema, oldest first; the last one is this program's

metadata = MetaData()

# A transaction writes a random number here, so that one whose commit was cut off can tell whether it took effect.
receipts = Table(
    "receipts",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("at", Double, nullable=False),
    Index("receipts_at", "at"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("quota", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=False),
    Column("expires", Double, nullable=False),
    Column("created", Double, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("name", Text, nullable=False),
    Column("enrolled", Double, nullable=False),
    Column("token", LargeBinary, ForeignKey("tokens.digest")),
    Column("revoked", Double),
    Column("reason", Text, nullable=False),
    Column("seen", Double),
    Column("version", Text, nullable=False),
    Column("runtime", Text, nullable=False),
)

offences = Table(
    "offences",
    metadata,
    Column("device", LargeBinary, primary_key=True),
    Column("session", LargeBinary, primary_key=True),
    Column("at", Double, nullable=False),
)

operators = Table(
    "operators",
    metadata,
    Column("name", Text, primary_key=True),
    Column("password", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created", Double, nullable=False),
)

logins = Table(
    "logins",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("name", Text, ForeignKey("operators.name", ondelete="CASCADE"), nullable=False),
    Column("expires", Double, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("request", LargeBinary, unique=True),
    Column("name", Text, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("author", LargeBinary, nullable=False),
    Column("settings", Text, nullable=False),
    Column("wanted", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("progress", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("until", Double, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("run", Text, ForeignKey("runs.id"), nullable=False),
    Column("round", BigInteger, nullable=False),
    Column("opened", Double, nullable=False),
    Column("facts", Text, nullable=False),
    Column("progress", Text, nullable=False),
    Column("ended", Double),
    Column("outcome", Text),
    Column("reason", Text, nullable=False),
    Column("count", BigInteger),
    Column("forgotten", Integer, nullable=False),
    Column("result", LargeBinary),
    Index("sessions_run", "run", "round"),
)

records = Table(
    "records",
    metadata,
    Column("session", LargeBinary, ForeignKey("sessions.id"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

reports = Table(
    "reports",
    metadata,
    Column("session", LargeBinary, ForeignKey("sessions.id"), primary_key=True),
    Column("device", LargeBinary, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("at", Double, nullable=False),
    Column("outcome", Text),
)

nonces = Table(
    "nonces",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("nonce", LargeBinary, primary_key=True),
    Column("until", Double, nullable=False),
    Index("nonces_until", "until"),
)
