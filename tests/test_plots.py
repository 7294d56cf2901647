import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from nbclient import NotebookClient

from lenet_course import plots
from lenet_course.arithmetic import LayerRow, LayerTable, layer_table
from lenet_course.lenet import LeNet

MAPS = torch.linspace(-1, 2, 6 * 4 * 5).reshape(6, 4, 5)
IMAGES = torch.arange(4 * 28 * 28).reshape(4, 28, 28) % 256


@pytest.fixture(scope="module")
def table():
    return layer_table(LeNet(), (1, 28, 28))


@pytest.fixture(autouse=True)
def _close_figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts]


DRAWINGS = {
    "digit": lambda table, **axes: plots.digit(IMAGES[0], **axes),
    "digit as numbers": lambda table, **axes: plots.digit(IMAGES[0, :8, :8], numbers=True, **axes),
    "digits": lambda table, **axes: plots.digits(IMAGES, labels=[1, 2, 3, 4], **axes),
    "kernels": lambda table, **axes: plots.kernels(MAPS, **axes),
    "kernels of many maps": lambda table, **axes: plots.kernels(torch.rand(3, 2, 5, 5), **axes),
    "feature_maps": lambda table, **axes: plots.feature_maps(MAPS, **axes),
    "curves": lambda table, **axes: plots.curves({"a": [1, 2], "b": [2, 1]}, x_label="Epoch", y_label="Loss", **axes),
    "bars": lambda table, **axes: plots.bars(torch.rand(10), x_label="Digit", y_label="Score", **axes),
    "confusion_matrix": lambda table, **axes: plots.confusion_matrix(torch.eye(10, dtype=torch.int64), **axes),
    "score_history": lambda table, **axes: plots.score_history(torch.rand(5, 10), label=3, **axes),
    "kernel_positions": lambda table, **axes: plots.kernel_positions(7, 3, **axes),
    "architecture": lambda table, **axes: plots.architecture(table, **axes),
    "parameter_share": lambda table, **axes: plots.parameter_share(table, **axes),
    "connection_table": lambda table, **axes: plots.connection_table(torch.eye(3) > 0, **axes),
    "number_grid": lambda table, **axes: plots.number_grid(
        torch.eye(3), x_label="Digit", y_label="Code", quantity="Distance", **axes
    ),
    "intervals": lambda table, **axes: plots.intervals({"a": (-1, 0.5, 2), "b": (1, 2, 3)}, x_label="Points", **axes),
    "shared_batch": lambda table, **axes: plots.shared_batch(IMAGES, [[0, 2], [1, 3]], **axes),
    "seed_bands": lambda table, **axes: plots.seed_bands(
        {"ours": [[3.0, 1.0], [5.0, 2.0]]}, x_label="Pass", y_label="Test error (%)", **axes
    ),
}


# --- what all have in common ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DRAWINGS)
def test_draws_on_the_axes_that_it_is_given(name, table):
    _, ax = plt.subplots()
    assert DRAWINGS[name](table, ax=ax) is ax
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("name", DRAWINGS)
def test_makes_axes_when_there_are_none_and_describes_them(name, table):
    ax = DRAWINGS[name](table)
    assert isinstance(ax, Axes)
    description = plots.description_of(ax.figure)
    assert len(description) > 20 and description.endswith(".")
    assert plots.description_of(DRAWINGS[name](table).figure) == description or "rand" in name
    ax.figure.canvas.draw()  # a picture that cannot be drawn raises here


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_caller_can_say_it_better(name, table):
    ax = DRAWINGS[name](table, description="What there is to see.")
    assert plots.description_of(ax.figure) == "What there is to see."
    with pytest.raises(ValueError, match="A description is a sentence or two"):
        DRAWINGS[name](table, description=" ")


def test_every_public_function_is_tried_here():
    drawing = set(plots.__all__) - {"describe", "description_of", "show", "use_course_style"}
    assert drawing == {name.split()[0] for name in DRAWINGS}


