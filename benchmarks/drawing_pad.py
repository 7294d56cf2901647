"""How long is it from the end of a stroke on the drawing pad to the picture of what the network made of it?

    python benchmarks/drawing_pad.py [--rounds 5] [--strokes 20]

A real JupyterLab and a real Chromium on this machine, as in tests/browser, and a mouse that draws 1, 7 and 0. The page's own
clock counts from the mouse button's release to two frames after the answer came, when the browser has painted it. A round
is so many strokes; of each, the median and the 95th percentile are taken. Without a Chromium it says so and measures nothing.
"""

from __future__ import annotations

import itertools
import math
import statistics
import sys

from measuring import ROOT, arguments, figure, finish, positive

NOTEBOOK = """
import lenet_course
from lenet_course.data import load_mnist
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import LeNet5
from lenet_course.weights import load_weights
from lenet_course.widgets.drawing_pad import drawing_pad

lenet, lenet5 = LeNet(), LeNet5()
load_weights(lenet, "lenet", source="shipped")
load_weights(lenet5, "lenet5", source="shipped")
pad = drawing_pad({"LeNet-5": lenet5, "LeNet": lenet}, load_mnist("test"))
pad
"""
# Strokes in the pad's own units, 0 to 280.
ONE = [(140, 40), (140, 240)]
SEVEN = [(80, 60), (200, 60), (130, 230)]
ZERO = [(140 + 55 * math.sin(turn / 20 * math.tau), 140 - 85 * math.cos(turn / 20 * math.tau)) for turn in range(21)]
SIDE = 280
ANSWERED = "() => document.querySelector('.lenet-pad').dataset.milliseconds"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--strokes", type=positive, default=20, help="in each round (default 20)")
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests" / "browser"))
    try:
        from lab import LabError, find_chromium

        find_chromium()
    except ImportError as error:
        print(f"The drawing pad was not measured: {error}")
        return
    except LabError as error:
        print(f"The drawing pad was not measured: {error}")
        return
    rounds = measure(given.rounds, given.strokes)
    percentiles = [percentile_95(values) for values in rounds]
    figures = [
        figure("stroke to picture, 95th percentile", percentiles, "ms", note=f"of {given.strokes} strokes a round"),
        figure("stroke to picture, median", [statistics.median(values) for values in rounds], "ms"),
    ]
    finish("drawing_pad", "Drawing pad", figures, given.results)


def percentile_95(values: list[float]) -> float:
    """Return the smallest of the values that at least 95% of them do not exceed."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def measure(rounds: int, strokes: int) -> list[list[float]]:
    """Return the milliseconds of each stroke, round by round."""
    from lab import chromium, notebook_page, running_lab

    with running_lab() as lab, chromium() as browser, notebook_page(lab, browser) as page:
        page.open_new(NOTEBOOK)
        page.run_all()
        canvas = page.page.locator(".lenet-pad canvas")
        canvas.wait_for(timeout=60_000)
        canvas.scroll_into_view_if_needed()
        shapes = itertools.cycle((ONE, SEVEN, ZERO))
        time_stroke(page.page, canvas, next(shapes))  # the first one loads what the others find there
        found = []
        for number in range(1, rounds + 1):
            found.append([time_stroke(page.page, canvas, next(shapes)) for _ in range(strokes)])
            print(f"round {number}: median {statistics.median(found[-1]):.0f} ms", flush=True)
        return found


def time_stroke(window, canvas, points: list[tuple[float, float]]) -> float:
    """Draw one stroke on the empty pad, return the milliseconds until its picture was there, and clear the pad."""
    box = canvas.bounding_box()
    places = [(box["x"] + x * box["width"] / SIDE, box["y"] + y * box["height"] / SIDE) for x, y in points]
    window.mouse.move(*places[0])
    window.mouse.down()
    for place in places[1:]:
        window.mouse.move(*place, steps=4)
    window.mouse.up()
    milliseconds = float(window.wait_for_function(ANSWERED).json_value())
    window.locator(".lenet-pad").get_by_role("button", name="Clear").click()
    window.locator(".lenet-pad [role=status]", has_text="Draw a digit.").wait_for()
    window.wait_for_function(ANSWERED)
    return milliseconds


if __name__ == "__main__":
    main()
