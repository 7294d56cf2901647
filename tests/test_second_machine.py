import html as html_module
import math
import re
from xml.etree import ElementTree

import ipywidgets
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lenet_course.arithmetic import count_parameters
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import LeNet5
from lenet_course.scaling import shared_step, smallest_batch
from lenet_course.widgets import second_machine as module
from lenet_course.widgets.second_machine import (
    BANDWIDTHS,
    BATCH_SIZES,
    LATENCIES,
    PARAMETERS,
    picture,
    second_machine,
)

LENET = {
    "parameters": 431_080,
    "batch_size": 64,
    "machines": 2,
    "bandwidth": 1e9 / 8,
    "latency": 0.2e-3,
    "seconds_a_digit": 60e-6,
    "seconds_a_step": 1e-3,
}
MEASURED = {"seconds_a_digit": 60e-6, "seconds_a_step": 1e-3}
SETTINGS = st.fixed_dictionaries(
    {
        "parameters": st.sampled_from(list(PARAMETERS)),
        "batch_size": st.sampled_from(BATCH_SIZES),
        "machines": st.integers(1, 16),
        "bandwidth": st.sampled_from(list(BANDWIDTHS)),
        "latency": st.sampled_from(list(LATENCIES)),
        "seconds_a_digit": st.floats(1e-7, 5e-3),
        "seconds_a_step": st.floats(0, 50e-3),
    }
)
SLOWEST = {
    "parameters": 1_000_000_000,
    "batch_size": 4096,
    "machines": 16,
    "bandwidth": 50e6 / 8,
    "latency": 10e-3,
    "seconds_a_digit": 0.05,
    "seconds_a_step": 0.1,
}
FASTEST = {
    "parameters": 10_000,
    "batch_size": 16,
    "machines": 2,
    "bandwidth": module.MEMORY,
    "latency": 0.01e-3,
    "seconds_a_digit": 1e-7,
    "seconds_a_step": 0,
}


def arithmetic_of(setting):
    """The same setting for lenet_course.scaling."""
    rest = {name: value for name, value in setting.items() if name not in ("parameters", "batch_size", "machines")}
    return {"gradient_bytes": 4 * setting["parameters"], **rest}


def step_of(setting, machines=None):
    return shared_step(setting["batch_size"], machines or setting["machines"], **arithmetic_of(setting))


def drawings(html):
    """The bars and the curve."""
    return [ElementTree.fromstring(svg) for svg in re.findall("<svg.*?</svg>", html)]


def parts(html, kind):
    return [part for svg in drawings(html) for part in svg.iter() if part.get("class") == kind]


def width(html, kind):
    found = parts(html, kind)
    assert len(found) <= 1
    return float(found[0].get("width")) if found else 0.0


def words(html):
    return html_module.unescape(re.sub("<[^>]*>", " ", html))


def milliseconds(text):
    return float(text.replace(",", "")) / 1000


# --- the picture ----------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(setting=SETTINGS)
@example(setting=SLOWEST)
@example(setting=FASTEST)
def test_the_bars_are_as_long_as_the_times(setting):
    html, step = picture(**setting), step_of(setting)
    pixels = {kind: width(html, kind) for kind in ("alone", "compute", "exchange")}
    longest = max(step.alone, step.total)
    assert max(pixels["alone"], pixels["compute"] + pixels["exchange"]) == pytest.approx(530, abs=0.01)
    for kind, seconds in (("alone", step.alone), ("compute", step.compute), ("exchange", step.exchange)):
        assert pixels[kind] == pytest.approx(530 * seconds / longest, abs=0.01), kind
    if step.exchange:  # it begins where the computing ends
        compute, exchange = parts(html, "compute")[0], parts(html, "exchange")[0]
        end = float(compute.get("x")) + pixels["compute"]
        assert float(exchange.get("x")) == pytest.approx(end, abs=0.01)
        assert exchange.get("y") == compute.get("y") != parts(html, "alone")[0].get("y")


@settings(max_examples=150, deadline=None)
@given(setting=SETTINGS)
@example(setting=SLOWEST)
@example(setting=FASTEST)
def test_the_words_say_what_the_arithmetic_says(setting):
    html, step, machines = picture(**setting), step_of(setting), setting["machines"]
    labels = [svg.get("aria-label") for svg in drawings(html)]
    times = [milliseconds(time) for time in re.findall(r"([\d,.]+) ms", labels[0])]
    if machines == 1:
        assert times == pytest.approx([step.alone], rel=0.006)
        assert "there is nothing to exchange" in words(html) and "there is nothing to exchange" in labels[0]
        return
    assert times == pytest.approx([step.alone, step.total, step.compute, step.exchange], rel=0.006)
    verdict = re.search(r"<b>([^<]*)</b> ([^<]*)<", html)
    assert all(sentence in labels[0] for sentence in verdict.groups())
    assert ("does not pay" in verdict[1]) == (step.total >= step.alone)
    faster = smallest_batch(machines, **arithmetic_of(setting))
    used = smallest_batch(machines, faster_than=0.8 * machines, **arithmetic_of(setting))
    assert ("No batch size does it" in verdict[2]) == (faster is None)
    assert (faster is not None) == (f"it pays from a batch of {faster or 0:,} digit" in verdict[2])
    assert (used is not None) == (f"from a batch of {used or 0:,} on." in verdict[2])
    # The verdict and the batch size that it names never contradict each other.
    assert step.pays == (faster is not None and setting["batch_size"] >= faster)


