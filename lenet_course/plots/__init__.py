"""Pictures: each function draws on the axes that it is given (or new ones), returns them, and computes nothing.

Every picture carries a text description, so that it can be read without being seen; `show` displays both. The automatic
text says what is drawn and holds no measured number, since nbval compares it between machines; `description=` replaces it.
"""

from lenet_course.plots.architecture import architecture, parameter_share
from lenet_course.plots.bands import seed_bands
from lenet_course.plots.curves import bars, confusion_matrix, curves, score_history
from lenet_course.plots.describing import describe, description_of, show, use_course_style
from lenet_course.plots.grids import connection_table, number_grid
from lenet_course.plots.intervals import intervals
from lenet_course.plots.maps import digit, digits, feature_maps, kernels
from lenet_course.plots.positions import kernel_positions
from lenet_course.plots.ranks import shared_batch

__all__ = [
    "architecture",
    "bars",
    "confusion_matrix",
    "connection_table",
    "curves",
    "describe",
    "description_of",
    "digit",
    "digits",
    "feature_maps",
    "intervals",
    "kernel_positions",
    "kernels",
    "number_grid",
    "parameter_share",
    "score_history",
    "seed_bands",
    "shared_batch",
    "show",
    "use_course_style",
]
