"""Checkpoints: written whole or not at all, read once without running what they hold, refused where damaged."""

import contextlib
import hashlib
import io
import json
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import yaml
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import nn

from cifar_lightning.classifier import plain_name
from cifar_lightning.errors import CheckpointError
from cifar_lightning.runs.atomic import write_bytes

KEY = "cifar_lightning"  # our section of a checkpoint

MARK = b"cifar_lightning sha256="
END_BYTES = 22  # of a zip's last record without a comment, whose last two bytes are the comment's length
END_SIGNATURE = b"PK\x05\x06"
COMMENT_BYTES = len(MARK) + 2 * hashlib.sha256().digest_size

# What zipfile and torch.load raise; NotImplementedError is zipfile's, of a kind of compression or encryption.
UNREADABLE = (
    zipfile.BadZipFile, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError, NotImplementedError,
)  # fmt: skip

# A checkpoint's configuration names classes, and naming a class imports its module: only these come from a file.
TRUSTED_MODULES = ("cifar_lightning", "torch", "torchvision", "lightning")
DOTTED_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")
FOLDERS = ("data.root", "trainer.default_root_dir")

# The trained weights in the package; `benchmarks/make_pretrained.py` makes the files, and the card says what they are.
PRETRAINED = Path(__file__).with_name("pretrained") / "pretrained.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of this project as it was when it was read; a training may have replaced the file since."""

    path: Path
    content: dict[str, Any]  # what Lightning saved, with our section under `KEY`; its tensors are on the CPU
    sha256: str  # of the file's bytes, hexadecimal
    config: dict[str, Any]  # the resolved configuration of the run that wrote it
    epochs: int  # how many are finished
    file_id: tuple[int, int] | None  # which file `path` was

    @property
    def identity(self) -> dict[str, Any]:
        """The run's recipe, seed and source; the oldest ones have no seed."""
        identity: dict[str, Any] = self.content[KEY]["identity"]
        return identity

    @property
    def changed_on_disk(self) -> bool:
        """Whether the file has been replaced or removed since it was read: every save makes a new file."""
        return _file_id(self.path) != self.file_id

    def load_into(self, model: nn.Module) -> None:
        """Puts the weights into a model. Raises CheckpointError with the first difference of another architecture."""
        theirs, ours = (
            {plain_name(name): value for name, value in state.items()}
            for state in (self.content["state_dict"], model.state_dict())
        )
        differences = [f"{name} is missing in the file" for name in ours if name not in theirs]
        differences += [f"{name} is not part of this net" for name in theirs if name not in ours]
        differences += [
            f"{name} is {tuple(theirs[name].shape)} in the file and {tuple(ours[name].shape)} here"
            for name in ours
            if name in theirs and theirs[name].shape != ours[name].shape
        ]
        if differences:
            more = f" (and {len(differences) - 1} more differences)" if len(differences) > 1 else ""
            raise CheckpointError(
                f"{self.path} holds another architecture: {differences[0]}{more}; leave out the --model flags that "
                "differ"
            )
        model.load_state_dict(self.content["state_dict"])


def write(content: dict[str, Any], path: Path) -> None:
    """Replaces `path` by a checkpoint. Raises OutputError where that fails; the old file is then as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In memory first: where the disk is full, torch.save would say that some assertion failed.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.seek(-END_BYTES, io.SEEK_END)
    assert buffer.read(len(END_SIGNATURE)) == END_SIGNATURE, "torch.save has written no zip file, or one with a comment"
    body = buffer.getbuffer()[:-2]
    comment = MARK + hashlib.sha256(body).hexdigest().encode("ascii")
    del body  # a view, which would keep the buffer from growing
    buffer.seek(-2, io.SEEK_END)
    buffer.write(len(comment).to_bytes(2, "little") + comment)
    write_bytes(path, buffer.getbuffer(), is_durable=True)


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint of this project, or weights with their card, without running any code that it may hold.

    A file without a digest, which somebody else's torch.save has written, is checked by its CRCs alone.

    Raises:
        CheckpointError: it cannot be read, is damaged, or is not one of ours; the text names another one beside it
            that can be used.
    """
    if path.suffix == ".safetensors":
        return _load_weights(path)
    try:
        return _load(path)
    except CheckpointError as error:
        way_out = "give another one, such as best or last of a run"
        others = [other for other in path.parent.glob("*.ckpt") if other.name != path.name and other.is_file()]
        for other in sorted(others, key=lambda file: file.stat().st_mtime_ns, reverse=True):
            with contextlib.suppress(CheckpointError):
                way_out = f"{other}, of {_load(other).epochs} epoch(s), is whole: give it with --ckpt"
                break
        raise CheckpointError(f"{error}; {way_out}") from error.__cause__


