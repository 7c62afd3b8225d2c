"""Makes the trained weights in `cifar_lightning/runs/pretrained/` and their card from two finished runs of one recipe.

    python -m cifar_lightning fit --config cpu94 --seed_everything 0
    python -m cifar_lightning fit --config cpu94 --seed_everything 0 --data.val_size 5000
    python -m cifar_lightning test --ckpt SECOND_RUN/checkpoints/last.ckpt --calibrate
    python -m benchmarks make_pretrained FIRST_RUN SECOND_RUN

The first run trained on all 50,000 images, and so has no images left to fit a temperature on. The temperature is that
of the second run, whose 5,000 validation images did not train.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from cifar_lightning import __version__
from cifar_lightning.errors import ConfigError
from cifar_lightning.runs import calibration, checkpoint
from cifar_lightning.runs.atomic import write_bytes, write_json, write_text
from cifar_lightning.runs.checkpoint import PRETRAINED
from cifar_lightning.runs.record import RESULTS, RUNS, RunRecord, read_files, read_record, write_run
from cifar_lightning.runs.settings import without_folders

CARD = PRETRAINED.with_name("CARD.md")
FITTED_ON = "5,000 validation images, in a run of the same recipe and seed that trained on the other 45,000"


def main(argv: list[str]) -> int:
    """Writes the weights, the temperature, the card as JSON and as text.

    Raises:
        ConfigError: a run is no result: unfinished, or of code in no commit.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks make_pretrained", description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of the run on all images")
    parser.add_argument("calibrated", type=Path, help="the folder of the run with a validation split")
    options = parser.parse_args(argv)
    record, other = (read_record(folder) for folder in (options.run, options.calibrated))
    for folder, run in ((options.run, record), (options.calibrated, other)):
        if run.status != "finished" or run.dirty is not False or run.resumed:
            raise ConfigError(f"{folder} is not a finished run of committed code in one session")
    loaded = checkpoint.load(options.run / "checkpoints" / "last.ckpt")
    content = safetensors.torch.save({name: _small(value) for name, value in loaded.content["state_dict"].items()})
    sha256 = hashlib.sha256(content).hexdigest()
    PRETRAINED.parent.mkdir(exist_ok=True)
    for old in PRETRAINED.parent.iterdir():
        old.unlink()
    config = without_folders(loaded.config)
    config["data"]["root"], config["trainer"]["default_root_dir"] = None, "lightning_logs"
    fitted = checkpoint.load(options.calibrated / "checkpoints" / "last.ckpt")
    temperatures = json.loads(calibration.path_for(fitted.path, fitted.sha256).read_text(encoding="utf-8"))["fits"]
    write_bytes(PRETRAINED, content)
    calibration.store(PRETRAINED, sha256, temperatures, FITTED_ON)
    card: dict[str, Any] = {
        "identity": loaded.identity,
        "epochs": loaded.epochs,
        "sha256": sha256,
        "bytes": len(content),
        "parameters": record.parameters,
        "temperatures": {views: fit["temperature"] for views, fit in temperatures.items()},
        "command": without_folders(record.command),
        "commit": record.commit,
        "versions": record.versions,
        "hardware": record.hardware,
        "started_at": record.started_at,
        "run_test": {name: record.metrics[name]["accuracy"] for name in ("test", "test_tta")},
        "written_by": f"cifar_lightning {__version__}",
        "config": config,
    }
    write_json(PRETRAINED.with_suffix(".json"), card)
    for folder in (options.run, options.calibrated):  # where the card's figures come from
        write_run(RESULTS / RUNS / "pretrained" / f"{folder.resolve().name}.json", read_files(folder))
    card["test"] = _test()
    write_json(PRETRAINED.with_suffix(".json"), card)
    write_text(CARD, _text(card, record))
    print(f"{PRETRAINED}: {len(content) / 1e6:.1f} MB; {CARD}")
    return 0


def _small(value: Tensor) -> Tensor:
    """Weights in float16; vectors and counts are few, and stay as they are."""
    return (value.half() if value.ndim > 1 else value).contiguous()


def _test() -> dict[str, float]:
    """The figures of `test --ckpt pretrained`, by the true command."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cifar_lightning", "test", "--ckpt", "pretrained"]
        subprocess.run([*command, f"--trainer.default_root_dir={folder}"], check=True)
        result = json.loads(Path(folder, "pretrained", "test.json").read_text(encoding="utf-8"))
    names = ("images", "accuracy", "loss", "calibration_error")
    plain = {name: result[name] for name in names}
    return plain | {f"tta_{name}": result["tta"][name] for name in names[1:]}


def _text(card: dict[str, Any], record: RunRecord) -> str:
    test, run_test, versions = card["test"], card["run_test"], card["versions"]
    hardware, temperatures = card["hardware"], card["temperatures"]
    rows = {
        "recipe": f"{card['identity']['recipe']}, seed {card['identity']['seed']} (the first seed, not the best one)",
        "trained on": f"all {record.data['train']:,} training images, {card['epochs']} epochs, {record.precision}",
        "accuracy on the 10,000 test images": f"{test['accuracy']:.2%}",
        "with test-time augmentation": f"{test['tta_accuracy']:.2%} ({', '.join(temperatures.keys() - {'none'})})",
        "loss, calibration error": f"{test['loss']:.4f}, {test['calibration_error']:.4f} before the temperature",
        f"the run itself, in {record.precision}": f"{run_test['test']:.2%}, {run_test['test_tta']:.2%} with TTA",
        "temperature": ", ".join(f"{value:.4f} ({views})" for views, value in temperatures.items()),
        "fitted on": FITTED_ON,
        "size": f"{card['parameters']:,} parameters, {card['bytes']:,} bytes; matrices in float16, vectors in float32",
        "commit": f"`{card['commit']}`",
        "versions": f"Python {versions['python']}, torch {versions['torch']}, lightning {versions['lightning']}",
        "machine": f"{hardware['threads']} threads of {hardware['cpu']}",
        "SHA-256": f"`{card['sha256']}`",
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(
        [
            "# The trained weights in the package",
            "",
            "Written by `python -m benchmarks make_pretrained`, not by hand. `pretrained.json` holds the same and "
            "the whole\nconfiguration; `results/runs/pretrained/` holds the two runs. "
            "`python -m cifar_lightning test --ckpt pretrained`\nrepeats the accuracies.",
            "",
            "| | |",
            "|---|---|",
            *lines,
            "",
            "Limits: the net knows ten classes and 32x32 pixels. It names one of the ten for any image.",
            "",
        ]
    )
