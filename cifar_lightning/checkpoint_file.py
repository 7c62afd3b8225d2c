"""A checkpoint as bytes on the disk: written whole or not at all, and with a digest that tells every damage.

torch.save writes a zip file with a CRC of each part. The names and places of the parts have none, and torch.load checks
none; so the file's SHA-256 stands in the zip's comment, where torch.load and every other reader pass it by.
"""

import hashlib
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from cifar_lightning.errors import CheckpointError
from cifar_lightning.files import write_bytes

MARK = b"cifar_lightning sha256="
END_BYTES = 22  # of a zip's last record without a comment, whose last two bytes are the comment's length
END_SIGNATURE = b"PK\x05\x06"
COMMENT_BYTES = len(MARK) + 2 * hashlib.sha256().digest_size


def write(content: dict[str, Any], path: Path) -> None:
    """Replaces `path` by a checkpoint.

    Raises:
        OutputError: the disk is full, or the folder cannot be written; the old file is as it was.
    """
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


def read(path: Path) -> Any:
    """What torch.load finds in an undamaged file, without running any code that it may hold; on the CPU.

    A file without a digest, which somebody else's torch.save has written, is checked by its CRCs alone.

    Raises:
        CheckpointError: it cannot be read or is damaged; the text gives the reason and no fix.
    """
    return read_with_digest(path)[0]


def read_with_digest(path: Path) -> tuple[Any, str]:
    """`read`, and the SHA-256 of the whole file, hexadecimal: of these very bytes, which a training may replace."""
    try:
        content = path.read_bytes()
        comment, body = content[-COMMENT_BYTES:], content[: -COMMENT_BYTES - 2]
        digest = MARK + hashlib.sha256(body).hexdigest().encode("ascii")
        if comment.startswith(MARK) and comment != digest:
            raise CheckpointError(f"{path} is damaged (its SHA-256 is another one)")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            damaged = archive.testzip()
        if damaged:
            raise CheckpointError(f"{path} is damaged ({damaged})")
        # True by name: an environment variable can turn the default off.
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return loaded, hashlib.sha256(content).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (
        zipfile.BadZipFile,
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
        ValueError,
        KeyError,
        NotImplementedError,  # zipfile's, of a kind of compression or encryption
    ) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path} is not a readable checkpoint ({reason})") from error
