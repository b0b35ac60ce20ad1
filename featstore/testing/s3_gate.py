"""A server between a program and the S3 server, which fails requests in the way that a test asks for."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

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


@dataclass
class Gate:
    """The running server: set ``rule`` at any time; ``seen`` lists the requests."""

    endpoint: str = ""
    rule: Rule = lambda request: None
    seen: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def s3_gate(target: str) -> Iterator[Gate]:
    """Run a gate in front of the server at ``target``."""
    gate = Gate()
    behind = urlsplit(target)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def handle_any(self) -> None:
            body = self._body()
            request = Request(self.command, self.path, dict(self.headers))
            gate.seen.append((self.command, self.path))
            verdict = gate.rule(request)
            if verdict is not None and verdict != "cut":
                content = _ERROR.format(code=verdict).encode()
                self._answer(_STATUS[verdict], {"Content-Type": "application/xml"}, content)
                return
            assert behind.hostname is not None
            onward = http.client.HTTPConnection(behind.hostname, behind.port, timeout=60)
            onward.request(self.command, self.path, body, request.headers)
            answer = onward.getresponse()
            content = answer.read()
            headers = {n: v for n, v in answer.getheaders() if n.lower() not in ("connection", "transfer-encoding")}
            self._answer(answer.status, headers, content, cut=verdict == "cut")
            onward.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            del self.headers["Transfer-Encoding"]
            return b"".join(parts)

        def _answer(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
            self.send_response_only(status)
            if self.command != "HEAD":
                headers = {n: v for n, v in headers.items() if n.lower() != "content-length"}
                headers["Content-Length"] = str(len(content))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self.close_connection = True

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    gate.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield gate
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