def test_descriptions_hold_no_measured_numbers():
    """nbval compares them strictly, and measured numbers differ between processors."""
    one = plots.curves({"loss": [1.234, 0.5]}, x_label="Epoch", y_label="Loss")
    other = plots.curves({"loss": [1.235, 0.4]}, x_label="Epoch", y_label="Loss")
    assert plots.description_of(one.figure) == plots.description_of(other.figure)
    one, other = (plots.bars(torch.rand(10), x_label="Digit", y_label="Score") for _ in range(2))
    assert plots.description_of(one.figure) == plots.description_of(other.figure)


def test_the_style_is_asked_for_and_not_forced():
    plt.rcdefaults()
    plots.digit(IMAGES[0])
    assert plt.rcParams["axes.spines.top"]
    plots.use_course_style()
    assert not plt.rcParams["axes.spines.top"]


# --- describing and showing -----------------------------------------------------------------------------------------


def test_a_description_can_be_replaced_and_those_of_all_axes_are_joined_once():
    figure, axes = plt.subplots(1, 3)
    plots.describe(plots.digit(IMAGES[0], ax=axes[0]), "A seven.")
    plots.describe(axes[1], "An eight.")
    plots.describe(axes[2], "A seven.")
    assert plots.description_of(figure) == "A seven. An eight."


@pytest.mark.parametrize("text", ["", "  ", None, 3])
def test_a_description_is_words(text):
    with pytest.raises(ValueError, match="A description is a sentence or two"):
        plots.describe(plt.subplots()[1], text)


def test_a_figure_without_a_description_is_not_shown():
    figure, _ = plt.subplots()
    assert plots.description_of(figure) == ""
    with pytest.raises(ValueError, match=r"Add one: plots.describe"):
        plots.show(figure)


def test_show_takes_a_figure_or_axes_and_closes_it(monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(len(plt.get_fignums())))
    _, axes = plt.subplots(1, 2)
    plots.describe(axes[0], "Two pictures.")
    plots.show(axes)
    _, ax = plt.subplots()
    plots.show(plots.describe(ax, "One."))
    assert shown == [1, 1] and not plt.get_fignums()
    with pytest.raises(ValueError, match="a figure or its axes; got str"):
        plots.show("figure")


