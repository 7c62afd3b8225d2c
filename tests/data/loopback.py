"""A web server on 127.0.0.1 that misbehaves to order and remembers what it was asked."""

import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType


@dataclass
class Seen:
    """One request: its Range header ("" for none) and how many bytes of the body it was sent."""

    path: str
    range: str
    sent_bytes: int = 0


@dataclass
class Loopback:
    """Serves `body` at every path. Lists are used up, one entry a request; then the server behaves."""

    body: bytes
    ranges: bool = True
    # Close the connection after so many bytes.
    drop_after_bytes: list[int] = field(default_factory=list)
    # Send so many bytes, then nothing until the server closes.
    hang_after_bytes: list[int] = field(default_factory=list)
    # Seconds between kilobytes.
    trickle_seconds: float = 0.0
    # Seconds before each body.
    delay_seconds: float = 0.0
    status: int = 200
    redirect_to: str = ""
    has_length: bool = True
    # What a Content-Range header says instead of the truth.
    content_range: str = ""
    requests: list[Seen] = field(default_factory=list)

    def __enter__(self) -> "Loopback":
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        # Polled, for shutdown waits for the next poll.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.host}/cifar-10-python.tar.gz"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        seen = Seen(request.path, request.headers.get("Range", ""))
        self.requests.append(seen)
        if self.redirect_to:
            request.send_response(302)
            request.send_header("Location", self.redirect_to)
            request.end_headers()
            return
        if self.status != 200:
            request.send_error(self.status)
            return
        asked = re.fullmatch(r"bytes=(\d+)-", seen.range) if self.ranges else None
        start = int(asked[1]) if asked else 0
        if start and start >= len(self.body):
            request.send_error(416)
            return
        request.send_response(206 if asked else 200)
        if asked:
            truth = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
            request.send_header("Content-Range", self.content_range or truth)
        if self.has_length:
            request.send_header("Content-Length", str(len(self.body) - start))
        request.end_headers()
        time.sleep(self.delay_seconds)
        self._send(request, seen, self.body[start:])

    def _send(self, request: BaseHTTPRequestHandler, seen: Seen, body: bytes) -> None:
        hangs = bool(self.hang_after_bytes)
        if hangs:
            body = body[: self.hang_after_bytes.pop(0)]
        elif self.drop_after_bytes:
            body = body[: self.drop_after_bytes.pop(0)]
        step = 1000 if self.trickle_seconds else len(body) or 1
        for offset in range(0, len(body), step):
            block = body[offset : offset + step]
            seen.sent_bytes += len(block)  # before it goes: whoever has received it sees it counted
            request.wfile.write(block)
            if self.trickle_seconds and self._closing.wait(self.trickle_seconds):
                return
        if hangs:
            self._closing.wait()


def _handler(server: Loopback) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                server.answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client has lost patience, as it should

        def log_message(self, format: str, *arguments: object) -> None:
            """Not into the tests' output."""

    return Handler
