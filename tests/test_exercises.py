"""The checks: right answers pass, likely wrong ones get an answer that helps, and nothing written is no failure.

The solutions themselves stand in the chapters and are run by test_chapters.py.
"""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, max_pool2d, relu

from lenet_course.exercises import chapter_1, chapter_2, chapter_3
from lenet_course.exercises.checking import NOT_ATTEMPTED, RIGHT, WRONG, Verdict, check_function, check_value
from lenet_course.lenet import LeNet


def square(number):
    return number * number


def check_square(function, **settings):
    return check_function(
        function, square, [(2,), (3,), (-1,)], praise="Well counted.", hint="Times itself.", **settings
    )


# --- what all checks have in common ---------------------------------------------------------------------------------


def test_a_right_function_passes_and_says_how_much_was_tried():
    verdict = check_square(lambda number: number**2)
    assert verdict == Verdict(RIGHT, "Right. 3 cases tried. Well counted.")


@pytest.mark.parametrize("function", [..., None, lambda number: None, lambda number: ...])
def test_nothing_written_is_not_attempted(function):
    assert check_square(function).outcome == NOT_ATTEMPTED


def test_a_wrong_function_is_told_what_came_in_and_what_was_expected():
    def double(number):
        return 2 * number

    verdict = check_square(double)
    assert verdict.outcome == WRONG
    assert "double(3) gave 6. Expected: 9. Times itself." in verdict.message


def test_an_error_is_an_answer():
    def broken(number):
        raise KeyError("oops")

    verdict = check_square(broken)
    assert verdict.outcome == WRONG
    assert "broken(2) raised KeyError: 'oops'. Expected: 4." in verdict.message


def test_a_missing_return_on_some_path_is_noticed():
    verdict = check_square(lambda number: 4 if number == 2 else None)
    assert verdict.outcome == WRONG and "returned nothing" in verdict.message


def test_calling_the_function_instead_of_passing_it_is_told():
    assert "without brackets; got 4" in check_square(square(2)).message


def test_true_is_not_one():
    assert check_value(True, 1, name="n", praise="Yes.").outcome == WRONG
    assert check_value(1, 1, name="n", praise="Yes.").outcome == RIGHT
    assert check_value(1.0, 1, name="n", praise="Yes.").outcome == RIGHT


def test_a_value_that_cannot_be_compared_is_wrong_and_no_crash():
    assert check_value(torch.zeros(3), 1, name="n", praise="Yes.").outcome == WRONG
    assert check_value("one", 1, name="n", praise="Yes.", hint="A number.").message.endswith("'one'. A number.")


def test_a_likely_wrong_value_has_its_own_hint():
    verdict = check_value(25, 1250, name="n", praise="Yes.", hints={25: "That is one map."}, hint="Else.")
    assert verdict.message == "Not yet. n is 25. That is one map."


@pytest.mark.parametrize("answer", [..., None, (..., ...), (32, ...)])
def test_dots_are_not_attempted(answer):
    assert check_value(answer, (1, 2), name="n", praise="Yes.").outcome == NOT_ATTEMPTED


def test_a_verdict_shows_itself_with_a_sign_and_escaped():
    verdict = Verdict(WRONG, "a < b\nsecond line")
    assert repr(verdict) == "\N{BALLOT X} a < b\nsecond line"
    assert "a &lt; b<br>second line" in verdict._repr_html_()
    assert 'role="status"' in verdict._repr_html_()


# --- chapter 1 ------------------------------------------------------------------------------------------------------