def test_in_a_notebook_picture_and_description_come_out_once():
    source = """
import matplotlib.pyplot as plt
from lenet_course import plots
plots.use_course_style()
ax = plots.describe(plt.subplots()[1], 'Less < more & "quotes".')
plots.show(ax)
assert not plt.get_fignums()
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    picture, words = notebook.cells[0].outputs
    assert picture.metadata["image/png"]["alt"] == 'Less < more & "quotes".'
    assert picture.data["image/png"]
    assert picture.data["text/plain"] == "<Figure size 650x360 with 1 Axes>"  # nbval compares it
    assert words.data["text/html"].startswith("<details>") and "Less &lt; more &amp;" in words.data["text/html"]


# --- digits, kernels, maps ------------------------------------------------------------------------------------------


def test_a_digit_is_dark_ink_on_light_paper():
    ax = plots.digit(IMAGES[0], title="A title")
    (picture,) = ax.images
    assert np.array_equal(picture.get_array(), IMAGES[0])
    assert picture.get_clim() == (0, 255) and picture.get_cmap().name == "gray_r"
    assert ax.get_title() == "A title"
    assert list(ax.get_xticks()) == [0, 27]
    assert list(plots.digit(IMAGES[0], ticks=False).get_xticks()) == []


def test_a_digits_range_is_the_callers():
    ax = plots.digit(torch.rand(5, 5), value_range=(-0.1, 1.175))
    assert ax.images[0].get_clim() == (-0.1, 1.175)


def test_a_small_image_has_a_raster_and_can_hold_its_numbers():
    assert plots.digit(torch.zeros(28, 28)).collections[:] == []
    patch = torch.tensor([[0, 255, 7], [128, 64, 1]], dtype=torch.uint8)
    ax = plots.digit(patch, numbers=True)
    assert [len(lines.get_segments()) for lines in ax.collections] == [2, 1]
    assert texts(ax) == ["0", "255", "7", "128", "64", "1"]
    assert [text.get_color() for text in ax.texts] == ["black", "white", "black", "white", "black", "black"]
    assert "its value written in it" in plots.description_of(ax.figure)
    assert texts(plots.digit(torch.tensor([[0.123456]]), value_range=(0, 1), numbers=True)) == ["0.123"]


def test_digits_show_every_image_and_mark_errors_in_words():
    ax = plots.digits(IMAGES[:, None], labels=torch.tensor([1, 2, 3, 4]), predictions=[1, 7, 3, 4], columns=3)
    assert texts(ax) == ["1", "2 > 7", "3", "4"]
    assert len(ax.patches) == 1
    assert ax.images[0].get_array().sum() == IMAGES.sum()
    assert "in 2 rows, labelled 1, 2, 3, 4" in plots.description_of(ax.figure)


@pytest.mark.parametrize("draw", [plots.kernels, plots.feature_maps])
def test_signed_values_have_one_scale_centred_on_zero(draw):
    ax = draw(MAPS)
    (picture,) = ax.images
    assert picture.get_clim() == (-2, 2)
    shown = picture.get_array()
    assert np.isclose(np.nansum(shown), MAPS.sum())
    assert len(ax.patches) == 6


def test_unsigned_maps_begin_at_zero_and_say_what_they_are():
    ax = plots.feature_maps(MAPS.abs(), signed=False, quantity="Times read")
    assert ax.images[0].get_clim() == (0, 2)
    assert ax.figure.axes[1].get_ylabel() == "Times read"
    assert plots.feature_maps(MAPS * 0).images[0].get_clim()[1] > 0


def test_maps_are_numbered():
    assert texts(plots.feature_maps(MAPS)) == ["0", "1", "2", "3", "4", "5"]
    assert texts(plots.feature_maps(MAPS, numbered=False)) == []
    assert texts(plots.feature_maps(MAPS[:1])) == []


def test_kernels_of_many_input_maps_have_a_row_for_each_output_map():
    ax = plots.kernels(torch.rand(3, 2, 5, 5))
    assert len(ax.patches) == 6
    assert "3 x 2 kernels" in plots.description_of(ax.figure)


def test_kernels_of_many_input_maps_are_numbered_down_and_across():
    ax = plots.kernels(torch.rand(50, 3, 5, 5))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Input map", "Output map")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "2"]
    assert [tick.get_text() for tick in ax.get_yticklabels()][:3] == ["0", "5", "10"]
    rows, columns = (
        [frame.get_y() + 2.5 for frame in ax.patches[::15]],
        [frame.get_x() + 2.5 for frame in ax.patches[:3]],
    )
    assert list(ax.get_yticks()) == rows and list(ax.get_xticks()) == columns


def test_some_of_the_input_maps_can_be_drawn():
    weight = torch.arange(2 * 4 * 3 * 3).reshape(2, 4, 3, 3).float()
    ax = plots.kernels(weight, columns=3)
    assert len(ax.patches) == 6
    assert np.nansum(ax.images[0].get_array()) == weight[:, :3].sum()
    assert "input map of the first 3, 3 x 3 weights" in plots.description_of(ax.figure)


def test_kernels_of_two_pictures_can_share_a_scale():
    assert plots.kernels(MAPS, limit=0.5).images[0].get_clim() == (-0.5, 0.5)


def test_maps_are_signed_if_a_value_is_negative_and_the_caller_does_not_say():
    assert plots.feature_maps(MAPS, signed=None).images[0].get_clim() == (-2, 2)
    assert plots.feature_maps(MAPS.abs(), signed=None).images[0].get_clim() == (0, 2)


# --- curves and numbers ---------------------------------------------------------------------------------------------


def test_curves_differ_without_colour():
    ax = plots.curves({"a": [3, 2, 1], "b": [1, 2, 3]}, x_label="Epoch", y_label="Loss")
    one, other = ax.lines
    assert one.get_linestyle() != other.get_linestyle() and one.get_marker() != other.get_marker()
    assert list(one.get_xdata()) == [1, 2, 3]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Epoch", "Loss")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert ax.get_ylim()[0] == 0
    assert plots.curves({"a": [1, 10]}, x_label="Step", y_label="Loss", log_y=True).get_yscale() == "log"


def test_bars_mark_one_not_only_by_colour():
    ax = plots.bars([1, -2, 3], labels="abc", highlight=1, x_label="Letter", y_label="Score")
    assert [bar.get_height() for bar in ax.patches] == [1, -2, 3]
    assert [bool(bar.get_hatch()) for bar in ax.patches] == [False, True, False]


def test_a_confusion_matrix_shades_only_errors():
    counts = torch.diag(torch.full((10,), 980))
    counts[4, 9] = 7
    ax = plots.confusion_matrix(counts)
    shaded = ax.images[0].get_array()
    assert shaded[4, 9] == 7 and shaded.sum() == 7
    assert sorted(texts(ax)) == sorted(["980"] * 10 + ["7"])


def test_score_history_labels_ten_lines_without_overlap():
    scores = torch.zeros(4, 10)
    scores[:, 3] = torch.tensor([0.0, 1, 2, 3])
    ax = plots.score_history(scores, label=3, x=[1, 21, 41, 61])
    assert len(ax.lines) == 10
    assert max(ax.lines, key=lambda line: line.get_linewidth()).get_ydata()[-1] == 3
    heights = sorted(text.get_position()[1] for text in ax.texts)
    assert min(np.diff(heights)) > 0.1


@pytest.mark.parametrize("scores", [torch.zeros(4, 10), torch.zeros(1, 10)])
def test_score_history_parts_the_labels_of_equal_scores(scores):
    ax = plots.score_history(scores, label=3)
    ax.figure.canvas.draw()
    assert len({round(text.get_position()[1], 3) for text in ax.texts}) == 10


# --- positions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "starts", "crosses", "output"),
    [
        ({"size": 7, "kernel_size": 3}, 25, 0, "5 x 5 output"),
        ({"size": 8, "kernel_size": 3, "stride": 2}, 9, 15, "3 x 3 output"),
        ({"size": 7, "kernel_size": 3, "stride": 2, "padding": 1}, 16, 0, "4 x 4 output"),
        ({"size": (6, 9), "kernel_size": (3, 2), "stride": 2, "dilation": 2}, 4, 54 - 3 * 5, "1 x 4 output"),
    ],
)
def test_positions_are_counted(settings, starts, crosses, output):
    size, kernel_size = settings.pop("size"), settings.pop("kernel_size")
    ax = plots.kernel_positions(size, kernel_size, **settings)
    markers = [line.get_marker() for line in ax.lines]
    assert (markers.count("."), markers.count("x")) == (starts, crosses)
    assert output in texts(ax)


def test_a_kernel_without_a_place_is_refused():
    with pytest.raises(ValueError, match="covers 5 pixels, the padded input has 3: no place"):
        plots.kernel_positions(3, 5)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"stride": 0}, "stride is at least 1; got 0"),
        ({"padding": -1}, "padding is at least 0; got -1"),
        ({"dilation": (1, 0)}, r"dilation is at least 1; got \(1, 0\)"),
        ({"stride": 1.5}, r"stride is a whole number, or a pair \(height, width\) of them; got 1.5"),
        ({"padding": (1, 2, 3)}, r"got \(1, 2, 3\)"),
    ],
)
def test_impossible_settings_are_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        plots.kernel_positions(7, 3, **settings)


def test_sizes_may_come_from_numpy():
    assert "5 x 5 output" in texts(plots.kernel_positions(np.int64(7), np.int64(3)))


# --- the network ----------------------------------------------------------------------------------------------------


def test_the_architecture_names_every_layer_and_size(table):
    ax = plots.architecture(table)
    for row in table.rows:
        assert row.name in texts(ax) and row.maps in texts(ax)
    assert "400,500" in texts(ax)
    assert "conv1 20@24x24, pool1 20@12x12" in plots.description_of(ax.figure)


def test_the_architecture_shows_maps_on_its_fronts(table):
    ax = plots.architecture(table, fronts={"input": IMAGES[0], "conv1": torch.rand(24, 24)})
    assert len(ax.images) == 2
    with pytest.raises(ValueError, match="can be drawn for input, conv1, pool1, conv2, pool2; got fc1"):
        plots.architecture(table, fronts={"fc1": torch.rand(2, 2)})


def test_parameter_share_has_a_bar_for_each_layer_with_parameters(table):
    ax = plots.parameter_share(table)
    assert [bar.get_width() for bar in ax.patches] == [520, 25_050, 400_500, 5_010]
    assert "400,500 (92.9%)" in texts(ax)


LENET5 = (
    ("input", "Input", (1, 32, 32), 0),
    ("c1", "Conv2d", (6, 28, 28), 156),
    ("s2", "Subsampling", (6, 14, 14), 12),
    ("c3", "TableConv2d", (16, 10, 10), 1_516),
    ("s4", "Subsampling", (16, 5, 5), 32),
    ("c5", "Conv2d", (120, 1, 1), 48_120),
    ("f6", "Linear", (84,), 10_164),
    ("output", "RBFOutput", (10,), 0),
)


def test_convolutions_have_one_colour_whatever_their_class():
    table = LayerTable(tuple(LayerRow(*row, None, None) for row in LENET5))
    ax = plots.architecture(table)
    assert {"120@1x1", "84", "16@10x10", "1,516"} <= set(texts(ax))
    colours = [to_hex(patch.get_facecolor()) for patch in ax.patches if isinstance(patch, Rectangle)]
    drawn = dict(zip([row[0] for row in LENET5 for _ in range(sheets(row[2]))], colours, strict=True))
    assert drawn["c1"] == drawn["c3"] == drawn["c5"]
    assert drawn["s2"] == drawn["s4"] and drawn["f6"] == drawn["output"]
    assert len({drawn["c1"], drawn["s2"], drawn["f6"]}) == 3
    assert "12 (< 0.1%)" in texts(plots.parameter_share(table))


def sheets(shape):
    """How many sheets stand for this shape: at most 9, and one for a vector."""
    return min(shape[0], 9) if shape[1:] not in ((), (1, 1)) else 1


# --- tables and seeds -----------------------------------------------------------------------------------------------


def test_a_connection_table_marks_exactly_what_is_connected():
    connected = torch.tensor([[True, False, True], [False, False, True]])
    ax = plots.connection_table(connected)
    assert [text.get_position() for text in ax.texts] == [(0, 0), (2, 0), (2, 1)]
    assert "3 marks" in plots.description_of(ax.figure) and "2: 0, 1." in plots.description_of(ax.figure)


def test_a_number_grid_writes_every_number_and_frames_the_chosen_cells():
    ax = plots.number_grid(
        [[0, 48], [72, 7.26]], x_label="Digit", y_label="Code", quantity="Distance", highlight=[(0, 1)]
    )
    assert texts(ax) == ["0", "48", "72", "7"]
    (frame,) = ax.lines
    assert set(frame.get_xdata()) == {0.5, 1.5} and set(frame.get_ydata()) == {-0.5, 0.5}


def test_a_seed_band_has_the_mean_as_line_and_reaches_from_the_smallest_to_the_largest_seed():
    ax = plots.seed_bands(
        {"ours": [[3.0, 1.0], [5.0, 2.0]]}, points={"paper": [4.5]}, x_label="Pass", y_label="Test error (%)"
    )
    mean, paper = ax.lines
    assert mean.get_ydata().tolist() == [4.0, 1.5] and mean.get_xdata().tolist() == [1, 2]
    assert paper.get_ydata().tolist() == [4.5]
    band = ax.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (1.0, 5.0)
    assert "mean and range of 2 seeds" in ax.get_legend().get_texts()[0].get_text()


# --- intervals ------------------------------------------------------------------------------------------------------

ROWS = {"better": (-0.3, -0.2, -0.1), "open": (-0.1, 0.1, 0.3), "worse": (0.2, 0.4, 0.6), "far": (8.0, 9.0, 10.0)}


def dots(ax):
    """Each row's dot by its height on the picture, which its label shares."""
    names = dict(zip(ax.get_yticks(), (label.get_text() for label in ax.get_yticklabels()), strict=True))
    return {names[line.get_ydata()[0]]: line for line in ax.lines if line.get_marker() == "o"}


