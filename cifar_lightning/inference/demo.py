"""`python -m cifar_lightning demo`: a page on this machine, for this machine: drop a picture, see what the net sees.

The standard library's server and one page are all that it needs. It listens on the loopback address alone, touches no
file for a request, and answers only to its own name and its own page.
"""

import argparse
import base64
import contextlib
import hashlib
import html
import io
import json
import re
import signal
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from cifar_lightning.errors import ImageError, OutputError
from cifar_lightning.inference.options import Parser, load_predictor
from cifar_lightning.inference.output import conditions
from cifar_lightning.inference.predictor import Predictor
from cifar_lightning.inference.preprocess import decode

ADDRESS = "127.0.0.1"
PORT = 8000
MAX_UPLOAD_BYTES = 32 * 2**20
MAX_REQUESTS = 4  # at once: each may hold an upload
PATIENCE_S = 20.0  # for a client that says nothing
PAGE = Path(__file__).with_name("demo.html")


def main(argv: list[str]) -> int:
    """Serves the page until Ctrl-C.

    Raises:
        ConfigError: a flag is wrong.
        CheckpointError: there is no such checkpoint, or it cannot be used.
        OutputError: the port is taken.
    """
    options = _parse(argv)
    predictor = load_predictor(options)
    with DemoServer(predictor, options.port) as server:
        print(f"weights  {predictor.trained}, {conditions(predictor)}")
        with contextlib.suppress(KeyboardInterrupt):
            address = f"http://{ADDRESS}:{server.server_port}"
            print(f"page     {address}  (only from this machine; Ctrl-C ends it)", flush=True)
            server.serve_forever()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # this is the end already: Ctrl-C again changes nothing
        server.one_prediction.acquire()  # a thread that torch runs in must not be cut off
    print("\nended    by Ctrl-C")
    return 0


class DemoServer(ThreadingHTTPServer):
    """The page and its one question, on the loopback address.

    Args:
        predictor: answers.
        port: 0 takes any free one.

    Raises:
        OutputError: the port is taken.
    """

    daemon_threads = True  # the end does not wait for browsers: they open connections and say nothing for long

    def __init__(self, predictor: Predictor, port: int) -> None:
        self.predictor = predictor
        self.page, self.policy = _page(predictor)
        self.one_prediction = threading.Lock()
        self.places = threading.BoundedSemaphore(MAX_REQUESTS)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise OutputError(f"cannot listen on {ADDRESS}:{port}: {error.strerror}; give another --port") from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves in the middle is none; anything else is said in a line, and the server goes on."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            print(f"error: {type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)

    @property
    def own_names(self) -> tuple[str, ...]:
        """What a browser that shows our page has in its address bar."""
        return tuple(f"{name}:{self.server_port}" for name in (ADDRESS, "localhost"))

    def answer(self, body: bytes) -> dict[str, Any]:
        """What the page shows of an uploaded picture.

        Raises:
            ImageError: it cannot be decoded.
        """
        pixels, seen = decode(io.BytesIO(body)), io.BytesIO()
        Image.fromarray(pixels).save(seen, "PNG")
        with self.one_prediction:
            (prediction,) = self.predictor.predictions(torch.from_numpy(pixels[None]))
        shares = [{"class": name, "probability": share} for name, share in prediction.top(len(prediction.class_names))]
        return {
            "seen": f"data:image/png;base64,{base64.b64encode(seen.getvalue()).decode('ascii')}",
            "probabilities": shares,
        }


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer
    timeout = PATIENCE_S
    protocol_version = "HTTP/1.0"  # each answer ends its connection, and its thread with it
    server_version, sys_version = "cifar_lightning", ""

    def do_GET(self) -> None:
        """The page."""
        if not self._is_for_us():
            return
        if self.path == "/":
            self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is one page, and it is at /")

    def do_POST(self) -> None:
        """A picture's bytes as the body; the verdict as JSON."""
        self.close_connection = True  # whatever of the body is not read must not be taken for the next request
        if not self._is_for_us():
            return
        if problem := self._problem():
            self._refuse(*problem)
        elif not self.server.places.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "busy with other pictures; try once more")
        else:
            try:
                answer = self.server.answer(self.rfile.read(int(self.headers["Content-Length"])))
            except ImageError as error:
                self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, f"this file {error}")
            else:
                self._send(HTTPStatus.OK, json.dumps(answer).encode(), "application/json")
            finally:
                self.server.places.release()

    def _problem(self) -> tuple[HTTPStatus, str] | None:
        """What is wrong with the head of a request for a verdict."""
        if self.path != "/predict":
            return HTTPStatus.NOT_FOUND, "pictures are sent to /predict"
        # A page of another site may send a form here without asking; it cannot leave out its own name.
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{name}" for name in self.server.own_names}:
            return HTTPStatus.FORBIDDEN, "this page answers only itself"
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,18}", length):
            return HTTPStatus.LENGTH_REQUIRED, "how long is the picture?"
        if int(length) > MAX_UPLOAD_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the picture is larger than {MAX_UPLOAD_BYTES // 2**20} MiB"
        return None

    def _is_for_us(self) -> bool:
        # Another site can make its own name point to this machine (DNS rebinding); its name stands in the request.
        if self.headers.get("Host") in self.server.own_names:
            return True
        self._refuse(HTTPStatus.MISDIRECTED_REQUEST, f"this is http://{self.server.own_names[0]}")
        return False

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True
        self._send(status, json.dumps({"error": reason}).encode(), "application/json")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The server's own complaints (a broken request, another method), as JSON too."""
        self._refuse(HTTPStatus(code), message or HTTPStatus(code).phrase)

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Content-Security-Policy": self.server.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            **({"Connection": "close"} if self.close_connection else {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the page says what happens."""


def _page(predictor: Predictor) -> tuple[bytes, str]:
    """The page, and the policy that lets a browser run this page's own script and nothing else."""
    trained = predictor.trained
    text = PAGE.read_text(encoding="utf-8")
    for key, value in {
        "CLASSES": ", ".join(trained.class_names),
        "WEIGHTS": f"{trained.recipe}, seed {trained.seed}, trained on {trained.source} for {trained.length}",
        "CONDITIONS": conditions(predictor),
    }.items():
        text = text.replace(f"{{{{{key}}}}}", html.escape(value))
    digests = {}
    for tag in ("script", "style"):
        found = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert found is not None
        digests[tag] = base64.b64encode(hashlib.sha256(found.group(1).encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; script-src 'sha256-{digests['script']}'; style-src 'sha256-{digests['style']}'; "
        "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text.encode(), policy


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("demo", "A page on this machine: drop a picture, see what the net saw and what it makes of it.")
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"default: {PORT}; 0 takes a free one")
    parser.add_device_flags()
    options = parser.parse(argv)
    if not 0 <= options.port < 2**16:
        parser.error(f"--port must be from 0 to 65535, got {options.port}")
    return options
