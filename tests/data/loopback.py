"""A web server on 127.0.0.1 that misbehaves to order and remembers what it was asked."""

import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Loopback:
    """Serves `body` at every path."""

    body: bytes
    status: int = 200
    redirect_to: str = ""
    # Close the connection after so many bytes, or send nothing more until the server stops.
    drop_after_bytes: int | None = None
    hang_after_bytes: int | None = None
    # Seconds before each body.
    delay_s: float = 0.0
    # The paths of the GET requests.
    requests: list[str] = field(default_factory=list)

    def __enter__(self) -> "Loopback":
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        # Polled, for shutdown waits for the next poll.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
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

    def answer(self, request: BaseHTTPRequestHandler, has_body: bool) -> None:
        if self.status != 200:
            request.send_error(self.status)
            return
        request.send_response(302 if self.redirect_to else 200)
        if self.redirect_to:
            request.send_header("Location", self.redirect_to)
        request.send_header("Content-Length", str(len(self.body)))
        request.end_headers()
        if has_body:
            time.sleep(self.delay_s)
            request.wfile.write(self.body[: self.drop_after_bytes][: self.hang_after_bytes])
            if self.hang_after_bytes is not None:
                self._closing.wait()


def _handler(server: Loopback) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            server.answer(self, has_body=False)

        def do_GET(self) -> None:
            server.requests.append(self.path)
            try:
                server.answer(self, has_body=True)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client has left, as it should

        def log_message(self, format: str, *arguments: object) -> None:
            """Not into the tests' output."""

    return Handler
