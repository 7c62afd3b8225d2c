"""The page: what it answers and refuses, what a browser shows, and how it ends. The server itself is gradio's."""

import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from browser import browser_page, find_browser
from inference.checkpoints import write_checkpoint
from PIL import Image

from cifar_lightning.inference import Predictor
from cifar_lightning.inference.preprocess import decode

Run = Callable[..., tuple[int, str, str]]

HAS_GRADIO = importlib.util.find_spec("gradio") is not None
pytestmark = pytest.mark.skipif(not HAS_GRADIO, reason="needs gradio: pip install -e '.[demo]'")

http = requests.Session()
http.trust_env = False  # no proxy stands between this machine and itself

# The verb in a process that says so on stderr where it looks up a name or leaves this machine.
VERB_ALONE = """
import os, sys
def watch(event, args):
    host = {"socket.getaddrinfo": lambda: args[0], "socket.connect": lambda: args[1][0]}.get(event, lambda: None)()
    if host not in (None, "127.0.0.1", "localhost"):
        print("asks for", host, file=sys.stderr)
        raise OSError("not from here")
sys.addaudithook(watch)
if os.environ.get("REQUEST_S"):
    from cifar_lightning.inference import page
    page.REQUEST_S = float(os.environ["REQUEST_S"])
from cifar_lightning.cli import main
sys.exit(main(["demo", "--port", "0", "--trainer.accelerator", "cpu", *sys.argv[1:]]))
"""


