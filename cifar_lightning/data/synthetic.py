"""An offline stand-in for CIFAR-10: ten kinds of shape, drawn by a formula, in CIFAR-10's own layout.

A net must learn form: position, size, angle and all colours are random, and noise and a gradient lie over everything,
so that neither a colour histogram nor a linear classifier finds the class. It says nothing about CIFAR-10 accuracy.
"""

import numpy as np
import numpy.typing as npt

CLASS_NAMES = (
    "disc", "ring", "square", "frame", "triangle", "cross", "bar", "two discs", "half disc", "stripes",
)  # fmt: skip
TRAIN_SIZE = 10_000
TEST_SIZE = 2_000

Floats = npt.NDArray[np.float32]


def synthetic_cifar10(train: bool) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Draws the stand-in's training or test images; the same bytes at every call.

    Returns:
        images, uint8 (N, 32, 32, 3), and labels, int64 (N,), each class equally often.
    """
    size, seed = (TRAIN_SIZE, 1) if train else (TEST_SIZE, 2)
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(size) % len(CLASS_NAMES))

    def draw(low: float, high: float, *shape: int) -> Floats:
        return generator.uniform(low, high, (size, *shape)).astype(np.float32)

    axis = np.arange(32, dtype=np.float32) - 15.5
    x, y = axis[None, None, :] - draw(-4, 4, 1, 1), axis[None, :, None] - draw(-4, 4, 1, 1)
    angle, radius = draw(-0.4, 0.4, 1, 1), draw(8, 12, 1, 1)
    u, v = (np.cos(angle) * x + np.sin(angle) * y) / radius, (np.cos(angle) * y - np.sin(angle) * x) / radius
    inside = np.zeros((size, 32, 32), dtype=bool)
    for label, name in enumerate(CLASS_NAMES):
        members = labels == label
        inside[members] = _shape(name, u[members], v[members])

    background, foreground = draw(70, 185, 1, 1, 3), draw(-60, 60, 1, 1, 3)
    # At least 40 grey levels between shape and ground: fainter ones cannot be told even by eye.
    foreground = np.sign(foreground) * (np.abs(foreground) + 40)
    slope = draw(-1, 1, 1, 1, 1) * axis[None, None, :, None] + draw(-1, 1, 1, 1, 1) * axis[None, :, None, None]
    noise = generator.normal(0, 20, (size, 32, 32, 3)).astype(np.float32)
    images = background + inside[..., None] * foreground + slope + noise
    return np.clip(images, 0, 255).astype(np.uint8), labels.astype(np.int64)


def _shape(name: str, u: Floats, v: Floats) -> npt.NDArray[np.bool_]:
    """Which points of the turned, scaled plane (N, 32, 32) lie in the shape."""
    distance, reach = np.hypot(u, v), np.maximum(np.abs(u), np.abs(v))
    match name:
        case "disc":
            return distance < 0.85
        case "ring":
            return (distance < 1) & (distance > 0.55)
        case "square":
            return reach < 0.75
        case "frame":
            return (reach < 0.9) & (reach > 0.5)
        case "triangle":
            return (v > -0.6) & (v < 1 - 1.7 * np.abs(u))
        case "cross":
            return (reach < 1) & (np.minimum(np.abs(u), np.abs(v)) < 0.28)
        case "bar":
            return (np.abs(u) < 1.1) & (np.abs(v) < 0.35)
        case "two discs":
            return np.hypot(np.abs(u) - 0.65, v) < 0.5
        case "half disc":
            return (distance < 1.1) & (v > 0)
        case "stripes":
            return (reach < 1) & (np.abs(np.abs(v) - 0.6) < 0.25)
    raise ValueError(f"no such shape: {name}")
