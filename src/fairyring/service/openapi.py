"""The routes of a service as an OpenAPI 3.1 document."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import msgspec

from fairyring import messages
from fairyring._version import __version__
from fairyring.messages.forms import MEDIA

_JSON, _BYTES, _HTML, _TEXT = "application/json", "application/octet-stream", "text/html", "text/plain"


class Described(NamedTuple):
    """A route: what it does, the forms of its body and of its answers, and their media type."""

    summary: str
    body: str | None = None
    answers: tuple[str, ...] = ()
    media: str = _JSON
    given: str | None = None


# Of devices, by method and path; see the page on the protocol.
_DEVICES: Mapping[tuple[str, str], Described] = {
    ("GET", "/v1/about"): Described("What the service is", None, ("About",), MEDIA),
    ("POST", "/v1/enrol"): Described("Enrol a device", "Enrol", ("Enrolled",), MEDIA, MEDIA),
    ("POST", "/v1/check-in"): Described("Ask what to do", "CheckIn", ("Later", "Invitation"), MEDIA, MEDIA),
    ("POST", "/v1/sessions/{session}"): Described("Take a turn in a session", None, ("Turn",), MEDIA, _BYTES),
    ("POST", "/v1/sessions/{session}/leave"): Described("Leave a session", "Leave", ("Left",), MEDIA, MEDIA),
    ("GET", "/v1/blobs/{digest}"): Described("Bytes by their digest, or what changed", media=_BYTES),
}
_OPERATORS: Mapping[tuple[str, str], Described] = {
    ("POST", "/v1/login"): Described("Sign in", given=_JSON),
    ("POST", "/v1/logout"): Described("Sign out"),
    ("GET", "/v1/me"): Described("Who has signed in"),
    ("GET", "/v1/snapshot"): Described("What the service does"),
    ("GET", "/v1/events"): Described("What it does, as it happens", media="text/event-stream"),
    ("POST", "/v1/runs"): Described("Submit a plan", given=MEDIA),
    ("GET", "/v1/runs/{run}"): Described("A run"),
    ("GET", "/v1/runs/{run}/report"): Described("A run's report", media=_HTML),
    ("GET", "/v1/runs/{run}/log"): Described("What conducted a run said", media=_TEXT),
    ("POST", "/v1/runs/{run}/want"): Described("Pause, continue or cancel a run", given=_JSON),
    ("PUT", "/v1/blobs/{digest}"): Described("Send a program", given=_BYTES),
    ("POST", "/v1/tokens"): Described("Make a token for enrolment", given=_JSON),
    ("GET", "/v1/devices"): Described("All devices"),
    ("POST", "/v1/devices"): Described("Allow keys", given=_JSON),
    ("POST", "/v1/devices/{key}/revoke"): Described("Revoke a device", given=_JSON),
    ("GET", "/v1/audit"): Described("What operators did"),
    ("GET", "/healthz"): Described("Whether the process runs", media=_TEXT),
    ("GET", "/readyz"): Described("Whether the database can be reached", media=_TEXT),
    ("GET", "/metrics"): Described("Metrics for Prometheus", media=_TEXT),
    ("GET", "/v1/openapi.json"): Described("This document"),
}
_OPEN = {"/v1/about", "/healthz", "/readyz", "/v1/login", "/v1/openapi.json"}


@cache
def document() -> bytes:
    """The document as JSON."""
    kinds = [getattr(messages, name) for name in sorted(_forms())]
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for devices, table in ((True, _DEVICES), (False, _OPERATORS)):
        for (method, path), described in table.items():
            paths.setdefault(path, {})[method.lower()] = _operation(path, described, devices=devices)
    headers = {
        name: {"type": "apiKey", "in": "header", "name": f"fairyring-{name}"}
        for name in ("key", "time", "nonce", "signature")
    }
    schemes = {**headers, "operator": {"type": "http", "scheme": "bearer"}}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "fairyring", "version": __version__},
            "paths": paths,
            "components": {"schemas": schemas, "securitySchemes": schemes},
        }
    )


def _forms() -> set[str]:
    used = {name for one in _DEVICES.values() for name in (*one.answers, one.body) if name is not None}
    return {*used, "Problem"}


def _operation(path: str, described: Described, *, devices: bool) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)\}", path)
    answers = [{"$ref": f"#/components/schemas/{name}"} for name in described.answers]
    schema: dict[str, Any] = answers[0] if len(answers) == 1 else {"oneOf": answers} if answers else {}
    problem = {MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}}} if devices else {_JSON: {}}
    signed: dict[str, list[str]] = {name: [] for name in ("key", "time", "nonce", "signature")}
    found: dict[str, Any] = {
        "summary": described.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ],
        "security": [] if path in _OPEN else [signed] if devices else [{"operator": []}],
        "responses": {
            "200": {"description": "Done", "content": {described.media: {"schema": schema}}},
            "default": {"description": "Refused, and why", "content": problem},
        },
    }
    if described.given is not None:
        form = {} if described.body is None else {"$ref": f"#/components/schemas/{described.body}"}
        found["requestBody"] = {"content": {described.given: {"schema": form}}}
    return found