def _load(path: Path) -> Checkpoint:
    file_id = _file_id(path)
    content, sha256 = _read(path)
    try:
        section, rows = content[KEY], content["callbacks"]["LearningCurves"]["rows"]
        config = yaml.safe_load(section["config"])
        is_whole = isinstance(content["state_dict"], dict) and isinstance(rows, list) and isinstance(config, dict)
        is_whole = is_whole and {"recipe", "source"} <= set(section["identity"])
    except (KeyError, TypeError, AttributeError, yaml.YAMLError):
        is_whole = False
    if not is_whole:
        raise CheckpointError(f"{path} is not a checkpoint of this project (it holds no configuration)")
    data = config.setdefault("data", {})
    if data.pop("synthetic", False):
        raise CheckpointError(f"{path} trained on the synthetic images of an earlier version, which are gone")
    data |= {"source": "official", "dataset": "cifar10"} | data  # younger than the oldest checkpoints
    return Checkpoint(path, content, sha256, config, len(rows), file_id)


def _load_weights(path: Path) -> Checkpoint:
    """Weights alone, in float16 or float32, with the rest of a checkpoint in the JSON file beside them: the card."""
    file_id = _file_id(path)
    try:
        card, file = json.loads(path.with_suffix(".json").read_text(encoding="utf-8")), path.read_bytes()
        sha256 = hashlib.sha256(file).hexdigest()
        if sha256 != card["sha256"]:
            raise CheckpointError(f"{path} is damaged (its SHA-256 is not that of its card)")
        tensors = safetensors.torch.load(file)
        weights = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
        content = {"state_dict": weights, KEY: {"identity": card["identity"]}}
        return Checkpoint(path, content, sha256, card["config"], card["epochs"], file_id)
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} and its card are not readable ({' '.join(str(error).split())[:160]})") from error


def _read(path: Path) -> tuple[Any, str]:
    """What torch.load finds in an undamaged file, and the SHA-256 of these very bytes."""
    try:
        file = path.read_bytes()
        comment, body = file[-COMMENT_BYTES:], file[: -COMMENT_BYTES - 2]
        digest = MARK + hashlib.sha256(body).hexdigest().encode("ascii")
        if comment.startswith(MARK) and comment != digest:
            raise CheckpointError(f"{path} is damaged (its SHA-256 is another one)")
        with zipfile.ZipFile(io.BytesIO(file)) as archive:
            damaged = archive.testzip()
        if damaged:
            raise CheckpointError(f"{path} is damaged ({damaged})")
        # True by name: an environment variable can turn the default off.
        content = torch.load(io.BytesIO(file), map_location="cpu", weights_only=True)
        return content, hashlib.sha256(file).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path} is not a readable checkpoint ({reason})") from error


def _file_id(path: Path) -> tuple[int, int] | None:
    """Another one after every save (an inode's number alone is given to new files again); None without a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


class SafeCheckpointIO(TorchCheckpointIO):
    """In place of Lightning's own: that one moves each file from the temporary folder over its predecessor.

    From another device the move is a copy, and a full disk in its middle destroys both. And it loads a damaged file
    without a word, if only its outline is whole.

    Args:
        loaded: a checkpoint that has been read already: Lightning gets it where it asks for the same file.
    """

    def __init__(self, loaded: Checkpoint | None = None) -> None:
        super().__init__()
        self._loaded = loaded

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Replaces the file at once, as `write` does."""
        write(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads it to the CPU, as `load` does, whatever `map_location` and `weights_only` say."""
        loaded, self._loaded = self._loaded, None  # once only: the optimizer goes on in these very tensors
        if loaded is None or loaded.path != Path(path) or loaded.changed_on_disk:
            loaded = load(Path(path))
        return dict(loaded.content)  # whose entries hooks may replace


def foreign_classes(config: Any, key: str = "") -> dict[str, str]:
    """What a configuration names that would be imported from outside of `TRUSTED_MODULES`: key to dotted name.

    A class may stand as a `class_path` or as a bare string, so every dotted name counts, wherever it stands; only the
    settings that are folders are left out.
    """
    found: dict[str, str] = {}
    if isinstance(config, dict):
        for name, value in config.items():
            inner = key if name == "class_path" else f"{key}.{name}" if key else str(name)
            found |= foreign_classes(value, inner)
    elif isinstance(config, list):
        for value in config:
            found |= foreign_classes(value, key)
    elif isinstance(config, str) and key not in FOLDERS and DOTTED_NAME.fullmatch(config):
        found |= {key: config} if config.partition(".")[0] not in TRUSTED_MODULES else {}
    return found
