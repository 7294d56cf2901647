"""Write strokes.json: 140 digits as a pen would draw them, to see how well the drawing pad reads hands that are not
MNIST's. `python data/strokes/make_strokes.py`, a second.

The shapes were typed by hand, before any network had seen them, and none was changed or left out for being misread.
Each is what one person's pen does: "x,y x,y" is a smooth curve through points (y from 0, the top, to 100), "/" a corner
in it, "|" the pen lifted. Fourteen writers share them, each with a shape, slant, size, place and pen of their own.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import NamedTuple

SIDE = 280  # pixels of the sheet

SHAPES = {
    0: {
        "round": "30,0 10,15 0,50 10,85 30,100 50,85 60,50 50,15 30,0",
        "narrow": "22,0 8,20 4,50 8,82 22,100 36,80 40,50 36,20 22,0",
        "overlapping": "40,5 20,2 5,25 0,60 12,92 32,100 52,78 58,40 50,12 30,8 18,14",
        "not closed": "45,10 25,0 5,25 2,65 20,97 42,92 56,60 54,28",
        "circle": "50,0 15,12 0,50 15,88 50,100 85,88 100,50 85,12 52,1",
        "with a loop": "25,5 8,30 5,65 25,98 48,85 57,50 48,15 28,3 22,12 36,14 50,4",
    },
    1: {
        "a line": "3,0 1,50 1,100",
        "serif": "0,28 12,16 25,0 / 25,50 25,100",
        "serif and foot": "5,25 25,0 / 25,100 | 0,100 50,100",
        "short serif": "14,12 25,0 / 24,50 23,100",
        "long serif": "0,40 18,22 32,0 / 32,55 31,100",
        "bent": "10,0 4,30 2,65 5,100",
    },
    2: {
        "classic": "3,22 15,4 35,0 53,12 52,35 30,65 2,98 / 30,98 60,97",
        "loop below": "5,25 15,5 35,0 52,15 48,42 25,78 8,95 2,88 12,80 30,92 45,100 60,92",
        "like a z": "2,10 30,0 50,8 45,35 20,75 0,100 / 60,100",
        "swan": "8,20 22,2 42,4 50,22 38,55 5,100 / 25,92 45,96 60,88",
        "small head": "12,15 25,2 40,5 44,20 30,50 0,98 / 58,100",
        "wide foot": "10,18 28,0 46,10 44,35 22,72 0,97 / 40,95 80,99",
    },
    3: {
        "round": "3,12 22,0 48,5 52,25 38,42 20,47 / 42,50 58,70 48,94 22,100 0,88",
        "small loop": "5,10 28,0 50,12 45,35 22,45 18,50 28,49 52,60 55,82 32,100 2,92",
        "flat top": "0,0 50,0 / 22,40 / 45,45 57,68 45,93 20,100 0,90",
        "large below": "8,8 25,0 42,10 40,28 18,40 / 45,44 60,70 45,96 20,100 0,84",
        "narrow": "2,8 20,0 36,12 30,36 14,46 / 34,54 40,78 26,98 0,94",
    },
    4: {
        "open": "10,0 2,50 / 60,52 | 46,15 42,100",
        "open, round": "5,5 0,40 8,54 50,48 | 45,0 43,50 40,100",
        "closed": "40,0 0,65 / 60,65 | 40,0 40,100",
        "closed, low leg": "45,0 0,60 / 65,60 | 45,28 42,100",
        "one stroke": "3,0 4,35 20,48 45,40 50,0 / 48,50 46,100",
        "open, short arm": "14,0 0,58 / 42,58 | 38,30 34,100",
    },
    5: {
        "two strokes": "12,0 8,42 / 30,36 52,50 54,75 38,96 15,100 0,88 | 12,0 55,0",
        "one stroke": "55,0 10,2 / 6,42 / 28,35 50,48 55,72 38,97 10,100 0,92",
        "like an s": "52,4 20,3 10,20 14,40 40,52 50,72 36,95 5,96",
        "large belly": "45,0 12,0 / 10,35 / 35,32 60,55 52,88 25,100 0,90",
        "small belly": "48,0 18,2 / 8,50 / 28,47 42,60 40,84 22,100 0,96",
        "hat apart": "10,6 7,45 / 28,38 48,52 50,78 32,99 2,94 | 16,0 52,-3",
    },
    6: {
        "curled": "45,0 20,25 4,60 10,92 30,100 50,88 52,68 35,55 15,62 6,78",
        "straight": "35,0 15,40 3,72 15,98 38,97 48,78 36,62 14,68 5,80",
        "small loop": "30,0 10,35 2,75 12,98 30,97 35,82 22,74 6,84",
        "large loop": "50,5 28,0 8,30 0,65 15,97 42,98 58,75 48,50 25,46 5,62",
        "not closed": "38,0 12,40 5,80 25,100 46,85 40,65 18,70",
    },
    7: {
        "plain": "0,3 55,0 / 35,45 20,100",
        "crossed": "0,3 55,0 / 35,45 20,100 | 12,52 54,48",
        "serif": "2,18 3,2 / 58,2 / 35,50 25,100",
        "bent": "0,8 25,3 55,2 / 40,30 25,65 22,100",
        "wave, crossed": "0,10 15,0 35,8 55,0 / 38,40 22,100 | 18,50 48,50",
    },
    8: {
        "from the s": "48,12 28,0 10,12 15,32 35,48 52,70 42,95 20,100 4,85 12,62 35,45 48,28 48,12",
        "two circles": "30,0 12,10 10,30 30,45 48,30 46,10 30,0 | 30,45 5,62 5,88 30,100 55,88 55,62 30,45",
        "not closed": "50,15 32,0 12,10 14,32 34,50 50,72 40,97 16,97 5,78 20,55 42,35 54,22",
        "narrow": "30,6 20,0 8,12 12,34 26,52 34,76 24,98 8,94 4,74 16,52 30,32 32,12 24,1",
        "small head": "42,18 30,5 20,15 24,32 42,48 58,72 44,98 15,98 0,75 20,50 38,34 42,18",
    },
    9: {
        "straight leg": "50,12 28,0 5,12 2,35 20,50 42,42 50,12 / 49,50 46,100",
        "curved leg": "50,18 32,0 8,8 2,30 18,48 42,40 50,15 / 52,45 45,80 25,100 5,95",
        "small head": "40,10 25,0 10,10 12,28 28,32 40,12 / 38,60 30,100",
        "not closed": "45,8 20,5 4,25 14,45 38,38 48,10 / 44,55 38,100",
        "slanted leg": "52,12 30,0 8,14 6,36 24,48 44,36 52,8 / 40,60 22,100",
    },
}


class Writer(NamedTuple):
    """One hand. `shapes`: which of each digit's shapes, for the digits 0 to 9."""

    shapes: str
    height: float = 180  # pixels
    pen: float = 17.5
    slant: float = 0.0  # to the right, of the height
    width: float = 1.0
    turn: float = 0.0  # degrees, clockwise
    middle: tuple[float, float] = (140, 140)
    wobble: float = 0.0  # pixels
    haste: int = 0  # how often corners are cut


