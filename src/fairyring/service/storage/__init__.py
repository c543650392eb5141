"""What a service keeps: devices, operators, runs, sessions and their logs, leases, nonces and an audit log, in SQLite or PostgreSQL."""

from fairyring.core.errors import MissingExtra

try:
    import sqlalchemy as _sqlalchemy
except ImportError as error:
    raise MissingExtra("sqlalchemy", extra="service", purpose="the service's database") from error

from fairyring.service.storage.audit import Audit, Head, Noted
from fairyring.service.storage.database import Database, Lease
from fairyring.service.storage.enrolment import Device, Devices, Seen, Token, Tokens
from fairyring.service.storage.everything import Storage
from fairyring.service.storage.leases import Holder, Leases
from fairyring.service.storage.nonces import Nonces
from fairyring.service.storage.operators import Operator, Operators, Role
from fairyring.service.storage.runs import OVER, Run, Runs, State, Wanted
from fairyring.service.storage.session_log import SessionLog
from fairyring.service.storage.sessions import Outcome, Report, Sessions, StoredSession

__all__ = [
    "OVER",
    "Audit",
    "Database",
    "Device",
    "Devices",
    "Head",
    "Holder",
    "Lease",
    "Leases",
    "Nonces",
    "Noted",
    "Operator",
    "Operators",
    "Outcome",
    "Report",
    "Role",
    "Run",
    "Runs",
    "Seen",
    "SessionLog",
    "Sessions",
    "State",
    "Storage",
    "StoredSession",
    "Token",
    "Tokens",
    "Wanted",
]

assert _sqlalchemy
