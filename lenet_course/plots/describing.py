"""What goes with every picture: the style, the text description, and showing both."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

STYLE = Path(__file__).with_name("course.mplstyle")


def use_course_style() -> None:
    """Give all figures from here on the course's style."""
    plt.style.use(STYLE)


def new_axes(ax: Axes | None, **settings: Any) -> Axes:
    """Return the axes that were given, or those of a new figure."""
    return plt.subplots(**settings)[1] if ax is None else ax


def describe(ax: Axes, text: str, *, instead: str | None = None) -> Axes:
    """Attach a text description to the axes, in place of the one they had; return the axes.

    instead: used in place of text unless it is None. Plot functions pass their caller's `description` here.

    text: what a reader who cannot see the picture needs to know, in one to three sentences. Raises ValueError if empty.
    """
    text = text if instead is None else instead
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"A description is a sentence or two; got {text!r}.")
    ax._course_description = text.strip()
    return ax


def description_of(figure: Figure) -> str:
    """Return the descriptions of all axes of the figure, in order, each once; '' if there are none."""
    texts = [getattr(ax, "_course_description", "") for ax in figure.axes]
    return " ".join(dict.fromkeys(text for text in texts if text))


def show(picture: Axes | Figure | np.ndarray) -> None:
    """Display a figure, given as itself or as its axes, with its description folded up below; then close it.

    The description is also in the picture's metadata as "alt". JupyterLab does not pass that on to a screen reader:
    hence the text below.
    Raises ValueError if the figure has no description.
    """
    figure = _figure_of(picture)
    text = description_of(figure)
    if not text:
        raise ValueError("This figure has no description. Add one: plots.describe(ax, 'what there is to see').")
    if _in_a_notebook():
        from IPython.display import HTML, display

        picture = {"image/png": _small_png(figure), "text/plain": repr(figure)}
        display(picture, raw=True, metadata={"image/png": {"alt": text}})
        display(HTML(f"<details><summary>Description of the picture</summary>{html.escape(text)}</details>"))
    else:
        plt.show()
    plt.close(figure)


def _figure_of(picture: Axes | Figure | np.ndarray) -> Figure:
    if isinstance(picture, Figure):
        return picture
    first = np.asarray(picture, dtype=object).flat[0]
    if not isinstance(first, Axes):
        raise ValueError(f"show takes a figure or its axes; got {type(picture).__name__}.")
    return first.figure


def _small_png(figure: Figure) -> str:
    """Return the figure as PNG in base64, in 256 colours: a third of the size, and a chapter holds all its pictures."""
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", bbox_inches="tight", facecolor="white")
    Image.open(full).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, format="PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def _in_a_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def to_array(values: Any) -> np.ndarray:
    """Return a tensor, array or list as a NumPy array."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