WRITERS = {
    "upright": Writer("0100000000"),
    "slanted": Writer("2513110211", height=170, slant=0.35),
    "backhand": Writer("3034411330", slant=-0.22, pen=15),
    "small": Writer("0101100022", height=65, pen=8, middle=(150, 128)),
    "in a corner": Writer("2220243041", height=85, middle=(66, 60)),
    "thin": Writer("0332232420", height=190, pen=4, turn=-3),
    "thick": Writer("0351301101", height=190, pen=32),
    "wide": Writer("4153024131", height=140, width=1.3),
    "narrow": Writer("1404340334", height=215, width=0.75),
    "wobbly": Writer("3240151240", height=185, wobble=4.0),
    "hasty": Writer("3323524023", height=150, slant=0.2, pen=14, haste=3),
    "large": Writer("5012020242", height=245, turn=4),
    "school": Writer("0240211103", height=170, pen=20),
    "turned": Writer("2514403324", height=165, turn=12, wobble=1.5),
}


def parse(shape: str) -> list[list[list[tuple[float, float]]]]:
    """Return the strokes of a shape, each a list of curves, each a list of points; a curve starts where one ended."""
    strokes = []
    for stroke in shape.split("|"):
        curves = []
        for curve in stroke.split("/"):
            points = [tuple(float(number) for number in point.split(",")) for point in curve.split()]
            curves.append(([curves[-1][-1]] if curves else []) + points)
        strokes.append(curves)
    return strokes


