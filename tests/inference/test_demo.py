"""The page: what the server answers, what it refuses, and what a browser shows."""

import base64
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Page, browser_page, find_browser
from PIL import Image

from cifar_lightning.errors import OutputError
from cifar_lightning.inference import Predictor, demo

JPEG = io.BytesIO()
Image.linear_gradient("L").resize((200, 120)).convert("RGB").save(JPEG, "JPEG")


@pytest.fixture
def server(ckpt: Path) -> Iterator[demo.DemoServer]:
    with demo.DemoServer(Predictor.load(ckpt, accelerator="cpu"), port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: demo.DemoServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_a_picture_gets_what_the_net_saw_and_ten_probabilities(server: demo.DemoServer) -> None:
    status, headers, body = ask(server, "POST", "/predict", JPEG.getvalue())
    assert (status, headers["content-type"]) == (200, "application/json")
    answer = json.loads(body)
    seen = Image.open(io.BytesIO(base64.b64decode(answer["seen"].partition(",")[2])))
    assert seen.size == (32, 32)
    (expected,) = server.predictor(np.asarray(seen))
    assert [(entry["class"], entry["probability"]) for entry in answer["probabilities"]] == expected.top(10)


def test_the_page_allows_nothing_but_itself(server: demo.DemoServer) -> None:
    status, headers, body = ask(server, "GET", "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"{{" not in body
    assert b"tiny, seed 7, trained on CIFAR-10 for 2 epochs" in body
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert b"http" not in body  # nothing is fetched from anywhere


@pytest.mark.parametrize(("method", "path", "headers", "status"), [
    ("GET", "/../../../etc/passwd", {}, 404), ("GET", "/demo.py", {}, 404), ("POST", "/", {}, 404),
    ("GET", "/", {"Host": "evil.example"}, 421), ("POST", "/predict", {"Host": "evil.example:80"}, 421),
    ("POST", "/predict", {"Origin": "http://evil.example"}, 403), ("POST", "/predict", {"Origin": "null"}, 403),
    ("POST", "/predict", {"Content_Length": "many"}, 411), ("POST", "/predict", {"Content_Length": "-1"}, 411),
    ("POST", "/predict", {"Content_Length": str(2**40)}, 413), ("POST", "/predict", {"Content_Length": "0"}, 422),
    ("PUT", "/predict", {}, 501), ("DELETE", "/", {}, 501),
])  # fmt: skip
def test_what_is_refused(server: demo.DemoServer, method: str, path: str, headers: dict[str, str], status: int) -> None:
    code, answered, body = ask(server, method, path, None, **headers)
    assert code == status
    assert answered["content-type"] == "application/json"
    assert list(json.loads(body)) == ["error"]


def test_what_is_no_picture_is_said_in_one_line(server: demo.DemoServer) -> None:
    status, _, body = ask(server, "POST", "/predict", b"<svg/>")
    assert status == 422
    assert json.loads(body)["error"].startswith("this file is no image in a format that is read")
    assert ask(server, "POST", "/predict", JPEG.getvalue())[0] == 200  # it goes on


def test_both_of_its_names_are_its_own(server: demo.DemoServer) -> None:
    for name in server.own_names:
        headers = {"Host": name, "Origin": f"http://{name}"}
        assert ask(server, "POST", "/predict", JPEG.getvalue(), **headers)[0] == 200


def test_uploads_at_once_are_bounded(server: demo.DemoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [server.places.acquire(blocking=False) for _ in range(demo.MAX_REQUESTS)]
    assert all(held)
    assert ask(server, "POST", "/predict", JPEG.getvalue())[0] == 503
    for _ in held:
        server.places.release()
    assert ask(server, "POST", "/predict", JPEG.getvalue())[0] == 200


def test_only_this_machine_can_reach_it(server: demo.DemoServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    if sys.platform != "linux":
        return  # elsewhere this machine has no second address without set-up
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        other.connect(("127.0.0.2", server.server_port))


def test_a_port_that_is_taken(server: demo.DemoServer, ckpt: Path) -> None:
    with pytest.raises(OutputError, match="give another --port"):
        demo.DemoServer(server.predictor, server.server_port)


def test_the_verb_serves_until_ctrl_c(ckpt: Path) -> None:
    command = [sys.executable, "-m", "cifar_lightning", "demo", "--ckpt", str(ckpt), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        address = lines[1].split()[1].removeprefix("http://")
        silent, connection = (http.client.HTTPConnection(address, timeout=30) for _ in range(2))
        try:
            silent.connect()  # as browsers do, ahead of a request that may come: the end must not wait for it
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
        finally:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=demo.PATIENCE_S / 2)
        silent.close()
        connection.close()
    assert (process.returncode, out, err) == (0, "\nended    by Ctrl-C\n", "")


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    """A headless browser; without one the test is left out, and pytest's summary says so."""
    found = find_browser()
    if found is None:
        pytest.skip("needs a browser: apt-get install chromium, or Chrome")
    with browser_page(found) as page:
        yield page


def wait_for(page: Page, expression: str) -> Any:
    deadline = time.monotonic() + 60
    while not (value := page.evaluate(expression)):
        assert time.monotonic() < deadline, expression
        time.sleep(0.05)
    return value


def choose(page: Page, path: Path) -> None:
    """As a user picks a file, through the page's own input."""
    root = page.send("DOM.getDocument")["root"]["nodeId"]
    node = page.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    page.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


def test_in_a_browser(server: demo.DemoServer, browser: Page, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(JPEG.getvalue())
    (tmp_path / "text.png").write_text("no picture")
    (expected,) = server.predictor(path)
    for width, is_dark in ((1100, False), (390, True)):
        browser.open(f"http://127.0.0.1:{server.server_port}/", width, is_dark)
        assert browser.evaluate("document.getElementById('result').hidden")
        choose(browser, path)
        verdict = wait_for(browser, "document.getElementById('verdict').textContent")
        assert verdict == f"{expected.class_name} {100 * expected.probability:.1f} %"
        rows = browser.evaluate("[...document.querySelectorAll('dt')].map(name => name.textContent)")
        assert rows == [name for name, _ in expected.top(10)]
        decoded = "document.getElementById('seen').decode().then(() => document.getElementById('seen').naturalWidth)"
        assert browser.evaluate(decoded) == 32
        assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.complaints() == []
        choose(browser, tmp_path / "text.png")
        error = wait_for(browser, "document.getElementById('error').textContent")
        assert error.startswith("this file is no image")
        assert browser.evaluate("document.getElementById('result').hidden")
        asked = [url for url in browser.requests() if not url.startswith("blob:")]
        assert all(url.startswith(f"http://127.0.0.1:{server.server_port}/") for url in asked)
