"""Checkpoints: a training written down, to go on from after a stop.

A file holds tensors and plain values; reading one runs no code of the file's.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from lenet_course import __version__
from lenet_course.weights import replacing

FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, in the way or of another training; the message says what to do."""


def write_checkpoint(path: Path, settings: dict[str, Any], training: dict[str, Any], job: str = "") -> None:
    """Write a checkpoint in place of an older one: a crash on the way leaves the older one whole.

    settings: plain values, all that decides what the training gives. training: `Training.state_dict()`.
    job: under torchrun, the job's name: restarted, it knows its own checkpoint by it.
    Raises OSError if it cannot be written.
    """
    content = {"format": FORMAT, "course": __version__, "job": job, "settings": settings, "training": training}
    with replacing(path) as unfinished:
        torch.save(content, unfinished)


def read_checkpoint(content: bytes, name: Path | str) -> dict[str, Any]:
    """Return what `write_checkpoint` wrote: a dict with "settings", "training" and "job"; tensors on the CPU.

    content: the bytes of the file. name: what to call it in a message.
    Raises CheckpointError if they are no checkpoint, or of another version of the course.
    """
    try:
        altered = zipfile.ZipFile(io.BytesIO(content)).testzip()  # torch.load does not look at the checksums
        if altered:
            raise ValueError(f"its part {altered} was altered")
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        version = found["format"]
        whole = version != FORMAT or {"job", "settings", "training"} <= found.keys()
    except Exception as error:  # torch.load has no error of its own: a damaged file may raise anything
        raise _damaged(name, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error
    if not whole:
        raise _damaged(name, "parts are missing")
    if version != FORMAT:
        raise CheckpointError(
            f"{name} was written by another version of the course (format {version}; this one reads {FORMAT}). "
            "Go on with that version, or begin again with --anew."
        )
    return found


def _damaged(name: Path | str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{name} cannot be read as a checkpoint ({reason}). It was left as it is. "
        "To begin again and write over it, use --anew."
    )


def compare_settings(name: Path | str, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise CheckpointError naming each setting that differs between the checkpoint and the command."""
    differences = [
        f"  --{key.replace('_', '-')}: {found.get(key, 'nothing')} in the checkpoint, {wanted.get(key, 'nothing')} now"
        for key in dict.fromkeys([*wanted, *found])
        if found.get(key) != wanted.get(key)
    ]
    if differences:
        listed = "\n".join(differences)
        raise CheckpointError(
            f"{name} is of a training with other settings:\n{listed}\n"
            "Give the checkpoint's settings to go on with it; or keep it and name another folder with --out; "
            "or begin again with --anew, which writes over it."
        )
