"""MNIST: read it, verify it, scale it, and go through it in random batches."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

DATA_FOLDER = Path(__file__).resolve().parent.parent / "data"
HELD_OUT = 5_000  # the last training digits: choices are made on them, never on the test digits


class DataFileError(OSError):
    """A file of the data set is missing, short or altered; the message says which, and how to get it back."""


@dataclass(frozen=True)
class _DataFile:
    size: int
    sha256: str


# The four files as Yann LeCun, Corinna Cortes and Christopher Burges published them, unpacked (data/README.md).
MNIST_FILES = {
    "train-images-idx3-ubyte": _DataFile(47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": _DataFile(60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": _DataFile(7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": _DataFile(10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}  # fmt: skip


# --- The digits -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """Images with their labels. `digits[:100]`, or any other index for one axis, gives Digits again.

    images: (N, 28, 28) uint8, 0 = paper, 255 = ink. labels: (N,) int64, 0 to 9.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dim() != 3 or self.images.dtype != torch.uint8:
            raise ValueError(f"images must be (N, height, width) uint8; got {describe_tensor(self.images)}.")
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64:
            raise ValueError(
                f"labels must be ({len(self.images)},) int64, one for each image; got {describe_tensor(self.labels)}."
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice | Tensor | list[int]) -> Digits:
        if isinstance(index, int):
            raise TypeError(
                f"digits[{index}] would be a single image. Use digits.images[{index}] and digits.labels[{index}], "
                f"or digits[{index}:{index + 1}]."
            )
        return Digits(self.images[index], self.labels[index])

    def __repr__(self) -> str:
        return f"Digits({len(self):,} images of {self.images.shape[1]}x{self.images.shape[2]})"


def load_mnist(split: str = "train", root: str | Path | None = None, *, download: bool = False) -> Digits:
    """Return the 60,000 training digits (split "train") or the 10,000 test digits ("test"), in MNIST's own order.

    root: the folder that holds MNIST/raw; by default the course's own data folder.
    download: fetch files that are missing or altered from torchvision's mirrors, instead of complaining.
    All four files are verified (size and SHA-256) before one is read.
    Raises ValueError for another split, DataFileError for a file that is missing, short or altered.
    """
    if split not in ("train", "test"):
        raise ValueError(f'split is "train" or "test"; got {split!r}.')
    root = DATA_FOLDER if root is None else Path(root)
    if download:
        _replace_bad_files(root)
    verify_mnist(root)
    from torchvision.datasets import MNIST  # 0.5 s to import: only those who read the digits pay for it

    mnist = MNIST(str(root), train=split == "train", download=False)
    return Digits(mnist.data, mnist.targets)


def verify_mnist(root: str | Path | None = None) -> None:
    """Check the four files against their published size and SHA-256. Returns nothing.

    root: as for `load_mnist`. Raises DataFileError naming each file that is wrong, and how to get it back.
    """
    folder = (DATA_FOLDER if root is None else Path(root)) / "MNIST" / "raw"
    problems = {name: problem for name in MNIST_FILES if (problem := _problem(folder / name, name))}
    if problems:
        listed = "\n".join(f"  {name}: {problem}" for name, problem in problems.items())
        raise DataFileError(
            f"The digits in {folder} are not as they were published:\n{listed}\n"
            "To get them back: `git checkout -- data/MNIST/raw` in the course's folder, "
            "or load_mnist(download=True), which fetches them from torchvision's mirrors."
        )


def _problem(path: Path, name: str) -> str | None:
    """Say what is wrong with one file; None if nothing is."""
    expected = MNIST_FILES[name]
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if size != expected.size:
        return f"{size:,} bytes instead of {expected.size:,}"
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return None if sha256 == expected.sha256 else f"altered: SHA-256 {sha256} instead of {expected.sha256}"


