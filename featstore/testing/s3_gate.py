"""A server between a program and the S3 server, which fails requests in the way that a test asks for."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import werkzeug
from werkzeug.serving import WSGIRequestHandler, make_server

__all__ = ["Gate", "Request", "s3_gate"]

_ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>as the test wants it</Message></Error>"


@dataclass
class Request:
    """A request on its way; ``headers`` may be changed."""

    method: str
    path: str
    headers: dict[str, str]


# what becomes of a request: None passes it on, a code of S3's answers it, "cut" breaks off in the middle of the answer
Rule = Callable[[Request], str | None]

_STATUS = {"AccessDenied": 403, "InvalidAccessKeyId": 403, "SlowDown": 503, "InternalError": 500, "NotImplemented": 501}
_HOPS = ("Connection", "Transfer-Encoding", "Date", "Server")  # headers of one connection, which each server sets


@dataclass
class Gate:
    """The running server: set ``rule`` at any time; ``seen`` lists the requests."""

    endpoint: str = ""
    rule: Rule = lambda request: None
    seen: list[tuple[str, str]] = field(default_factory=list)


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def s3_gate(target: str) -> Iterator[Gate]:
    """Run a gate in front of the server at ``target``."""
    gate = Gate()

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        asked = werkzeug.Request(environ)
        request = Request(asked.method, environ["REQUEST_URI"], dict(asked.headers))
        gate.seen.append((request.method, request.path))
        body, verdict = asked.get_data(), gate.rule(request)  # what was sent is read, whatever becomes of it
        if verdict is not None and verdict != "cut":
            refusal = _ERROR.format(code=verdict)
            return werkzeug.Response(refusal, _STATUS[verdict], mimetype="application/xml")(environ, start_response)
        onward = http.client.HTTPConnection(urlsplit(target).netloc, timeout=60)
        headers = {n: v for n, v in request.headers.items() if n not in ("Connection", "Transfer-Encoding")}
        onward.request(request.method, request.path, body, headers)
        found = onward.getresponse()
        content = found.read()
        start_response(f"{found.status} {found.reason}", [(n, v) for n, v in found.getheaders() if n not in _HOPS])
        onward.close()
        return [content[: len(content) // 2] if verdict == "cut" else content]

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=_Quiet)
    gate.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield gate
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
