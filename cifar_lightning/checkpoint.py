"""Reading checkpoints that may be damaged, unsafe or of another architecture."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from cifar_lightning.callbacks.resume_state import KEY
from cifar_lightning.errors import CheckpointError

# A checkpoint's configuration names classes, and naming a class imports its module: only these come from a file.
TRUSTED_MODULES = ("cifar_lightning", "torch", "lightning")


def load(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of this project without running any code that it may hold.

    Raises:
        CheckpointError: it cannot be read, is damaged, or is not one of ours.
    """
    fix = "give another one, such as best or last of a run"
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not check the CRCs that torch.save wrote
            damaged = archive.testzip()
        if damaged:
            raise CheckpointError(f"{path} is damaged ({damaged}); {fix}")
        # True by name: an environment variable can turn the default off.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; {fix}") from error
    except (zipfile.BadZipFile, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path} is not a readable checkpoint ({reason}); {fix}") from error
    if not isinstance(content, dict) or "state_dict" not in content or KEY not in content:
        raise CheckpointError(f"{path} is not a checkpoint of this project (it holds no configuration); {fix}")
    return content


def config_of(content: dict[str, Any], path: Path) -> str:
    """The resolved configuration (YAML) of the run that wrote a checkpoint.

    Raises:
        CheckpointError: it is not valid, or names a class to import from outside of the trusted packages.
    """
    text = content[KEY]["config"]
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CheckpointError(f"{path} holds an unreadable configuration: {error}") from error
    return text if isinstance(config, dict) else ""


def foreign_classes(config: Any, key: str = "") -> dict[str, str]:
    """The classes outside of `TRUSTED_MODULES` that a configuration names: key to class path."""
    found: dict[str, str] = {}
    if isinstance(config, dict):
        for name, value in config.items():
            if name == "class_path" and str(value).partition(".")[0] not in TRUSTED_MODULES:
                found[key] = str(value)
            found |= foreign_classes(value, f"{key}.{name}" if key else str(name))
    elif isinstance(config, list):
        for value in config:
            found |= foreign_classes(value, key)
    return found


def load_weights(model: nn.Module, content: dict[str, Any], path: Path) -> None:
    """Puts a checkpoint's weights into a model of the same architecture.

    Raises:
        CheckpointError: the architecture is another one; the text names the first difference.
    """
    theirs, ours = content["state_dict"], model.state_dict()
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
            f"{path} holds another architecture: {differences[0]}{more}; leave out the --model flags that differ"
        )
    model.load_state_dict(theirs)