def _replace_bad_files(root: Path) -> None:
    """Download MNIST beside the folder, and put in place only what is missing or altered there."""
    raw = root / "MNIST" / "raw"
    bad = [name for name in MNIST_FILES if _problem(raw / name, name)]
    if not bad:
        return
    from torchvision.datasets import MNIST

    raw.mkdir(parents=True, exist_ok=True)
    # In the same folder, so that the final move is atomic: stopped half-way, nothing that was there is lost.
    with tempfile.TemporaryDirectory(dir=raw, prefix="download-") as fresh:
        try:
            MNIST(fresh, download=True)
        except (RuntimeError, OSError) as error:
            raise DataFileError(
                f"None of torchvision's mirrors gave {', '.join(bad)}: {error}. "
                "Without a network, `git checkout -- data/MNIST/raw` in the course's folder brings the files back."
            ) from error
        for name in bad:
            shutil.move(Path(fresh) / "MNIST" / "raw" / name, raw / name)


# --- From pixels to network input -----------------------------------------------------------------------------------


def scale_caffe(images: Tensor) -> Tensor:
    """Scale pixels as Caffe's LeNet does: times 1/256, no padding, no mean taken away.

    images: (N, height, width) uint8, 0 = paper, 255 = ink.
    Returns (N, 1, height, width) float32 in [0, 1): paper 0, ink 255/256 (BVLC/caffe, lenet_train_test.prototxt).
    Raises ValueError for any other shape or dtype.
    """
    if not isinstance(images, Tensor) or images.dim() != 3 or images.dtype != torch.uint8:
        raise ValueError(
            f"scale_caffe expects raw images: (N, height, width) uint8, 0 to 255; got {describe_tensor(images)}. "
            "Images that are scaled already go to the network as they are."
        )
    return images.unsqueeze(1).float() / 256


# The 256 greys of a pixel as the paper scales them, p. 7: paper -0.1, ink 1.175.
GREYS_1998 = torch.linspace(-0.1, 1.175, 256, dtype=torch.float64).float()


def pad_1998(images: Tensor) -> Tensor:
    """Add a border so that a digit fits the 1998 input field, and scale its pixels so that their mean is about 0.

    images: (N, 28, 28) uint8, 0 = paper, 255 = ink.
    Returns (N, 1, 32, 32) float32, paper = -0.1, ink = 1.175 (LeCun et al. 1998, p. 7); the border of 2 is paper too.
    Raises ValueError for any other shape or dtype.
    """
    if not isinstance(images, Tensor) or images.shape[1:] != (28, 28) or images.dtype != torch.uint8:
        raise ValueError(
            f"pad_1998 expects raw images: (N, 28, 28) uint8, 0 to 255; got {describe_tensor(images)}. "
            "Images that are padded already go to the network as they are."
        )
    scaled = GREYS_1998.to(images.device)[images.int()]
    return pad(scaled, (2, 2, 2, 2), value=-0.1).unsqueeze(1)


def check_scaled(images: Tensor, network: str, wanted: str, advice: str) -> None:
    """Raise ValueError if pixels look as if they had not been scaled (0 to 255, say), or hold NaN.

    images: any floating-point tensor. network, wanted ("0 to 1"), advice: for the message.
    """
    # On a GPU, reading one number would make it wait at every step; a compiled graph or a vmap cannot read any.
    if images.device.type != "cpu" or torch.compiler.is_compiling() or images.numel() == 0:
        return
    try:
        lowest, highest = (float(end) for end in images.detach().aminmax())
    except RuntimeError:
        return
    # Generous, for noise and other scalings.
    if not (-20 < lowest <= highest < 20):
        raise ValueError(
            f"{network} expects pixels scaled to about {wanted}; got values from {lowest:g} to {highest:g}. {advice}."
        )


def describe_tensor(value: object) -> str:
    """Say what came in, for an error message: '(64, 28, 28) uint8', or 'a list'."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__}"


# --- Batches --------------------------------------------------------------------------------------------------------


def shuffled_batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Go once through the numbers 0 to count - 1 in random order, `batch_size` at a time; the last batch may be smaller.

    Yields (B,) int64 on the CPU. The order is drawn from `generator` (a CPU generator) when the first batch is taken.
    Raises ValueError for a count or batch_size below 1.
    """
    if count < 1 or batch_size < 1:
        raise ValueError(f"count and batch_size must be at least 1; got {count} and {batch_size}.")
    yield from torch.randperm(count, generator=generator).split(batch_size)
