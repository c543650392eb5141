"""A little of S3: lists, heads and ranges of objects in memory, with failures when asked for; objects that are put and deleted."""

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

DATE, MODIFIED = "Mon, 01 Jan 2024 00:00:00 GMT", "2024-01-01T00:00:00.000Z"


class FakeS3:
    """Objects by `bucket/key`.

    Attributes:
        objects: their bytes.
        asked: `(method, bucket/key, bytes sent)` of every request.
        failures: what happens to the next reads of objects, one each: a status, or "cut" in the middle of the bytes.
        down: every read of an object fails.
        delay: seconds before every answer.
        refused: every request is: what a caller without credentials sees.
        authorization: headers that were sent.
    """

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, int]] = []
        self.failures: list[int | str] = []
        self.down, self.refused, self.delay = False, False, 0.0
        self.authorization: list[str | None] = []

    def put(self, folder: Path, prefix: str) -> None:
        """The files of a folder as objects."""
        for path in sorted(folder.glob("*.parquet")):
            self.objects[f"{prefix}/{path.name}"] = path.read_bytes()

    def sent(self) -> int:
        """Bytes of objects that were read."""
        return sum(count for method, _, count in self.asked if method == "GET")


@lru_cache(maxsize=1000)
def _digest(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # headers and body at once: otherwise a client waits for the second packet
    s3: FakeS3

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        self._send(status, body, {"Content-Type": "application/xml"})

    def do_GET(self) -> None:
        s3, url = self.s3, urlsplit(self.path)
        name, query = unquote(url.path).strip("/"), parse_qs(url.query)
        s3.authorization.append(self.headers.get("Authorization"))
        time.sleep(s3.delay)
        if s3.refused:
            return self._error(403, "AccessDenied")
        if "/" not in name:
            return self._list(name, query)
        if name not in s3.objects:
            s3.asked.append((self.command, name, 0))
            return self._error(404, "NoSuchKey")
        failure = s3.failures.pop(0) if s3.failures and self.command == "GET" else None
        if s3.down and self.command == "GET":
            failure = 503
        if isinstance(failure, int):
            return self._error(failure, "SlowDown")
        body = s3.objects[name]
        headers = {"ETag": f'"{_digest(body)}"', "Last-Modified": DATE}
        status, length = 200, len(body)
        if "Range" in self.headers:
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            body, status = body[int(first) : int(last or length) + 1], 206
            headers["Content-Range"] = f"bytes {first}-{int(first) + len(body) - 1}/{length}"
        headers["Content-Length"] = str(len(body))
        s3.asked.append((self.command, name, len(body)))
        if failure == "cut":
            self.close_connection = True
            body = body[: len(body) // 2]
        self._send(status, body, headers)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        name = unquote(urlsplit(self.path).path).strip("/")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.s3.asked.append((self.command, name, len(body)))
        if self.s3.refused:
            return self._error(403, "AccessDenied")
        self.s3.objects[name] = body
        self._send(200, headers={"ETag": f'"{_digest(body)}"'})

    def do_POST(self) -> None:
        """Delete objects by a list."""
        bucket = unquote(urlsplit(self.path).path).strip("/")
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        keys = re.findall(r"<Key>(.*?)</Key>", asked)
        for key in keys:
            self.s3.objects.pop(f"{bucket}/{unescape(key)}", None)
        gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._send(200, f"<DeleteResult>{gone}</DeleteResult>".encode(), {"Content-Type": "application/xml"})

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        names = [name.partition("/")[2] for name in sorted(self.s3.objects) if name.split("/")[0] == bucket]
        if not names:
            return self._error(404, "NoSuchBucket")
        prefix = query.get("prefix", [""])[0]
        names = [name for name in names if name.startswith(prefix)]
        found = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(self.s3.objects[f'{bucket}/{name}'])}</Size>"
            f"<LastModified>{MODIFIED}</LastModified></Contents>"
            for name in names
        )
        listed = f"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>{len(names)}</KeyCount>{found}</ListBucketResult>"
        self._send(200, listed.encode(), {"Content-Type": "application/xml"})


@contextmanager
def fake_s3() -> Iterator[FakeS3]:
    """A server on this machine, while it is needed."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.s3 = FakeS3(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield handler.s3
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