@settings(max_examples=100, deadline=None)
@given(setting=SETTINGS)
def test_the_curve_is_the_speed_up_of_every_number_of_machines(setting):
    html = picture(**setting)
    speed_ups = [step_of(setting, machines).speed_up for machines in range(1, 17)]
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in parts(html, "dot")]
    one = float(parts(html, "one")[0].get("d").split()[2])
    bottom = 28 + 170
    assert len(dots) == 16 and [x for x, _ in dots] == pytest.approx([40 + 20 * count for count in range(16)], abs=0.06)
    for (_, y), speed_up in zip(dots, speed_ups, strict=True):
        assert (bottom - y) == pytest.approx(speed_up * (bottom - one), abs=0.06 * (1 + speed_up))
        assert 28 <= y <= bottom + 0.05
    ring = parts(html, "here")[0]
    assert (float(ring.get("cx")), float(ring.get("cy"))) == dots[setting["machines"] - 1]
    ideal = [float(number) for number in re.findall(r"[\d.]+", parts(html, "ideal")[0].get("d"))]
    rise = (bottom - ideal[3]) / (bottom - one)  # at the end of the ideal line: as many times as machines
    assert (ideal[2] - 40) / 20 + 1 == pytest.approx(rise, abs=0.02 * rise)
    label = drawings(html)[1].get("aria-label")
    for machines, speed_up in enumerate(speed_ups, start=1):
        found = re.search(rf"\b{machines}: (?:just (?:over|under) )?(less than 0\.01|\d+\.\d\d)", label)[1]
        assert found == (f"{speed_up:.2f}" if round(speed_up, 2) else "less than 0.01")
    best = speed_ups.index(max(speed_ups)) + 1
    assert (f"{best} machines are the fastest of 1 to 16" in words(html)) == (best > 1)
    assert ("no number of machines up to 16 is faster than one" in words(html)) == (best == 1)


@settings(max_examples=100, deadline=None)
@given(setting=SETTINGS)
@example(setting=SLOWEST)
@example(setting=FASTEST)
def test_is_well_formed_labelled_and_fits(setting):
    html = picture(**setting)
    assert html == picture(**setting)
    ElementTree.fromstring(html.replace("&middot;", "·").replace("<br>", "<br/>"))
    assert len(drawings(html)) == 2
    for svg in drawings(html):
        across, down = int(svg.get("width")), int(svg.get("height"))
        assert svg.get("role") == "img" and len(svg.get("aria-label")) > 40 and across <= 760
        for part in svg.iter():
            if part.get("class") == "hatching":
                numbers = [float(number) for number in re.findall(r"-?[\d.]+", part.get("d"))]
                assert all(0 <= number <= across for number in numbers)
            if part.tag.endswith("rect"):
                assert float(part.get("x")) + float(part.get("width")) <= across
                assert float(part.get("y")) + float(part.get("height")) <= down
            if part.tag.endswith("text"):
                reach = 7.5 * len(part.text)  # no letter of this size is wider on the average
                share = {"start": 0, "middle": 0.5, "end": 1}[part.get("text-anchor")]
                left = float(part.get("x")) - share * reach
                assert left >= -1 and left + reach <= across, part.text
                assert 10 <= float(part.get("y")) <= down - 2
    assert not re.search(r"nan|inf|\de[+-]?\d", words(html)), "a number that is none, or has an exponent"
    assert " id=" not in html  # would be another one's in a page with two
    assert len(html) < 30_000  # sent to the browser at each step of a slider


@settings(max_examples=100, deadline=None)
@given(setting=SETTINGS)
def test_the_axis_has_a_few_round_numbers(setting):
    html, step = picture(**setting), step_of(setting)
    ticks = [float(part.get("d").split()[1]) for part in parts(html, "tick")]
    texts = [part.text for part in drawings(html)[0].iter() if part.get("text-anchor") == "middle"]
    assert 3 <= len(ticks) == len(texts) <= 8 and len(set(texts)) == len(texts)
    longest = 1000 * max(step.alone, step.total)
    for x, text in zip(ticks, texts, strict=True):
        assert x == pytest.approx(100 + 530 * float(text.replace(",", "")) / longest, abs=0.06)
    assert re.sub("[^1-9]", "", texts[1]) in ("1", "2", "5")