def bars_of(ax):
    names = dict(zip(ax.get_yticks(), (label.get_text() for label in ax.get_yticklabels()), strict=True))
    return {
        names[line.get_ydata()[0]]: line
        for line in ax.lines
        if line.get_marker() == "None" and line.get_linewidth() == 3
    }


def marks(ax, marker):
    return [(tuple(line.get_xdata()), tuple(line.get_ydata())) for line in ax.lines if line.get_marker() == marker]


def test_a_row_has_its_mean_as_dot_and_its_interval_as_bar_the_first_on_top():
    ax = plots.intervals(ROWS, x_label="Difference (points)")
    assert ax.get_xlabel() == "Difference (points)"
    assert [label.get_text() for label in ax.get_yticklabels()] == list(ROWS)
    heights = [ax.transData.transform((0, height))[1] for height in ax.get_yticks()]
    assert heights == sorted(heights, reverse=True)
    low, high = ax.transData.transform([(0, edge) for edge in ax.get_ylim()])[:, 1]
    assert low < heights[-1] and heights[0] < high
    assert {name: line.get_xdata()[0] for name, line in dots(ax).items()} == {
        name: row[1] for name, row in ROWS.items()
    }
    assert {name: tuple(line.get_xdata()) for name, line in bars_of(ax).items()} == {
        name: (low, high) for name, (low, _, high) in ROWS.items()
    }


