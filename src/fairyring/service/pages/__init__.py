"""The dashboard: static files that read what they show from the service that serves them, and the form of what they read.

    GET  /                    the page; its files are under /static/
    POST /v1/login            {"name", "password"}; the answer sets a cookie
    POST /v1/logout
    GET  /v1/me               a `Viewer`; 401 if nobody is signed in
    GET  /v1/snapshot         a `Snapshot`
    GET  /v1/events           server-sent events named "snapshot", each with a `Snapshot`
    GET  /v1/runs/ID?after=N  a `RunDetail` with the rounds after round N
    POST /v1/runs/ID/want     {"what": "run" | "pause" | "cancel"}; 403 for who is no operator

Every POST of the page has the header `Fairyring-Intent: dashboard`, which a page of another site cannot send. A refusal may have the
body {"error": {"what", "given", "expected", "do"}}, which is shown. The files need no inline style or script, so `HEADERS` forbids them.
"""

from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

from fairyring.service.pages.snapshot import (
    Failure,
    Fleet,
    Funnel,
    Process,
    Requests,
    RoundRow,
    RunDetail,
    RunRow,
    Service,
    Snapshot,
    Viewer,
)

__all__ = [
    "FILES",
    "HEADERS",
    "INTENT",
    "Failure",
    "Fleet",
    "Funnel",
    "Process",
    "Requests",
    "RoundRow",
    "RunDetail",
    "RunRow",
    "Service",
    "Snapshot",
    "Viewer",
    "contents",
]

INTENT = ("fairyring-intent", "dashboard")  # the header of every POST

FILES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "/": ("page.html", "text/html; charset=utf-8"),
        "/static/page.css": ("page.css", "text/css; charset=utf-8"),
        "/static/runs.css": ("runs.css", "text/css; charset=utf-8"),
        "/static/icon.svg": ("icon.svg", "image/svg+xml"),
        **{
            f"/static/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
            for name in (
                "main",
                "live",
                "session",
                "elements",
                "words",
                "chart",
                "funnel",
                "overview",
                "actions",
                "details",
                "run",
                "compare",
                "fleet",
            )
        },
    }
)

HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "content-security-policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-cache",
    }
)


def contents() -> dict[str, tuple[bytes, str]]:
    """The files by the path under which they are served: their bytes and their media type."""
    here = files(__name__)
    return {path: ((here / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}
