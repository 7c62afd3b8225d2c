"""What a finished run of a recipe says of itself."""

from typing import Any


def record(seed: int, accuracy: float, train_s: float, tta: float | None = None, cpu: str = "a CPU") -> dict[str, Any]:
    metrics: dict[str, Any] = {"test": {"accuracy": accuracy}}
    speed = {"train_s": train_s, "evaluation_s": 1.0, "total_s": train_s + 1}
    if tta is not None:
        metrics["test_tta"] = {"accuracy": tta, "views": "flip"}
        speed |= {"evaluation_tta_s": 2.0, "total_tta_s": train_s + 2}
    hardware = {"cpu": cpu, "threads": 2}
    return {"seed": seed, "metrics": metrics, "speed": speed, "hardware": hardware, "commit": "0123456"}