def test_where_the_interval_holds_0_the_dot_is_hollow_and_grey():
    ax = plots.intervals(
        {**ROWS, "from 0": (0.0, 1.0, 2.0), "to 0": (-2.0, -1.0, 0.0), "just above": (1e-9, 1.0, 2.0)}, x_label="x"
    )
    hollow = {name for name, dot in dots(ax).items() if to_hex(dot.get_markerfacecolor()) == "#ffffff"}
    assert hollow == {"open", "from 0", "to 0"}
    colours = {name: to_hex(dot.get_color()) for name, dot in dots(ax).items()}
    assert {colours[name] for name in hollow} == {to_hex("0.55")}
    assert len({colours["better"], colours["worse"], to_hex("0.55")}) == 3
    assert colours["worse"] == colours["far"] == colours["just above"]
    assert {name: to_hex(bar.get_color()) for name, bar in bars_of(ax).items()} == colours


def test_zero_is_a_line_from_top_to_bottom():
    ax = plots.intervals({"a": (2.0, 3.0, 4.0)}, x_label="x")
    (zero,) = [line for line in ax.lines if list(line.get_xdata()) == [0, 0]]
    assert list(zero.get_ydata()) == [0, 1]  # of the height of the axes
    left, right = ax.get_xlim()
    assert left <= 0 <= right


