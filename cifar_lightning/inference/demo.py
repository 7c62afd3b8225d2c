"""`python -m cifar_lightning demo`: a page on this machine, for this machine: drop a picture, see what the net sees."""

import argparse
import gc
import importlib.util
import os
import shutil
import signal
import socket
import tempfile
import threading
from typing import Any

from cifar_lightning.errors import ConfigError, OutputError
from cifar_lightning.inference.options import Parser, load_predictor
from cifar_lightning.inference.output import conditions

ADDRESS, PORT = "127.0.0.1", 8000


def main(argv: list[str]) -> int:
    """Serves the page until Ctrl-C; raises UserError: a flag, the weights or the port is wrong, gradio is missing."""
    options = _parse(argv)
    predictor, one_prediction = load_predictor(options), threading.Lock()
    with _listen(options.port) as listener, tempfile.TemporaryDirectory() as uploads:
        # gradio reads these when it is imported: it reports nothing to its makers, and no upload outlives the page.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": uploads}
        from cifar_lightning.inference.page import make_server

        server, received = make_server(predictor, one_prediction, ADDRESS), list[int]()

        def stop(signum: int, frame: Any) -> None:
            if received:  # the orderly end takes up to two seconds; the user does not want to wait
                shutil.rmtree(uploads, ignore_errors=True)
                os._exit(128 + signum)
            received.append(signum)
            server.should_exit = True

        server.handle_exit = stop  # for as long as it serves; then for the rest
        signal.signal(signal.SIGINT, stop)
        gc.freeze()  # gradio's many objects all stay; at the end, to search them for garbage would take seconds
        print(f"weights  {predictor.trained}, {conditions(predictor)}")
        address = f"http://{ADDRESS}:{listener.getsockname()[1]}"
        print(f"page     {address}  (only from this machine; Ctrl-C ends it)", flush=True)
        server.run(sockets=[listener])
        one_prediction.acquire()  # a thread that torch runs in must not be cut off
    if received[:1] == [signal.SIGTERM]:
        raise SystemExit(128 + signal.SIGTERM)
    print("\nended    by Ctrl-C")
    return 0


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
