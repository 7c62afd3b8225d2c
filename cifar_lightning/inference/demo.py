"""`python -m cifar_lightning demo`: a page on this machine, for this machine: drop a picture, see what the net sees."""

import argparse
import contextlib
import gc
import importlib.util
import os
import signal
import socket
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any

import torch

from cifar_lightning.errors import ConfigError, ImageError, OutputError
from cifar_lightning.inference.options import Parser, load_predictor
from cifar_lightning.inference.output import conditions
from cifar_lightning.inference.predictor import Predictor
from cifar_lightning.inference.preprocess import decode

ADDRESS, PORT = "127.0.0.1", 8000
MAX_UPLOAD = "32mb"
# The browser fetches nothing from elsewhere, whatever gradio's page names; its scripts need the two 'unsafe'.
POLICY = "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'"


def main(argv: list[str]) -> int:
    """Serves the page until Ctrl-C; raises UserError: a flag, the weights or the port is wrong, gradio is missing."""
    options = _parse(argv)
    predictor, one_prediction = load_predictor(options), threading.Lock()
    with _listen(options.port) as listener, tempfile.TemporaryDirectory() as uploads:
        # gradio reads these when it is imported: it reports nothing to its makers, and no upload outlives the page.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": uploads}
        server = make_server(predictor, one_prediction)
        gc.freeze()  # gradio's many objects all stay; at the end, to search them for garbage would take seconds
        warnings.filterwarnings("ignore", "coroutine 'Server.serve' was never awaited")  # Ctrl-C before its first step
        print(f"weights  {predictor.trained}, {conditions(predictor)}")
        with contextlib.suppress(KeyboardInterrupt):
            address = f"http://{ADDRESS}:{listener.getsockname()[1]}"
            print(f"page     {address}  (only from this machine; Ctrl-C ends it)", flush=True)
            server.run(sockets=[listener])
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # this is the end already: Ctrl-C again changes nothing
        one_prediction.acquire()  # a thread that torch runs in must not be cut off
    print("\nended    by Ctrl-C")
    return 0


def make_server(predictor: Predictor, one_prediction: threading.Lock) -> Any:
    """The uvicorn server of the page, for `run(sockets=...)`; `one_prediction` is held while the net runs.

    Not gradio's own `launch`, which takes no free port and may wait for a browser that is connected.
    """
    import gradio
    import uvicorn
    from fastapi import FastAPI, Request, Response
    from fastapi.middleware.trustedhost import TrustedHostMiddleware

    def answer(path: str) -> tuple[Any, dict[str, float]]:
        try:
            pixels = decode(Path(path))
        except ImageError as error:
            raise gradio.Error(f"this file {error}", print_exception=False) from error
        with one_prediction:
            (prediction,) = predictor.predictions(torch.from_numpy(pixels[None]))
        return pixels.repeat(8, axis=0).repeat(8, axis=1), dict(prediction.top(len(prediction.class_names)))

    with gradio.Blocks(title="What the net sees", analytics_enabled=False) as page:
        gradio.Markdown("# What the net sees\nThe centre square of a picture, made 32 by 32 pixels.")
        with gradio.Row():
            upload = gradio.File(label="A picture")
            seen = gradio.Image(label="What the net saw", format="png", buttons=[], interactive=False)
            shares = gradio.Label(label=f"{predictor.trained.recipe}, {conditions(predictor)}")
        verdict = upload.upload(answer, upload, [seen, shares], api_visibility="private")
        for outcome in (verdict.success, verdict.failure):  # the next picture can be dropped
            outcome(lambda: None, None, upload, api_visibility="private")

    app = FastAPI(openapi_url=None)

    async def only_own_page(request: Request, call_next: Any) -> Response:
        if request.url.path != "/" and request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return Response("this page answers only itself", 403)
        response: Response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    app.middleware("http")(only_own_page)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[ADDRESS, "localhost"])  # against DNS rebinding
    theme = gradio.themes.Default(font="system-ui", font_mono="monospace")
    closed: dict[str, Any] = {"footer_links": [], "run_history": False, "ssr_mode": False, "mcp_server": False}
    gradio.mount_gradio_app(app, page, "/", max_file_size=MAX_UPLOAD, theme=theme, **closed)
    # A page keeps a request open for as long as it is shown, so the end waits for none.
    return uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=0))


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((ADDRESS, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise OutputError(f"cannot listen on {ADDRESS}:{port}: {reason}; give another --port") from error


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("demo", "A page on this machine: drop a picture, see what the net saw and what it makes of it.")
    parser.add_argument("--port", type=int, default=PORT, metavar="N", help=f"default: {PORT}; 0 takes a free one")
    parser.add_device_flags()
    options = parser.parse(argv)
    if not 0 <= options.port < 2**16:
        parser.error(f"--port must be from 0 to 65535, got {options.port}")
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("demo needs the package gradio: install the extra with pip install 'cifar_lightning[demo]'")
    return options
