"""SafeCheckpointIO: how the Trainer writes checkpoints and reads the one that a run goes on from."""

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from cifar_lightning import checkpoint, checkpoint_file


class SafeCheckpointIO(TorchCheckpointIO):
    """In place of Lightning's own: that one moves each file from the temporary folder over its predecessor.

    From another device the move is a copy, and a full disk in its middle destroys both. And it loads a damaged file
    without a word, if only its outline is whole.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Replaces the file at once.

        Raises:
            OutputError: the disk is full, or the folder cannot be written; the old file is as it was.
        """
        checkpoint_file.write(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads it to the CPU, without running any code that it may hold, whatever `weights_only` says.

        Raises:
            CheckpointError: it cannot be read, is damaged, or is not one of ours.
        """
        return checkpoint.load(Path(path))
