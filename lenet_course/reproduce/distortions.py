"""Distorted copies of digits, as the paper made 540,000 of them (p. 11): planar affine, each drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2

from lenet_course.data import Digits


@dataclass(frozen=True)
class Distortion:
    """How far each part of a distortion may go, drawn uniformly and independently. The paper gives no ranges: these are ours.

    translation: pixels, each way, down and across. scaling: the size is multiplied by 1 - scaling to 1 + scaling.
    squeezing: the width is multiplied by a factor and the height divided by it, or the reverse; 1 to 1 + squeezing.
    shear: horizontal, pixels across for each pixel down, to both sides.
    """

    translation: float
    scaling: float
    squeezing: float
    shear: float


# Ranges tried. WEAK did best on the last 5,000 training digits (0.79%, 0.83% and 0.91%; lenet5_choices.csv).
WEAK = Distortion(translation=1.0, scaling=0.05, squeezing=0.05, shear=0.1)
MEDIUM = Distortion(translation=1.5, scaling=0.1, squeezing=0.1, shear=0.2)
STRONG = Distortion(translation=2.5, scaling=0.2, squeezing=0.2, shear=0.4)
DISTORTION = WEAK


def random_affine(count: int, distortion: Distortion, generator: torch.Generator) -> Tensor:
    """Draw maps from a place in the distorted image to the place in the original whose grey it takes.

    Returns (count, 2, 3) float64: (x, y) in the original is A (x, y) + b, measured in pixels from the image's centre.
    """

    def draw(limit: float) -> Tensor:
        return limit * (2 * torch.rand(count, dtype=torch.float64, generator=generator) - 1)

    size, squeeze = 1 + draw(distortion.scaling), draw(distortion.squeezing)
    squeeze = torch.where(squeeze >= 0, 1 + squeeze, 1 / (1 - squeeze))
    width, height, shear = size * squeeze, size / squeeze, draw(distortion.shear)
    across, down = draw(distortion.translation), draw(distortion.translation)
    # Forwards: stretch, then shear, then move: x' = width x + shear height y + across, y' = height y + down.
    zero = torch.zeros_like(size)
    from_x = torch.stack([1 / width, -shear / width, (shear * down - across) / width], dim=1)
    from_y = torch.stack([zero, 1 / height, -down / height], dim=1)
    return torch.stack([from_x, from_y], dim=1)


def warp(images: Tensor, affine: Tensor) -> Tensor:
    """Warp each image by its own map, with bilinear interpolation and paper beyond the edges.

    images: (N, height, width) uint8. affine: (N, 2, 3), from `random_affine`. Returns a tensor like images.
    Raises ValueError if there are not as many maps as images.
    """
    if affine.shape != (len(images), 2, 3):
        raise ValueError(f"warp takes a map (2, 3) for each of the {len(images)} images; got {tuple(affine.shape)}.")
    height, width = images.shape[1:]
    centre = torch.tensor([width / 2, height / 2], dtype=affine.dtype)
    # The same maps with places measured from the image's corner, as torchvision does.
    moved = affine[:, :, 2] + centre - affine[:, :, :2] @ centre
    coefficients = torch.cat([affine[:, :, :2], moved[:, :, None]], dim=2).flatten(1).tolist()
    warped = [
        v2.functional.perspective(
            image[None],
            startpoints=None,
            endpoints=None,
            interpolation=v2.InterpolationMode.BILINEAR,
            fill=0,
            coefficients=[*six, 0.0, 0.0],
        )
        for image, six in zip(images, coefficients, strict=True)
    ]
    return torch.cat(warped) if warped else images.clone()


def with_distorted_copies(digits: Digits, copies: int, distortion: Distortion, generator: torch.Generator) -> Digits:
    """Return the digits, and after them `copies` times as many distorted ones with their labels."""
    images, labels = [digits.images], [digits.labels]
    for _ in range(copies):
        images.append(warp(digits.images, random_affine(len(digits), distortion, generator)))
        labels.append(digits.labels)
    return Digits(torch.cat(images), torch.cat(labels))
