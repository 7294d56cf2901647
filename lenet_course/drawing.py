"""A drawing, or a picture of a digit, made into an image like MNIST's; every step on the way can be looked at."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, pad

from lenet_course.data import describe_tensor

SIDE = 28  # an MNIST image
BOX = 20  # the digit in it: "size normalized to fit in a 20x20 pixel box" (LeCun et al. 1998, p. 10)
# Every digit of MNIST's test set has its centre of mass (in pixels, the first being 0) between 13.5 and 14.5.
CENTRE = 14
# Widths of pen in pixels of the box, as `_pen_width` measures them in MNIST's test digits: about a tenth is thinner
# than the first, a tenth thicker than the second; none at all is thinner than the third.
PEN_RANGE = (1.8, 3.3)
THINNEST = 1.0

LARGEST_PICTURE = 50_000_000  # pixels; telephones take 12 to 48 million
LARGEST_FILE = 40_000_000  # bytes
LONGEST_SIDE = 600  # what a picture is shrunk to: 30 pixels for each of the box's

Stroke = Sequence[tuple[float, float]]


# --- From pen to pixels ---------------------------------------------------------------------------------------------


def draw_strokes(strokes: Sequence[Stroke], *, side: int = 280, pen: float | None = None) -> Tensor:
    """Draw with a round pen on a square sheet, with smooth edges (anti-aliased).

    strokes: each a sequence of points (x, y) in pixels of the sheet, 0 to side, x to the right and y down, joined by
        straight lines; a single point is a dot. What lies off the sheet is cut off. None at all leaves it empty.
    pen: the width of the line in pixels, by default a twentieth of the side.
    Returns (side, side) uint8, 0 = paper, 255 = ink.
    Raises ValueError for a side or pen that is not positive, or points that are not pairs of finite numbers.
    """
    pen = side / 20 if pen is None else pen
    if side < 1 or not 0 < pen < math.inf:
        raise ValueError(f"side must be at least 1 and pen a width above 0, in pixels; got side={side}, pen={pen}.")
    radius = pen / 2
    reach = radius + 0.5  # beyond the radius by half a pixel, the ink has faded to nothing
    centres = np.arange(side) + 0.5
    squared = np.full((side, side), np.inf)  # squared distance of each pixel's centre from the line
    for stroke in strokes:
        points = _check_stroke(stroke)
        for start, end in zip(points, points[1:] or points, strict=False):
            for (x0, y0), (x1, y1) in _short_pieces(start, end, side):
                # Only the pixels near this piece, for speed.
                left, right = _between(min(x0, x1) - reach, max(x0, x1) + reach, side)
                top, bottom = _between(min(y0, y1) - reach, max(y0, y1) + reach, side)
                if left >= right or top >= bottom:
                    continue
                x, y = centres[left:right] - x0, centres[top:bottom, None] - y0
                dx, dy = x1 - x0, y1 - y0
                # How far along the piece its nearest point is: 0 at the start, 1 at the end.
                length = dx * dx + dy * dy
                along = np.minimum(np.maximum((x * dx + y * dy) / length, 0), 1) if length > 0 else 0
                window = squared[top:bottom, left:right]
                np.minimum(window, (x - along * dx) ** 2 + (y - along * dy) ** 2, out=window)
    # A line thinner than a pixel never covers one: it stays as faint as it is thin.
    ink = np.clip(reach - np.sqrt(squared), 0, min(1, pen))
    return torch.from_numpy(np.rint(ink * 255).astype(np.uint8))


def _check_stroke(stroke: Stroke) -> list[tuple[float, float]]:
    try:
        points = [(float(x), float(y)) for x, y in stroke]
    except (TypeError, ValueError):
        points = [(math.nan, math.nan)]
    if not all(math.isfinite(x) and math.isfinite(y) for x, y in points):
        raise ValueError(
            "draw_strokes expects a sequence of strokes, each a sequence of points (x, y), two finite numbers in "
            f"pixels; got a stroke {str(stroke)[:80]}. A single stroke still goes in a list: draw_strokes([stroke])."
        )
    return points


def _short_pieces(start: tuple[float, float], end: tuple[float, float], side: int):
    """Cut a line into pieces; a long slanted line would otherwise have nearly the whole sheet near it."""
    (x0, y0), (x1, y1) = start, end
    count = 1 + int(min(abs(x1 - x0), abs(y1 - y0), 8 * side) * 8 / side)
    stops = [(x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count) for i in range(count)] + [end]
    return pairwise(stops)


def _between(low: float, high: float, side: int) -> tuple[int, int]:
    return max(0, min(side, math.floor(low))), max(0, min(side, math.ceil(high)))


# --- From pixels to MNIST -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Normalised:
    """A drawing on its way to an MNIST image. All are uint8, 0 = paper, 255 = ink.

    crop: (height, width), the drawing cut to its ink.
    boxed: (height, width), the same with its longer side 20, the pen made about as wide as MNIST's.
    image: (28, 28), what the network gets.
    shift: by how many pixels (rows down, columns to the right) `boxed` was moved out of the middle of `image` to bring
        its centre of mass there; (0, 0) with centre=False, where `image` is the whole sheet, scaled.
    """

    crop: Tensor
    boxed: Tensor
    image: Tensor
    shift: tuple[float, float]


def normalise(image: Tensor, *, centre: bool = True) -> Normalised:
    """Treat a drawing as MNIST's makers treated theirs: fit it into a box of 20x20, then centre it by its mass.

    image: (height, width) uint8, 0 = paper, 255 = ink, of any size.
    centre: without it `Normalised.image` is the whole sheet scaled to 28x28, the digit where and as large as it was.
    Returns the steps and the result (LeCun et al. 1998, p. 10). One step is not in the paper: a pen much thinner or
    thicker than those of MNIST is corrected first, as NIST's writers all had much the same pen and sheet.
    MNIST's own digits come out as they went in, but for the rarest.
    Raises ValueError for another shape or dtype, or if nothing is drawn.
    """
    if not isinstance(image, Tensor) or image.dim() != 2 or image.dtype != torch.uint8 or image.numel() == 0:
        raise ValueError(
            "normalise expects one drawing, (height, width) uint8, 0 = paper, 255 = ink; "
            f"got {describe_tensor(image)}. Several images go through it one at a time."
        )
    image = image.cpu()
    rows, columns = image.amax(dim=1).nonzero(), image.amax(dim=0).nonzero()
    if len(rows) == 0:
        raise ValueError("There is nothing to centre: no pixel of the image has any ink. Draw something first.")
    crop = image[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
    boxed = _to_uint8(fit(_correct_pen(crop), BOX))
    if centre:
        top, left = _corner(boxed)
    else:
        whole = _to_uint8(fit(image.float() / 255, SIDE))
    placed = boxed if centre else whole
    height, width = placed.shape
    middle = (SIDE - height) / 2, (SIDE - width) / 2
    if not centre:
        top, left = int(middle[0]), int(middle[1])
    result = torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    result[top : top + height, left : left + width] = placed
    shift = (top - middle[0], left - middle[1]) if centre else (0.0, 0.0)
    return Normalised(crop.clone(), boxed, result, shift)


def _correct_pen(crop: Tensor) -> Tensor:
    """Make the pen about as wide, and as dark, as MNIST's: (height, width) uint8 to float32, 0 to 1, perhaps of another
    size. A digit that fits the box already is left alone, unless it is fainter or thinner than any of MNIST."""
    ink = crop.float() / 255
    longer = max(ink.shape)
    width = _pen_width(ink) * BOX / longer
    if longer <= BOX and width >= THINNEST and ink.max() > 0.9:
        return ink
    ink = ink / ink.max()
    wanted = min(max(width, PEN_RANGE[0]), PEN_RANGE[1])
    if wanted == width:
        return ink
    # Eight pixels for each of the box's: fine enough to widen the pen by a quarter of a pixel in the end.
    large = fit(ink, 8 * BOX)
    # Each side of every line moves by `radius`, and so does the outline: (pen + 2r) / (longer + 2r) = wanted / 20.
    radius = (wanted / BOX * max(large.shape) - _pen_width(large)) / (1 - wanted / BOX) / 2
    corrected = _widen(large, round(radius)) if radius > 0 else 1 - _widen(1 - large, round(-radius), around=1.0)
    rows, columns = corrected.amax(dim=1).nonzero(), corrected.amax(dim=0).nonzero()
    # Where lines are of very different widths, the thin ones could vanish for the thick ones' sake.
    if len(rows) == 0 or corrected.amax() < 0.5:
        return ink
    return corrected[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]


def _pen_width(ink: Tensor) -> float:
    """Return the mean width of the lines in pixels: a long line has twice its area divided by its outline.

    The outline's length is the sum of the slopes, as every way across an edge climbs from 0 to 1 once.
    """
    padded = pad(ink, (1, 1, 1, 1))
    # Along the diagonals, so that a mirrored drawing has the same width; they are longer by the root of 2.
    falling, rising = padded[1:, 1:] - padded[:-1, :-1], padded[1:, :-1] - padded[:-1, 1:]
    return float(2 * ink.sum() / (torch.hypot(falling, rising).sum() / math.sqrt(2)))


def _widen(ink: Tensor, radius: int, *, around: float = 0.0) -> Tensor:
    """Give each pixel the largest value within `radius`, on a sheet larger by that much, `around` it."""
    ink = pad(ink, (radius,) * 4, value=around)
    height = len(ink)
    taller = pad(ink, (0, 0, radius, radius), value=around)
    result = ink
    for down in range(-radius, radius + 1):
        half = math.isqrt(radius * radius - down * down)  # of a disc's width in this row
        row = taller[radius + down : radius + down + height]
        wide = max_pool2d(pad(row, (half, half), value=around)[None, None], (1, 2 * half + 1), stride=1)[0, 0]
        result = torch.maximum(result, wide)
    return result


def fit(image: Tensor, longer_side: int) -> Tensor:
    """Scale an image so that its longer side is `longer_side`, keeping its shape (to a whole pixel, at least 1).

    image: (height, width) float32. Returns (new height, new width) float32: each pixel the mean over the area that it
    covers where the image shrinks, interpolated linearly where it grows.
    """
    height, width = image.shape
    scale = longer_side / max(height, width)
    rows, columns = (_resampling(old, max(1, round(old * scale))) for old in (height, width))
    return rows @ image @ columns.T


def _resampling(old: int, new: int) -> Tensor:
    """Return (new, old) float32: how much of each old pixel goes into each new one. Each row's sum is 1."""
    pixels = torch.arange(old, dtype=torch.float64)
    if new <= old:
        ends = torch.arange(new + 1, dtype=torch.float64)[:, None] * (old / new)
        shared = torch.minimum(ends[1:], pixels + 1) - torch.maximum(ends[:-1], pixels)
    else:
        places = ((torch.arange(new, dtype=torch.float64) + 0.5) * (old / new) - 0.5).clamp(0, old - 1)
        shared = 1 - (places[:, None] - pixels).abs()
    shared = shared.clamp(min=0)
    return (shared / shared.sum(dim=1, keepdim=True)).float()


