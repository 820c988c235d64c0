# SPDX-License-Identifier: Apache-2.0
"""An S3 server in this process, for what a real one cannot be made to do.

It knows what every request was (`calls`), can hold one up, fail it or lose its answer (`fault`),
can be one that ignores conditions, and keeps any key. The objects are a dictionary. Signatures are
not looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

BUCKET: Final = "fake-bucket"
META: Final = "x-amz-meta-"
HOLD: Final = 60.0


@dataclass(frozen=True, slots=True)
class Object:
    """A stored object."""

    data: bytes
    meta: Mapping[str, str] = field(default_factory=dict)
    mtime: float = 0.0
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A request: GET, HEAD, PUT, COPY, DELETE, LIST, or one of START, PART, COMPLETE, ABORT."""

    kind: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request.

    Attributes:
        status: The answer instead of the true one.
        drop: Hang up instead of answering.
        done: Do what was asked first.
        hold: Wait for this event before anything.
    """

    status: int = 0
    drop: bool = False
    done: bool = False
    hold: threading.Event | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class FakeS3:
    """The server. A context manager.

    Attributes:
        objects: Key to object; tests may look and change.
        calls: All requests, in the order of their arrival.
        fault: Asked about each request.
        conditions: Whether If-Match and If-None-Match are honoured.
        uploads: Multipart uploads that are neither complete nor aborted.
    """

    def __init__(self, *, conditions: bool = True) -> None:
        self.objects: dict[str, Object] = {}
        self.calls: list[Call] = []
        self.fault: Callable[[Call], Fault | None] = lambda _call: None
        self.conditions = conditions
        self.uploads: dict[str, dict[int, bytes]] = {}
        self._starts: dict[str, tuple[str, dict[str, str]]] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def url(self, root: str = "/", **more: str) -> str:
        """An ovfs backend URL of its bucket."""
        parameters = {
            "root": root,
            "bucket": BUCKET,
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "access_key_id": "fake-key",
            "secret_access_key": "fake-secret",
            **more,
        }
        return f"s3://?{urlencode(parameters)}"

    # The other side's view; the same methods as tests.services.bucket.Bucket has.

    def put(
        self,
        key: str,
        data: bytes,
        meta: Mapping[str, str] | None = None,
        content_type: str | None = None,  # noqa: ARG002  (kept by nobody here)
    ) -> str:
        """Stores an object."""
        made = Object(data, dict(meta or {}), time.time(), f'"{_digest(data)}"')
        with self._lock:
            self.objects[key] = made
        return made.etag

    def get(self, key: str) -> bytes:
        """The content of an object."""
        return self.objects[key].data

    def head(self, key: str) -> Object | None:
        """An object, or None."""
        return self.objects.get(key)

    def keys(self, prefix: str = "") -> list[str]:
        """All keys that start with a prefix."""
        with self._lock:
            return sorted(key for key in self.objects if key.startswith(prefix))

    def delete(self, key: str) -> None:
        """Removes an object."""
        with self._lock:
            self.objects.pop(key, None)

    def count(self, *kinds: str, key: str | None = None) -> int:
        """How many requests of these kinds (all without) there were, about this key if given."""
        return sum(
            (not kinds or call.kind in kinds) and key in {None, call.key} for call in self.calls
        )

    # Requests.

    def answer(self, call: Call) -> _Answer:
        """Does what a request asks for."""
        with self._lock:
            act: Callable[[Call], _Answer] = getattr(self, f"_{call.kind.lower()}")
            return act(call)

    def _refused(self, call: Call) -> bool:
        if not self.conditions:
            return False
        there = self.objects.get(call.key)
        if "if-none-match" in call.headers:
            return there is not None
        wanted = call.headers.get("if-match")
        return wanted is not None and (there is None or there.etag != wanted)

    def _store(self, key: str, data: bytes, meta: Mapping[str, str], etag: str) -> _Answer:
        self.objects[key] = Object(data, dict(meta), time.time(), etag)
        return _Answer(200, headers={"ETag": etag})

    def _put(self, call: Call) -> _Answer:
        if self._refused(call):
            return _Answer(412)
        return self._store(call.key, call.body, _meta(call), f'"{_digest(call.body)}"')

    def _copy(self, call: Call) -> _Answer:
        source = unquote(call.headers["x-amz-copy-source"]).lstrip("/").partition("/")[2]
        there = self.objects.get(source)
        if there is None:
            return _Answer(404)
        answer = self._store(call.key, there.data, there.meta, there.etag)
        body = f"<CopyObjectResult><ETag>{escape(there.etag)}</ETag></CopyObjectResult>"
        return _Answer(200, body.encode(), answer.headers)

    def _get(self, call: Call) -> _Answer:
        there = self.objects.get(call.key)
        if there is None:
            return _Answer(404)
        if call.headers.get("if-match", there.etag) != there.etag:
            return _Answer(412)
        headers = {
            "ETag": there.etag,
            "Last-Modified": formatdate(there.mtime, usegmt=True),
            **{META + key: value for key, value in there.meta.items()},
        }
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", call.headers.get("range", ""))
        if found is None:
            return _Answer(200, there.data, headers)
        first, size = int(found[1]), len(there.data)
        last = min(int(found[2] or size), size - 1)
        if first > last:
            return _Answer(416)
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return _Answer(206, there.data[first : last + 1], headers)

    def _head(self, call: Call) -> _Answer:
        if not call.key:
            return _Answer(200)
        return self._get(call)

    def _delete(self, call: Call) -> _Answer:
        self.objects.pop(call.key, None)
        return _Answer(204)

    def _start(self, call: Call) -> _Answer:
        name = f"upload-{len(self._starts)}"
        self._starts[name] = (call.key, _meta(call))
        self.uploads[name] = {}
        body = f"<UploadId>{name}</UploadId>"
        inner = f"<Bucket>{BUCKET}</Bucket><Key>{escape(call.key)}</Key>{body}"
        return _xml("InitiateMultipartUploadResult", inner)

    def _part(self, call: Call) -> _Answer:
        parts = self.uploads.get(call.query["uploadId"])
        if parts is None:
            return _Answer(404)
        parts[int(call.query["partNumber"])] = call.body
        return _Answer(200, headers={"ETag": f'"{_digest(call.body)}"'})

    def _complete(self, call: Call) -> _Answer:
        name = call.query["uploadId"]
        if name not in self.uploads:
            return _Answer(404)
        if self._refused(call):
            return _Answer(412)
        parts = self.uploads.pop(name)
        key, meta = self._starts[name]
        data = b"".join(parts[number] for number in sorted(parts))
        etag = f'"{_digest(data)}-{len(parts)}"'
        self._store(key, data, meta, etag)
        inner = f"<Key>{escape(key)}</Key><ETag>{escape(etag)}</ETag>"
        return _xml("CompleteMultipartUploadResult", inner)

    def _abort(self, call: Call) -> _Answer:
        self.uploads.pop(call.query["uploadId"], None)
        return _Answer(204)

    def _list(self, call: Call) -> _Answer:
        if "uploads" in call.query:
            return _xml("ListMultipartUploadsResult", "<IsTruncated>false</IsTruncated>")
        prefix = call.query.get("prefix", "")
        after = call.query.get("continuation-token") or call.query.get("start-after", "")
        found = self._found(prefix, call.query.get("delimiter", ""), after)
        page = found[: min(int(call.query.get("max-keys", "1000")), 1000)]
        inner = "".join(self._entry(name) for name in page)
        inner += f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>"
        more = len(found) > len(page)
        inner += f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        if more:
            inner += f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
        return _xml("ListBucketResult", inner)

    def _found(self, prefix: str, delimiter: str, after: str) -> list[str]:
        found = set()
        for key in self.objects:
            if not key.startswith(prefix):
                continue
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            # What is rolled up gets a second slash, so that it is told from a key that ends so.
            found.add(key if cut < 0 else key[: cut + 1] + "\0")
        return sorted(name for name in found if name.rstrip("\0") > after.rstrip("\0"))

    def _entry(self, name: str) -> str:
        if name.endswith("\0"):
            return f"<CommonPrefixes><Prefix>{escape(name[:-1])}</Prefix></CommonPrefixes>"
        there = self.objects[name]
        when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(there.mtime))
        inner = f"<Key>{escape(name)}</Key><LastModified>{when}</LastModified>"
        inner += f"<ETag>{escape(there.etag)}</ETag><Size>{len(there.data)}</Size>"
        return f"<Contents>{inner}<StorageClass>STANDARD</StorageClass></Contents>"


def _digest(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _meta(call: Call) -> dict[str, str]:
    return {key[len(META) :]: text for key, text in call.headers.items() if key.startswith(META)}


def _xml(root: str, inner: str) -> _Answer:
    body = f'<?xml version="1.0" encoding="UTF-8"?><{root}>{inner}</{root}>'
    return _Answer(200, body.encode(), {"Content-Type": "application/xml"})


def _kind(method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    special = {
        "POST": "START" if "uploads" in query else "COMPLETE",
        "PUT": "PART" if "partNumber" in query else "PUT",
        "DELETE": "ABORT" if "uploadId" in query else "DELETE",
        "GET": "GET" if key else "LIST",
    }
    kind = special.get(method, method)
    return "COPY" if kind == "PUT" and "x-amz-copy-source" in headers else kind


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeS3

    def handle_error(self, *_args: Any) -> None:
        """A daemon that is killed hangs up; nobody needs to read of it."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        body = self.rfile.read(int(headers.get("content-length", "0")))
        call = Call(_kind(self.command, key, query, headers), key, query, headers, body)
        fake = self.server.fake
        fake.calls.append(call)
        fault = fake.fault(call)
        if fault is not None and fault.hold is not None:
            fault.hold.wait(HOLD)
        answer = fake.answer(call) if fault is None or fault.done or not _spoils(fault) else None
        if fault is not None and fault.drop:
            self.close_connection = True
            return
        if fault is not None and fault.status:
            answer = _Answer(fault.status)
        assert answer is not None
        with contextlib.suppress(ConnectionError):
            self._send(answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815  (the base class's names)

    def _send(self, answer: _Answer) -> None:
        body = answer.body
        if answer.status >= 400 and self.command != "HEAD":
            code = _CODES.get(answer.status, "InternalError")
            body = f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Says nothing."""


_CODES: Final = {
    403: "AccessDenied",
    404: "NoSuchKey",
    412: "PreconditionFailed",
    503: "SlowDown",
    507: "InsufficientStorage",
}


def _spoils(fault: Fault) -> bool:
    return bool(fault.status or fault.drop)


def failing(*kinds: str, status: int = 403, times: int = 1 << 30) -> Callable[[Call], Fault | None]:
    """A fault for the next so many requests of these kinds."""
    left = [times]

    def fault(call: Call) -> Fault | None:
        if call.kind not in kinds or left[0] <= 0:
            return None
        left[0] -= 1
        return Fault(status=status)

    return fault


def writes(calls: Iterable[Call]) -> list[Call]:
    """Those that change something."""
    return [call for call in calls if call.kind in {"PUT", "COPY", "DELETE", "START", "COMPLETE"}]
