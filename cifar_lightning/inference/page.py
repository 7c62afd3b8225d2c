"""The demo's page and its server, with gradio: an extra, so that only the demo imports this module."""

import threading
from pathlib import Path
from typing import Any

import gradio
import h11
import torch
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from cifar_lightning.errors import ImageError
from cifar_lightning.inference.output import conditions
from cifar_lightning.inference.predictor import Predictor
from cifar_lightning.inference.preprocess import decode

MAX_UPLOAD = "32mb"
REQUEST_S = 30.0  # for a request from its first byte to its last: the largest picture takes less than one
# The browser fetches nothing from elsewhere, whatever gradio's page names; its scripts need the two 'unsafe'.
POLICY = "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'"


class Timely(H11Protocol):  # type: ignore[misc]  # uvicorn is not typed here
    """Closes a connection whose request is not whole after `REQUEST_S`, or that says nothing.

    uvicorn waits for ever: a client that sends a byte a second would keep its upload's place.
    """

    def connection_made(self, transport: Any) -> None:
        """Starts the time of the first request."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(REQUEST_S, transport.close)

    def data_received(self, data: bytes) -> None:
        """Ends the time with the request's last byte; the next request's first byte starts it again."""
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._timer.cancel()
        elif self._timer.cancelled():
            self._timer = self.loop.call_later(REQUEST_S, self.transport.close)


def make_server(predictor: Predictor, one_prediction: threading.Lock, host: str) -> uvicorn.Server:
    """The page's server, for `run(sockets=...)`.

    Not gradio's own `launch`, which takes no free port and may wait for a browser that is connected.

    Args:
        predictor: what answers.
        one_prediction: held while the net runs.
        host: the only address that the server is asked under, beside `localhost`.
    """

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
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[host, "localhost"])  # against DNS rebinding
    theme = gradio.themes.Default(font="system-ui", font_mono="monospace")
    closed: dict[str, Any] = {"footer_links": [], "run_history": False, "ssr_mode": False, "mcp_server": False}
    gradio.mount_gradio_app(app, page, "/", max_file_size=MAX_UPLOAD, theme=theme, **closed)
    # A page keeps a request open for as long as it is shown, so the end waits for none.
    return uvicorn.Server(uvicorn.Config(app, http=Timely, log_level="critical", timeout_graceful_shutdown=0))