def test_the_exchange_is_told_apart_without_colour():
    html = picture(**LENET)
    hatchings = [part.get("d") for part in parts(html, "hatching")]
    assert len(hatchings) == 2 and all(path.count("L") >= 3 for path in hatchings)  # the legend's and the bar's
    assert "exchange of gradients" in words(html)
    assert "stroke-dasharray" in parts(html, "ideal")[0].get("style")
    assert len(parts(picture(**{**LENET, "machines": 1}), "exchange")) == 0


def test_lenet_by_hand():
    html = picture(**LENET)
    text = words(html).replace("\n", " ")
    assert "0.28 times as fast. The second machine does not pay." in text
    assert "pays from a batch of 512 digits on, and reaches 80% of 2 times as fast from a batch of 2,048 on." in text
    assert "= 1 ms + 32·0.06 ms" in text and "2.92 ms" in text
    assert "= 2·(2 - 1)·(1.72 MB/2/(125 MB/s) + 0.2 ms)" in text and "14.2 ms" in text
    assert "Sharing among 4 machines pays" in words(picture(**{**LENET, "machines": 4, "batch_size": 1024}))
    large = {"parameters": 10**9, "bandwidth": 50e6 / 8, "machines": 16}
    assert "Less than 0.01 times as fast" in words(picture(**{**LENET, **large}))
    assert "not even 32,768 digits" in words(picture(**{**LENET, "parameters": 10_000_000}))


def test_a_speed_up_close_to_one_says_on_which_side_it_is():
    wire = {"parameters": 0, "bandwidth": 1.0, "seconds_a_digit": 1e-3, "seconds_a_step": 0.0}
    # Two machines save 32 ms and wait for two latencies.
    for latency, sentence in (
        (0.0159, "Just over 1.00 times as fast. The second machine pays."),
        (0.0161, "Just under 1.00 times as fast. The second machine does not pay."),
    ):
        assert sentence in words(picture(batch_size=64, machines=2, latency=latency, **wire))
    exactly = picture(batch_size=64, machines=2, **{**wire, "seconds_a_digit": 2**-10}, latency=2**-6)
    assert "1.00 times as fast. The second machine does not pay." in words(exactly)


@pytest.mark.parametrize(
    ("amount", "text", "short"),
    [
        (0, "0", "0"),
        (9.999, "10.0", "10"),
        (0.9996, "1.00", "1"),
        (17.1146, "17.1", "17.1"),
        (1_280_432.1, "1,280,000", "1,280,000"),
        (100, "100", "100"),
        (0.00012345, "0.000123", "0.000123"),
        (0.2, "0.200", "0.2"),
    ],
)
def test_numbers_have_three_digits_and_no_exponent(amount, text, short):
    assert (module._number(amount), module._short(amount)) == (text, short)


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"parameters": -1}, ValueError, "parameters is how many numbers the network learns"),
        ({"parameters": 1.5}, ValueError, "got 1.5"),
        ({"parameters": True}, ValueError, "got True"),
        ({"batch_size": 0}, ValueError, "batch_size is at least 1; got 0"),
        ({"batch_size": 64.0}, TypeError, "batch_size is a whole number"),
        ({"machines": 0}, ValueError, "machines is at least 1"),
        ({"machines": 17}, ValueError, "room for 16 machines; got 17"),
        ({"bandwidth": 0}, ValueError, "bandwidth is above 0"),
        ({"latency": -1e-3}, ValueError, "latency is 0 or more"),
        ({"latency": "1 ms"}, TypeError, "latency is a number"),
        ({"seconds_a_digit": math.nan}, ValueError, "seconds_a_digit is 0 or more, and finite"),
        ({"seconds_a_step": -1e-4}, ValueError, "seconds_a_step is 0 or more"),
        ({"seconds_a_digit": 0, "seconds_a_step": 0}, ValueError, "must be above 0"),
        ({"bandwidth": 1e-320}, ValueError, "to end"),
    ],
)
def test_what_cannot_be_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        picture(**{**LENET, **arguments})
    if not {"batch_size", "machines"} & set(arguments):  # which have to be on their sliders: below
        with pytest.raises(error, match=message):
            second_machine(**{**LENET, **arguments})


@pytest.mark.parametrize("name", ["batch_size", "machines"])
@pytest.mark.parametrize("value", [0, 17, 8192, 2.0, True, "16", None, [16]])
def test_a_start_that_no_slider_reaches_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a whole number.* as on its slider; got"):
        second_machine(**MEASURED, **{name: value})


def test_what_was_measured_has_to_be_given():
    with pytest.raises(TypeError, match="seconds_a_step"):
        second_machine(seconds_a_digit=60e-6)