def _corner(boxed: Tensor) -> tuple[int, int]:
    """Return the row and column in a 28x28 image where the upper left corner brings the centre of mass to CENTRE."""
    mass = boxed.double()
    corner = []
    for weights in (mass.sum(dim=1), mass.sum(dim=0)):
        middle = float((weights * torch.arange(len(weights))).sum() / weights.sum())
        # Halves upwards; at the ends the box stops at the image's edge.
        corner.append(min(max(math.floor(CENTRE - middle + 0.5), 0), SIDE - len(weights)))
    return corner[0], corner[1]


def _to_uint8(ink: Tensor) -> Tensor:
    return (ink * 255).round().clamp(0, 255).to(torch.uint8)


# --- From a picture to ink ------------------------------------------------------------------------------------------


def from_picture(picture: bytes) -> Tensor:
    """Read an uploaded picture of something written, dark on light or light on dark, and take the paper away.

    picture: a file's content, PNG, JPEG or what else Pillow reads; grey, colour or partly transparent. Light that
        changes gently over the paper is evened out. Sharp shadows, lines on the paper and a table around it are not:
        they count as ink.
    Returns (height, width) uint8, 0 = paper, 255 = ink, the longer side at most 600.
    Raises ValueError for what is no picture, is too large, or shows nothing but paper.
    """
    grey = _read_grey(picture)
    ink = grey - _paper(grey)
    # Ink covers less than paper does, and so lies further from it, on whichever side it is.
    ink = ink if (ink**3).sum() > 0 else -ink
    noise = 1.5 * float(ink.abs().median())
    threshold = _between_paper_and_ink(ink)
    written = ink[ink > threshold]
    if len(written) == 0 or float(written.median()) < max(15, 4 * noise):
        raise ValueError("The picture shows nothing but paper. Write larger or darker, or photograph it from nearer.")
    # Nothing up to the paper's noise, and full ink from the middle of what is written.
    floor = min(max(3 * noise, 0.25 * threshold), threshold)
    return _to_uint8(_without_specks((ink - floor) / (written.median() - floor)))