def test_what_lies_beyond_the_limit_is_an_arrow_at_the_edge_with_its_mean():
    ax = plots.intervals(ROWS, x_label="x", limit=1.0)
    assert ax.get_xlim()[1] == 1.0
    (arrow,) = ax.texts
    assert arrow.get_text() == "+9.0 \N{RIGHTWARDS ARROW}"
    assert arrow.get_position() == (1.0, 3) and arrow.get_horizontalalignment() == "right"
    assert set(dots(ax)) == set(bars_of(ax)) == {"better", "open", "worse"}
    assert plots.intervals(ROWS, x_label="x").texts[:] == []
    assert plots.intervals({"at": (0.5, 1.0, 1.5)}, x_label="x", limit=1.0).texts[:] == []


def test_the_arrow_is_seen():
    """Matplotlib draws no text whose place lies outside the axes; this one lies on their edge."""

    def ink(rows):
        ax = plots.intervals(rows, x_label="x", limit=1.0)
        ax.figure.canvas.draw()
        box = ax.get_window_extent()
        picture = np.asarray(ax.figure.canvas.buffer_rgba())[:, int(box.x0 + 0.6 * box.width) : int(box.x1) - 2, :3]
        return int((picture < 200).any(axis=2).sum())

    inside = {"a": (-0.3, -0.2, -0.1), "b": (-0.3, -0.2, -0.1)}
    assert ink({**inside, "b": (8.0, 9.0, 10.0)}) > ink(inside) + 50