# --- the widget -----------------------------------------------------------------------------------------------------


def test_starts_with_lenet_and_what_was_measured():
    calculator = second_machine(**MEASURED)
    assert {name: slider.value for name, slider in calculator.sliders.items()} == LENET
    assert calculator.view.value == picture(**LENET)
    assert "0.06 ms for each digit and 1 ms for each step" in calculator.children[1].value


def test_every_slider_moves_the_picture():
    calculator = second_machine(**MEASURED)
    for name, slider in calculator.sliders.items():
        before = calculator.view.value
        slider.index += 1
        assert calculator.view.value != before, name
    values = {name: slider.value for name, slider in calculator.sliders.items()}
    assert all(values[name] > LENET[name] for name in LENET)
    assert calculator.view.value == picture(**values)


def test_sliders_reach_what_they_say():
    calculator = second_machine(**MEASURED)
    ends = {
        "parameters": (10_000, 1_000_000_000),
        "batch_size": (16, 4096),
        "machines": (1, 16),
        "bandwidth": (50e6 / 8, 25.6e9),
        "latency": (0.01e-3, 10e-3),
        "seconds_a_digit": (1e-7, 5e-3),
        "seconds_a_step": (1e-5, 50e-3),
    }
    assert list(ends) == list(calculator.sliders)
    for name, (low, high) in ends.items():
        slider = calculator.sliders[name]
        values = [value for _, value in slider.options]
        assert values == sorted(set(values)) and (values[0], values[-1]) == pytest.approx((low, high))
        labels = [label for label, _ in slider.options]
        assert len(set(labels)) == len(labels) and max(map(len, labels)) <= 16  # longer ones are cut off
        for index in range(len(values)):
            slider.index = index  # every one draws
        assert slider.description


@pytest.mark.parametrize("index", [0, -1])
def test_all_sliders_at_their_ends(index):
    calculator = second_machine(**MEASURED)
    for slider in calculator.sliders.values():
        slider.index = index % len(slider.options)
    assert calculator.view.value == picture(**{name: slider.value for name, slider in calculator.sliders.items()})


def test_labels_and_values_are_the_same_amount():
    units = {"Mbit": 1e6, "Gbit": 1e9}
    for bandwidth, label in BANDWIDTHS.items():
        number, unit = re.match(r"([\d.]+) (\w+)/s", label).groups()
        assert bandwidth * 8 == pytest.approx(float(number) * units[unit], rel=0.002)
    for latency, label in LATENCIES.items():
        assert float(label.split()[0]) == pytest.approx(latency * 1000)
    for parameters, label in PARAMETERS.items():
        number = float(label.split(":")[0].split()[0].replace(",", "")) * (1_000_000 if "million" in label else 1)
        assert parameters == number


def test_the_networks_have_as_many_parameters_as_their_labels_say():
    assert PARAMETERS[count_parameters(LeNet())] == "431,080: LeNet"
    assert PARAMETERS[count_parameters(LeNet5())] == "60,000: LeNet-5"
    assert next(LeNet().parameters()).element_size() == module.BYTES_A_PARAMETER


def test_a_start_between_the_others_gets_a_place_of_its_own():
    start = {
        "parameters": 123_456,
        "bandwidth": 300e6 / 8,
        "latency": 0.3e-3,
        "seconds_a_digit": 0.0334,
        "seconds_a_step": 0,
    }
    calculator = second_machine(**start)
    found = {name: {v: k for k, v in calculator.sliders[name].options}[value] for name, value in start.items()}
    assert found == {
        "parameters": "123,456",
        "bandwidth": "300 Mbit/s",
        "latency": "0.3 ms",
        "seconds_a_digit": "33.4 ms",
        "seconds_a_step": "0 ms",
    }
    for name, value in start.items():
        values = [each for _, each in calculator.sliders[name].options]
        assert calculator.sliders[name].value == value and values == sorted(values)


def test_what_was_measured_takes_the_place_of_a_choice_with_the_same_label():
    calculator = second_machine(seconds_a_digit=100.04e-6, seconds_a_step=1.9999e-3)
    for name, label in (("seconds_a_digit", "0.1 ms"), ("seconds_a_step", "2 ms")):
        labels = [each for each, _ in calculator.sliders[name].options]
        assert labels.count(label) == 1 and calculator.sliders[name].label == label
    assert calculator.sliders["seconds_a_digit"].value == 100.04e-6


def test_there_is_no_output_widget():
    def all_widgets(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from all_widgets(child)

    assert not any(isinstance(widget, ipywidgets.Output) for widget in all_widgets(second_machine(**MEASURED)))


def test_without_a_kernel_a_sentence_stands_in_its_place():
    text = repr(second_machine(**MEASURED))
    assert text == repr(second_machine(**MEASURED, machines=3)) and "Run the cell" in text
