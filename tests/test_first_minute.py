"""The README's two commands, typed as a newcomer types them: no data set, no network, in an empty folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def test_fit_and_test_without_data_and_network(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CIFAR10_ROOT"}
    environment |= {"PYTHONPATH": str(PROJECT), "CIFAR10_MIRROR": "http://127.0.0.1:9/"}  # nobody listens there

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "cifar_lightning", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    out = run("fit", "--trainer.max_epochs", "1", "--data.batch_size", "128")
    assert "This run uses the SAMPLE in the package instead" in out
    assert "NOT results on CIFAR-10" in out
    (folder,) = (tmp_path / "lightning_logs").glob("*/*")
    record = json.loads((folder / "run.json").read_text())
    assert record["data"] == {"train": 4500, "val": 500, "test": 1000}
    tested = run("test", "--ckpt", "last")
    assert f"accuracy {record['metrics']['test']['accuracy']:.2%}" in tested  # in a fresh process, the same score
    assert "the CIFAR-10 sample" in tested