def _read_grey(picture: bytes) -> Tensor:
    """Return (height, width) float32, 0 = black, 255 = white, the longer side at most LONGEST_SIDE."""
    if not isinstance(picture, bytes | bytearray | memoryview):
        raise ValueError(f"from_picture expects a file's content as bytes; got {describe_tensor(picture)}.")
    if len(picture) > LARGEST_FILE:
        raise ValueError(f"The file is too large: {len(picture):,} bytes; at most {LARGEST_FILE:,} are read.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
            image = Image.open(io.BytesIO(picture))
        size = image.size
        if size[0] * size[1] <= LARGEST_PICTURE:
            image.draft("L", (2 * LONGEST_SIDE, 2 * LONGEST_SIDE))  # a JPEG can be read smaller, and faster
            image = ImageOps.exif_transpose(image).convert("RGBA")
    except Image.DecompressionBombError:
        size = (LARGEST_PICTURE, 2)
    except Exception as error:  # Pillow's readers raise nearly anything for a broken file
        raise ValueError(f"This is no picture that can be read, PNG or JPEG for instance: {error}.") from error
    if size[0] * size[1] > LARGEST_PICTURE:
        raise ValueError(f"The picture is too large; at most {LARGEST_PICTURE:,} pixels are read. Shrink it first.")
    pixels = torch.from_numpy(np.array(image)).float()
    grey, opaque = pixels[..., :3] @ torch.tensor([0.299, 0.587, 0.114]), pixels[..., 3] / 255
    # What is seen through the picture is taken to be unlike what is painted on it, black or white.
    behind = 0.0 if (grey * opaque).sum() > 127 * opaque.sum() else 255.0
    grey = grey * opaque + behind * (1 - opaque)
    return fit(grey, LONGEST_SIDE) if max(grey.shape) > LONGEST_SIDE else grey


def _paper(grey: Tensor) -> Tensor:
    """Return how bright the paper is at every place, (height, width): the curved surface that fits most of it."""
    # Light changes slowly: a small copy is enough to fit it to.
    small = fit(grey, 100) if max(grey.shape) > 100 else grey
    terms, values = _surface_terms(*small.shape), small.flatten().double()
    surface = values.median().expand_as(values)
    for _ in range(8):
        far = (values - surface).abs()
        weights = 1 / (1 + (far / far.median().clamp(min=3)) ** 4)  # ink counts for next to nothing
        normal = (terms * weights[:, None]).T @ terms + 1e-6 * torch.eye(6, dtype=torch.float64)
        solution = torch.linalg.solve(normal, (terms * weights[:, None]).T @ values)
        surface = terms @ solution
    return (_surface_terms(*grey.shape) @ solution).reshape(grey.shape).float()


def _surface_terms(height: int, width: int) -> Tensor:
    """Return 1, x, y, xx, xy, yy at every pixel, (height * width, 6) float64; x and y go from -1 to 1."""
    y, x = (2 * (torch.arange(length, dtype=torch.float64) + 0.5) / length - 1 for length in (height, width))
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], dim=-1).flatten(end_dim=1)


def _between_paper_and_ink(ink: Tensor) -> float:
    """Return the value that splits the pixels into the two most different groups (Otsu 1979), to a whole grey."""
    values = ink.clamp(min=0)
    counts = torch.histc(values, bins=256, min=0, max=256).double()
    sums = (counts * (torch.arange(256) + 0.5)).cumsum(0)
    below = counts.cumsum(0)
    above = below[-1] - below
    spread = below * above * (sums / below.clamp(min=1) - (sums[-1] - sums) / above.clamp(min=1)) ** 2
    # Where no pixel lies between the groups, any value there splits them as well: take the middle one.
    best = (spread >= spread.max() * (1 - 1e-9)).nonzero()
    return float(best[0] + best[-1]) / 2 + 1


def _without_specks(ink: Tensor) -> Tensor:
    """Take away what has next to nothing around it: dust would stretch the digit's frame, and so shrink the digit."""
    near = max(ink.shape) // 60  # in a small picture each pixel may count
    if near < 2:
        return ink.clamp(0, 1)
    dark = (ink > 0.5).float()[None, None]
    share = avg_pool2d(dark, 2 * near + 1, stride=1, padding=near)[0, 0]
    return torch.where(share > 0.06, ink.clamp(0, 1), 0)