def test_same_padding():
    verdict = chapter_1.same_padding(lambda kernel_size, dilation=1: kernel_size // 2)
    assert verdict.outcome == WRONG and "gave 1. Expected: 2" in verdict.message  # forgot the dilation
    assert chapter_1.same_padding(lambda k, dilation=1: dilation * (k // 2)).outcome == RIGHT
    verdict = chapter_1.same_padding(lambda k, dilation=1: dilation * (k - 1) / 2)
    assert verdict.outcome == WRONG and "gave 1.0. Expected: 1, a whole number: divide with //" in verdict.message


def test_never_read():
    assert chapter_1.never_read(lambda size, k, s: (size - k) % s).outcome == RIGHT
    verdict = chapter_1.never_read(lambda size, k, s: size % s)
    assert verdict.outcome == WRONG and "(28, 5, 2) gave 0. Expected: 1" in verdict.message


@pytest.mark.parametrize(
    ("answer", "outcome", "told"),
    [
        ((32, 35), RIGHT, ""),
        ([32, 35], RIGHT, ""),
        ((32, 32), WRONG, "33 gives 5 as well"),
        ((32, 33), WRONG, "layer by layer"),
        ((35, 32), WRONG, "smallest comes first"),
        ((28, 31), WRONG, "One step further back"),
        ((30, 40), WRONG, "Go backwards"),
        (32, WRONG, "Go backwards"),
        ((..., ...), NOT_ATTEMPTED, ""),
    ],
)
def test_widths(answer, outcome, told):
    verdict = chapter_1.widths(answer)
    assert verdict.outcome == outcome and told in verdict.message


# --- chapter 2 ------------------------------------------------------------------------------------------------------


def test_convolution_parameters():
    assert chapter_2.convolution_parameters(lambda i, o, k: o * (i * k * k + 1)).outcome == RIGHT
    verdict = chapter_2.convolution_parameters(lambda i, o, k: o * i * k * k)
    assert verdict.outcome == WRONG and "(1, 20, 5) gave 500. Expected: 520" in verdict.message


@pytest.mark.parametrize(
    ("answer", "outcome", "told"),
    [
        (1250, RIGHT, "50 maps"),
        (800, WRONG, "right for 28 x 28"),
        (25, WRONG, "one map"),
        (7, WRONG, "Walk"),
        (..., NOT_ATTEMPTED, ""),
    ],
)
def test_fc1_inputs(answer, outcome, told):
    verdict = chapter_2.fc1_inputs(answer)
    assert verdict.outcome == outcome and told in verdict.message


class Mine(nn.Module):
    """A right answer; the tests below break it."""

    def __init__(self, units=500):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(800, units)
        self.fc2 = nn.Linear(units, 10)

    def forward(self, images):
        x = max_pool2d(relu(self.conv1(images)), 2)
        x = max_pool2d(relu(self.conv2(x)), 2)
        return self.fc2(relu(self.fc1(x.flatten(1))))


def broken(forward):
    return type("Broken", (Mine,), {"forward": forward})()


def test_my_lenet_accepts_the_right_network_and_leaves_it_alone():
    model = Mine()
    before = [parameter.clone() for parameter in model.parameters()]
    assert chapter_2.my_lenet(model).outcome == RIGHT
    assert chapter_2.my_lenet(LeNet()).outcome == RIGHT
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))


def forward_with_view(self, images):
    x = max_pool2d(relu(self.conv1(images)), 2)
    x = max_pool2d(relu(self.conv2(x)), 2)
    return self.fc2(relu(self.fc1(x.reshape(-1, 800))))


class Empty(nn.Module):
    def forward(self, images): ...


@pytest.mark.parametrize(
    ("model", "outcome", "told"),
    [
        (Empty(), NOT_ATTEMPTED, "make the layers"),
        (Mine, WRONG, "put brackets behind Mine"),
        ("LeNet", WRONG, "an nn.Module; got str"),
        (Mine(units=400), WRONG, "shape (400, 800) where LeNet, in the order of its layers, has (500, 800)"),
        (nn.Sequential(nn.Conv2d(1, 20, 5)), WRONG, "It has 520 parameters in 2 tensors; LeNet has 431,080 in 8"),
        (broken(lambda self, x: None), WRONG, "nothing came out"),
        (broken(lambda self, x: self.fc1(x)), WRONG, "forward raised RuntimeError"),
        (broken(lambda self, x: Mine.forward(self, x)[:1]), WRONG, "(1, 10) came out. Expected: scores of shape (5, 10)"),
        (broken(lambda self, x: Mine.forward(self, x).softmax(1)), WRONG, "softmax belongs to the loss"),
        (broken(lambda self, x: Mine.forward(self, x).log_softmax(1)), WRONG, "softmax belongs to the loss"),
        (broken(lambda self, x: Mine.forward(self, x.flip(3))), WRONG, "its scores differ from LeNet's by up to"),
        (LeNet(relu_after_conv=False), WRONG, "its only ReLU comes after the 500 units"),
        (broken(forward_with_view), WRONG, "it mixes digits"),
    ],
)  # fmt: skip
def test_my_lenet_says_what_is_wrong(model, outcome, told):
    verdict = chapter_2.my_lenet(model)
    assert verdict.outcome == outcome and told in verdict.message


# --- chapter 3 ------------------------------------------------------------------------------------------------------


def test_steps_in_an_epoch():
    assert chapter_3.steps_in_an_epoch(lambda n, b: -(-n // b)).outcome == RIGHT
    assert chapter_3.steps_in_an_epoch(lambda n, b: n // b).outcome == WRONG
    assert chapter_3.steps_in_an_epoch(lambda n, b: n // b + 1).outcome == WRONG  # one too many for 64 by 64


def judge(labels, answers):
    confusion = torch.zeros(10, 10, dtype=torch.int64)
    for label, answer in zip(labels, answers, strict=True):
        confusion[label, answer] += 1
    return (labels != answers).float().mean().item(), confusion


@pytest.mark.parametrize(
    ("function", "outcome", "told"),
    [
        (judge, RIGHT, ""),
        (lambda labels, answers: judge(labels, answers)[0], WRONG, "expected two results"),
        (
            lambda labels, answers: (1 - judge(labels, answers)[0], judge(labels, answers)[1]),
            WRONG,
            "That is the accuracy",
        ),
        (lambda labels, answers: (judge(labels, answers)[0], judge(labels, answers)[1].T), WRONG, "swapped"),
        (lambda labels, answers: (judge(labels, answers)[0], torch.zeros(8, 8)), WRONG, "shape (8, 8)"),
        (lambda labels, answers: (judge(labels, answers)[0], torch.zeros(10, 10)), WRONG, "is 0, expected 1"),
        (lambda labels, answers: 1 / 0, WRONG, "raised ZeroDivisionError"),
        (lambda labels, answers: judge(labels, answers)[::-1], WRONG, "Are the two swapped?"),
        (lambda labels, answers: None, NOT_ATTEMPTED, "body of judge"),
        (..., NOT_ATTEMPTED, "judge"),
    ],
)
def test_judge(function, outcome, told):
    verdict = chapter_3.judge(function)
    assert verdict.outcome == outcome and told in verdict.message


def never_clear(model, images, labels, steps):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(steps):
        cross_entropy(model(images), labels).backward()
        optimizer.step()
    return 0.0


def clear_once(model, images, labels, steps):
    torch.optim.SGD(model.parameters(), lr=0.05).zero_grad()
    return never_clear(model, images, labels, steps)


def loop(rate=0.05, extra=0):
    def train(model, images, labels, steps):
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        for _ in range(steps + extra):
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()
        return 0.0

    return train


@pytest.mark.parametrize(
    ("function", "outcome", "told"),
    [
        (loop(), RIGHT, "plain gradient descent"),
        (never_clear, NOT_ATTEMPTED, "still as it was"),
        (clear_once, WRONG, "Is zero_grad called at every step?"),
        (loop(rate=0.01), WRONG, "its rate of 0.05"),
        (loop(extra=1), WRONG, "one step for each turn"),
        (lambda *arguments: 1 / 0, WRONG, "raised ZeroDivisionError"),
        (lambda *arguments: None, NOT_ATTEMPTED, "keep its return"),
    ],
)
def test_training_loop(function, outcome, told):
    verdict = chapter_3.training_loop(function)
    assert verdict.outcome == outcome and told in verdict.message
