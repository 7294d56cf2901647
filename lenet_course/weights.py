"""Weights of trained networks: those that the course ships, and a learner's own, which take their place.

A file holds numbers only (safetensors): opening one runs no code, as opening a pickle would.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from lenet_course import __version__
from lenet_course.data import DATA_FOLDER

SHIPPED_FOLDER = DATA_FOLDER / "weights"


class WeightsError(ValueError):
    """A file of weights is missing, damaged or made for another network; the message says what to do."""


def own_folder() -> Path:
    """Return the folder of a learner's own weights: `my_weights` in the course's folder.

    The environment variable LENET_COURSE_WEIGHTS puts it elsewhere (the tests do, to leave a learner's weights alone).
    """
    return Path(os.environ.get("LENET_COURSE_WEIGHTS") or DATA_FOLDER.parent / "my_weights")


def architecture(model: nn.Module) -> str:
    """Return what a file of weights is labelled with: the model's `architecture` if it has one, else its class name."""
    return getattr(model, "architecture", type(model).__name__)


def save_weights(model: nn.Module, name: str, *, folder: Path | str | None = None) -> Path:
    """Save the model's weights as your own and return the path; `load_weights` prefers them to the shipped ones.

    Written beside the old file and then put in its place, so that a crash leaves the old one whole.
    Raises ValueError for a name that is not a plain one, such as "lenet".
    """
    path = Path(folder or own_folder()) / _file_name(name)
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    label = {"architecture": architecture(model), "course_version": __version__}
    with replacing(path) as unfinished:
        safetensors.torch.save_file(tensors, unfinished, metadata=label)
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a file to write beside `path`; at the end it takes that place, whole and on the disk.

    A crash or an error on the way leaves the old file as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield unfinished
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_weights(model: nn.Module, name: str, *, source: str | None = None) -> Path:
    """Put the weights of that name into the model and return the path of the file they came from.

    source: "own", "shipped", or None for your own if you saved some, else the shipped ones.
    A shipped file is verified by its SHA-256. The file is compared with the model (architecture, names, shapes, dtypes)
    before the model is touched; they go to the device that the model is on.
    Raises WeightsError if there is no such file, if it is damaged, or if it was made for another network.
    """
    path = _find(name, source)
    if path.parent == SHIPPED_FOLDER:
        _verify_shipped(path)
    tensors, label = _read(path)
    _compare(path, tensors, label, model)
    model.load_state_dict(tensors)
    return path


def _file_name(name: str) -> str:
    if not isinstance(name, str) or not name.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f'A name for weights has letters, digits, "_" and "-", such as "lenet"; got {name!r}.')
    return f"{name}.safetensors"


def _find(name: str, source: str | None) -> Path:
    folders = {"own": own_folder(), "shipped": SHIPPED_FOLDER}
    if source is not None and source not in folders:
        raise ValueError(f'source is "own", "shipped" or None; got {source!r}.')
    places = [folders[source]] if source else list(folders.values())
    for folder in places:
        if (folder / _file_name(name)).is_file():
            return folder / _file_name(name)
    there = sorted({path.stem for folder in places for path in folder.glob("*.safetensors")})
    raise WeightsError(
        f"There are no weights called {name!r} in {' or '.join(map(str, places))}. "
        f"There are: {', '.join(there) or 'none'}. Train a model and call save_weights(model, {name!r})."
    )


def _verify_shipped(path: Path) -> None:
    sums = dict(reversed(line.split()) for line in (SHIPPED_FOLDER / "SHA256SUMS").read_text().splitlines())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sums.get(path.name):
        raise WeightsError(
            f"{path} is not the file that the course ships: SHA-256 {found} instead of {sums.get(path.name)}. "
            f"`git checkout -- data/weights` in the course's folder brings it back."
        )


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} cannot be read as weights ({error}). "
            "If it is your own, delete it and save again; without it the shipped weights are used."
        ) from error


def _compare(path: Path, tensors: dict[str, Tensor], label: dict[str, str], model: nn.Module) -> None:
    wanted = {key: _kind(tensor) for key, tensor in model.state_dict().items()}
    found = {key: _kind(tensor) for key, tensor in tensors.items()}
    differences = [
        f"{key}: {found.get(key, 'nothing')} in the file, {wanted.get(key, 'nothing')} in the model"
        for key in dict.fromkeys([*wanted, *found])
        if wanted.get(key) != found.get(key)
    ]
    if label.get("architecture") != architecture(model):
        differences.insert(0, f"made for {label.get('architecture', 'an unknown network')}, not {architecture(model)}")
    if differences:
        listed = "\n".join(f"  {difference}" for difference in differences)
        raise WeightsError(
            f"The weights in {path} do not fit this model:\n{listed}\n"
            "The model was left as it was. Build the network that the weights were made for, or load others."
        )


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
