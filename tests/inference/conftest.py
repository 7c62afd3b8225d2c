"""A tiny checkpoint to predict with."""

from pathlib import Path

import pytest
from inference.checkpoints import write_checkpoint


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    """A checkpoint outside of any run."""
    return write_checkpoint(tmp_path / "weights" / "tiny.ckpt")