def test_single_values_and_marks_stand_in_their_row():
    ax = plots.intervals(
        ROWS, x_label="x", single={"worse": [0.3, 0.5], "better": (-0.2,)}, marked={"open": [0.2], "worse": []}
    )
    drawn = [mark for mark in marks(ax, "|") if mark[0]]
    assert sorted(drawn) == [((-0.2,), (0.3,)), ((0.3, 0.5), (2.3, 2.3))]  # below the bar
    assert [mark for mark in marks(ax, "*") if mark[0]] == [((0.2,), (1,))]


def test_the_description_of_intervals_names_the_rows_and_no_number():
    words = plots.description_of(plots.intervals(ROWS, x_label="Difference (points)", limit=1.0).figure)
    assert words == "Difference (points), mean and 95% interval, for better, open, worse, far."


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "complaint"),
    [
        (lambda: plots.digit(IMAGES), r"one image: \(height, width\); got shape \(4, 28, 28\)"),
        (lambda: plots.digits(IMAGES[0]), r"got shape \(28, 28\)"),
        (lambda: plots.digits(IMAGES, labels=[1, 2]), "4 images and 2 labels"),
        (lambda: plots.digits(IMAGES, labels=[1, 2, 3, 4], predictions=[1]), "4 images and 1 predictions"),
        (lambda: plots.digits(IMAGES[:0]), "got shape"),
        (lambda: plots.digits(IMAGES, predictions=[1, 2, 3, 4]), "give labels as well"),
        (lambda: plots.digits(IMAGES, columns=0), "got columns=0"),
        (lambda: plots.digit(IMAGES[0], value_range=(1, 1)), r"\(paper, ink\), the smaller value first; got \(1, 1\)"),
        (lambda: plots.digit(IMAGES[0], numbers=True), "up to 16 x 16 pixels; got 28 x 28"),
        (lambda: plots.kernels(MAPS, limit=0), "limit must be above 0; got 0"),
        (lambda: plots.kernels(MAPS, labels=["a"]), "6 kernels and 1 labels"),
        (lambda: plots.kernels(torch.rand(3, 2, 5, 5), columns=0), "got columns=0"),
        (lambda: plots.kernels(torch.rand(3, 0, 5, 5)), r"got shape \(3, 0, 5, 5\)"),
        (lambda: plots.feature_maps(MAPS, columns=-1), "got columns=-1"),
        (lambda: plots.bars([1, 2], highlight=2, x_label="x", y_label="y"), "bar 2 cannot be marked"),
        (lambda: plots.bars(3, labels="ab", x_label="x", y_label="y"), "2 labels"),
        (lambda: plots.score_history(torch.zeros(0, 10), label=1), r"got \(0, 10\)"),
        (lambda: plots.score_history(torch.zeros(3, 10), label=10), "one of 0 to 9; got 10"),
        (lambda: plots.kernels(torch.rand(5, 5)), r"got shape \(5, 5\)"),
        (lambda: plots.feature_maps(torch.rand(1, 6, 4, 4)), r"\(C, height, width\); got shape \(1, 6, 4, 4\)"),
        (lambda: plots.curves({}, x_label="x", y_label="y"), "nothing to draw"),
        (lambda: plots.curves({"a": []}, x_label="x", y_label="y"), "Series 'a' has shape"),
        (lambda: plots.curves({"a": [1]}, x=[1, 2], x_label="x", y_label="y"), r"expected \(2,\)"),
        (lambda: plots.bars([1, 2], labels="a", x_label="x", y_label="y"), "1 labels"),
        (lambda: plots.confusion_matrix(torch.zeros(10)), "a square of counts"),
        (lambda: plots.confusion_matrix(torch.zeros(10, 9)), r"got shape \(10, 9\)"),
        (lambda: plots.score_history(torch.zeros(3, 9), label=1), r"\(T, 10\)"),
        (lambda: plots.score_history(torch.zeros(3, 10), label=1, x=[1]), "1 places"),
        (lambda: plots.architecture(layer_table_without_rows()), "no rows"),
        (lambda: plots.connection_table([True, False]), r"got shape \(2,\)"),
        (lambda: plots.number_grid([[1, -1]], x_label="x", y_label="y", quantity="q"), "0 or above"),
        (lambda: plots.intervals({}, x_label="x"), "nothing to draw: rows is empty"),
        (lambda: plots.intervals({"a": (2, 1, 3)}, x_label="x"), r"'a' should be \(low, mean, high\).*got \(2, 1, 3\)"),
        (lambda: plots.intervals({"a": (1, 2, 1)}, x_label="x"), r"got \(1, 2, 1\)"),
        (lambda: plots.intervals({"a": (0, float("nan"), 1)}, x_label="x"), r"got \(0, nan, 1\)"),
        (lambda: plots.seed_bands({}, x_label="x", y_label="y"), "nothing to draw"),
        (lambda: plots.seed_bands({"a": [1, 2]}, x_label="x", y_label="y"), r"'a' has shape \(2,\)"),
        (lambda: plots.seed_bands({"a": [[1]]}, points={"p": []}, x_label="x", y_label="y"), "'p' have shape"),
        (lambda: plots.parameter_share(layer_table_without_rows()), "no layer of the table has parameters"),
    ],
)
def test_bad_input_is_answered_in_words(draw, complaint):
    with pytest.raises(ValueError, match=complaint):
        draw()