def smooth(points: list[tuple[float, float]], steps: int = 8) -> list[tuple[float, float]]:
    """Return points on the smooth curve through the given ones (Catmull and Rom 1974)."""
    before, after = [points[0], *points[:-1]], [*points[1:], points[-1]]
    result = [points[0]]
    for i in range(len(points) - 1):
        for step in range(1, steps + 1):
            t = step / steps
            place = []
            for k in (0, 1):
                p, q = points[i][k], points[i + 1][k]
                leaving, arriving = (after[i][k] - before[i][k]) / 2, (after[i + 1][k] - before[i + 1][k]) / 2
                cubic = 2 * p - 2 * q + leaving + arriving, -3 * p + 3 * q - 2 * leaving - arriving
                place.append(((cubic[0] * t + cubic[1]) * t + leaving) * t + p)
            result.append(tuple(place))
    return result


def cut_corners(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Move every point but the ends towards its neighbours, as a pen in a hurry does."""
    inner = [
        tuple((a + 2 * b + c) / 4 for a, b, c in zip(*three, strict=True))
        for three in zip(points, points[1:], points[2:], strict=False)
    ]
    return [points[0], *inner, points[-1]]


def write(digit: int, writer: Writer, random_source: random.Random) -> list[list[list[float]]]:
    """Return the strokes of a digit in pixels of the sheet, as this writer's pen would go."""
    shape = list(SHAPES[digit].values())[int(writer.shapes[digit])]
    strokes = []
    phases = [random_source.uniform(0, 2 * math.pi) for _ in range(4)]
    for curves in parse(shape):
        points = [point for i, curve in enumerate(curves) for point in smooth(curve)[1 if i else 0 :]]
        for _ in range(writer.haste):
            points = cut_corners(points)
        strokes.append(points)
    every = [point for points in strokes for point in points]
    middle_x = (min(x for x, _ in every) + max(x for x, _ in every)) / 2
    turn, scale = math.radians(writer.turn), writer.height / 100
    placed = []
    for points in strokes:
        here = []
        for x, y in points:
            # Two slow waves in each direction: a hand that trembles, not dust.
            swing_x = writer.wobble * (math.sin(y / 7 + phases[0]) + math.sin(x / 5 + phases[1])) / 2
            swing_y = writer.wobble * (math.sin(x / 8 + phases[2]) + math.sin(y / 6 + phases[3])) / 2
            x, y = (x - middle_x) * writer.width + (50 - y) * writer.slant, y - 50
            x, y = x * scale + swing_x, y * scale + swing_y
            x, y = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
            here.append([round(x + writer.middle[0], 1), round(y + writer.middle[1], 1)])
        placed.append(here)
    return placed


def main() -> None:
    random_source = random.Random(1998)
    drawings = []
    for name, writer in WRITERS.items():
        for digit, shapes in SHAPES.items():
            style = f"{name}: {list(shapes)[int(writer.shapes[digit])]}"
            strokes = write(digit, writer, random_source)
            drawings.append({"digit": digit, "style": style, "pen": writer.pen, "strokes": strokes})
    lines = ",\n".join(json.dumps(drawing) for drawing in drawings)
    Path(__file__).with_name("strokes.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{len(drawings)} drawings of {len(WRITERS)} writers")


if __name__ == "__main__":
    main()