@contextmanager
def demo_process(ckpt: Path, temporary: Path, **more: str) -> Iterator[tuple[Any, str]]:
    """The verb in a process with its temporary files in a folder; and its address."""
    temporary.mkdir()
    command, environment = [sys.executable, "-c", VERB_ALONE, "--ckpt", str(ckpt)], {"TMPDIR": str(temporary), **more}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, env={**os.environ, **environment}) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(2)]
            assert lines[0].startswith(f"weights  {ckpt} (tiny, seed 7,"), process.communicate()
            yield process, lines[1].split()[1]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Predictor, str]]:
    """A running demo: its net and its address."""
    folder = tmp_path_factory.mktemp("demo")
    ckpt = write_checkpoint(folder / "tiny.ckpt")
    with demo_process(ckpt, folder / "temporary") as (_, address):
        yield Predictor.load(ckpt, accelerator="cpu"), address


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A JPEG that is no square."""
    Image.linear_gradient("L").resize((200, 120)).convert("RGB").save(tmp_path / "picture.jpg")
    return tmp_path / "picture.jpg"


def ask(address: str, content: bytes) -> tuple[bool, dict[str, Any]]:
    """Sends a picture as the page does: whether it was answered, and the last message."""
    api, session = f"{address}/gradio_api", {"session_hash": str(time.monotonic_ns())}
    (path,) = http.post(f"{api}/upload", files={"files": ("a.jpg", content)}, timeout=60).json()
    data = {"path": path, "meta": {"_type": "gradio.FileData"}}
    http.post(f"{api}/queue/join", json={"data": [data], "fn_index": 0, **session}, timeout=60).raise_for_status()
    text = http.get(f"{api}/queue/data", params=session, timeout=60).text
    messages = [json.loads(line.removeprefix("data:")) for line in text.splitlines() if line.startswith("data:")]
    (last,) = [message for message in messages if message["msg"] == "process_completed"]
    return last["success"], last["output"]


def test_a_picture_gets_what_the_net_saw_and_ten_probabilities(served: tuple[Predictor, str], picture: Path) -> None:
    predictor, address = served
    is_answered, output = ask(address, picture.read_bytes())
    assert is_answered, output
    seen, shares = output["data"]
    pixels = np.asarray(Image.open(io.BytesIO(http.get(seen["url"], timeout=60).content)))
    assert np.array_equal(pixels[4::8, 4::8], decode(picture))
    assert pixels.shape[:2] == (256, 256)
    (expected,) = predictor(picture)
    assert [entry["label"] for entry in shares["confidences"]] == [name for name, _ in expected.top(10)]
    assert [entry["confidence"] for entry in shares["confidences"]] == pytest.approx([x for _, x in expected.top(10)])


def test_what_is_no_picture_is_said_and_the_next_is_answered(served: tuple[Predictor, str], picture: Path) -> None:
    is_answered, output = ask(served[1], b"<svg/>")
    assert not is_answered
    assert output["error"].startswith("this file is no image in a format that is read")
    assert ask(served[1], picture.read_bytes())[0]


def test_what_is_refused(served: tuple[Predictor, str]) -> None:
    _, address = served
    for path, headers, status in (
        ("/", {"Host": "evil.example"}, 400),  # another name that points to this machine
        ("/gradio_api/upload", {"Sec-Fetch-Site": "cross-site"}, 403),  # another page
        ("/", {"Sec-Fetch-Site": "cross-site"}, 200),  # a link on another page
        ("/gradio_api/file=/etc/passwd", {}, 403),
        ("/docs", {}, 404),
    ):
        assert http.get(address + path, headers=headers, timeout=60).status_code == status, path
    large = {"files": ("a.jpg", bytes(32 * 2**20 + 1))}
    assert http.post(f"{address}/gradio_api/upload", files=large, timeout=60).status_code == 413
    assert http.get(address, timeout=60).headers["content-security-policy"].startswith("default-src 'self'")
    if sys.platform == "linux":  # elsewhere this machine has no second address without set-up
        with socket.socket() as other, pytest.raises(OSError, match="refused"):
            other.connect(("127.0.0.2", int(address.rpartition(":")[2])))


HEAD = b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n"
HEAD += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"


@contextmanager
def slow_clients(address: str) -> Iterator[list[socket.socket]]:
    """Four that send a byte every second, two of them from the first byte of the request on."""
    port, is_over = int(address.rpartition(":")[2]), threading.Event()
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(4)]

        def drip() -> None:
            for at in range(len(HEAD)):
                for client in slow[:2]:
                    with suppress(OSError):
                        client.sendall(HEAD[at : at + 1])
                for client in slow[2:]:
                    with suppress(OSError):
                        client.sendall(b"a" if at else HEAD)
                if is_over.wait(1):
                    break

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield slow
        finally:
            is_over.set()
            thread.join()


def test_slow_clients_harm_nobody(served: tuple[Predictor, str], picture: Path) -> None:
    with slow_clients(served[1]):
        assert ask(served[1], picture.read_bytes())[0]


def test_a_request_has_a_total_time(ckpt: Path, picture: Path, tmp_path: Path) -> None:
    with demo_process(ckpt, tmp_path / "temporary", REQUEST_S="3") as (process, address), slow_clients(address) as slow:
        started_at = time.monotonic()
        for client in slow:
            client.settimeout(30)
            with suppress(ConnectionResetError):  # or the end of what it says, which is nothing
                assert client.recv(1) == b""
            assert 2 < time.monotonic() - started_at < 10
        # A page that is shown keeps its request open for longer than that, and the next ones use its connections.
        with http.get(f"{address}/gradio_api/heartbeat/a", stream=True, timeout=60) as beat:
            time.sleep(4)
            assert ask(address, picture.read_bytes())[0]
            assert next(beat.iter_content(None))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("\nended    by Ctrl-C\n", "")


def test_it_serves_until_ctrl_c_and_leaves_nothing(ckpt: Path, picture: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    with demo_process(ckpt, temporary) as (process, address):
        assert ask(address, picture.read_bytes())[0]
        assert list(temporary.rglob("a.jpg"))
        # As a page that is shown: its request stays open. And a connection that says nothing, as browsers open ahead.
        silent = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
        with silent, http.get(f"{address}/gradio_api/heartbeat/a", stream=True, timeout=60) as beat:
            assert beat.status_code == 200
            started_at = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
            assert time.monotonic() - started_at < 3
    assert (process.returncode, out, err) == (0, "\nended    by Ctrl-C\n", "")
    assert list(temporary.iterdir()) == []


def test_a_second_ctrl_c_ends_at_once_and_sigterm_ends_too(ckpt: Path, picture: Path, tmp_path: Path) -> None:
    with demo_process(ckpt, tmp_path / "twice") as (process, address):
        assert ask(address, picture.read_bytes())[0]
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)  # two signals at the same time are one
        started_at = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")
        assert time.monotonic() - started_at < 1
    assert process.returncode == 130
    assert list((tmp_path / "twice").iterdir()) == []
    with demo_process(ckpt, tmp_path / "terminated") as (process, address):
        assert ask(address, picture.read_bytes())[0]
        process.terminate()
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (143, "")
    assert list((tmp_path / "terminated").iterdir()) == []


def test_a_port_that_is_taken_and_wrong_flags(run: Run, ckpt: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, out, err = run("demo", "--ckpt", str(ckpt), "--port", str(port))
    expected = f"error: cannot listen on 127.0.0.1:{port}: Address already in use; give another --port\n"
    assert (code, out, err) == (6, "", expected)
    for flags in (["--port", "65536"], ["--port", "a"], ["--prt", "1"], ["--tta", "all"]):
        code, out, err = run("demo", "--ckpt", str(ckpt), *flags)
        assert (code, out, err.count("\n")) == (2, "", 1)


def test_without_gradio(run: Run, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    text = "error: demo needs the package gradio: install the extra with pip install 'cifar_lightning[demo]'\n"
    assert run("demo", "--ckpt", str(ckpt)) == (2, "", text)


def test_in_a_browser(served: tuple[Predictor, str], picture: Path) -> None:
    found = find_browser()
    if found is None:
        pytest.skip("needs a browser: apt-get install chromium, or Chrome")
    predictor, address = served
    (expected,) = predictor(picture)
    picture.with_name("text.png").write_text("no picture")
    with browser_page(found) as page:

        def wait_for(expression: str) -> Any:
            deadline = time.monotonic() + 60
            while not (value := page.evaluate(expression)):
                assert time.monotonic() < deadline, expression
                time.sleep(0.05)
            return value

        def choose(path: Path) -> None:
            wait_for("!!document.querySelector('input[type=file]')")
            root = page.send("DOM.getDocument")["root"]["nodeId"]
            node = page.send("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
            page.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

        for width, is_dark in ((1100, False), (390, True)):
            page.open(address, width, is_dark)
            choose(picture.with_name("text.png"))
            wait_for("document.body.innerText.includes('this file is no image')")
            choose(picture)
            shown = wait_for("document.querySelector('[data-testid=label-output-value]')?.textContent ?? ''")
            assert shown.strip() == expected.class_name
            assert wait_for("document.querySelector('img')?.naturalWidth ?? 0") == 256
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            asked = [url for url in page.requests() if not url.startswith("blob:")]
            assert len(asked) > 5
            assert all(url.startswith(f"{address}/") for url in asked)