def layer_table_without_rows():
    return LayerTable(())


@pytest.mark.parametrize("kind", ["single", "marked"])
def test_intervals_refuse_values_of_a_row_that_there_is_not(kind):
    with pytest.raises(ValueError, match="no row 'b'"):
        plots.intervals({"a": (0, 1, 2)}, x_label="Points", **{kind: {"b": [1.0]}})


# --- a batch that ranks share ---------------------------------------------------------------------------------------


def test_shared_batch_draws_each_digit_at_its_rank():
    ax = plots.shared_batch(IMAGES, [[0, 2, 3], [1]])
    rows = [round((image.get_extent()[2] + image.get_extent()[3]) / 2) for image in ax.images]
    assert rows == [1, 1, 1, 0]
    assert {"rank 0", "rank 1", "same weights", "own gradient"} <= set(texts(ax))
    drawn = [255 - image.get_array() for image in ax.images]
    for picture, number in zip(drawn, (0, 2, 3, 1), strict=True):
        assert (picture == IMAGES[number].numpy()).all()
    assert "3, 1 digits each" in plots.description_of(ax.figure)


def test_shared_batch_with_an_empty_share_and_many_digits():
    ax = plots.shared_batch(IMAGES[:1].repeat(20, 1, 1), [list(range(20)), []])
    assert len(ax.images) == 8


@pytest.mark.parametrize(("images", "shares"), [(IMAGES[0], [[0]]), (IMAGES, []), (IMAGES, [[4]]), (IMAGES, [[-1]])])
def test_shared_batch_refuses(images, shares):
    with pytest.raises(ValueError, match="shared_batch takes images|Shares hold numbers"):
        plots.shared_batch(images, shares)
