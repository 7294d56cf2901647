"""The checks: right answers pass, likely wrong ones get an answer that helps, and nothing written is no failure.

The solutions themselves stand in the chapters and are run by test_chapters.py.
"""

import math
import statistics

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, cross_entropy, max_pool2d, pad, relu

from lenet_course.exercises import (
    chapter_1,
    chapter_2,
    chapter_3,
    chapter_4,
    chapter_5,
    chapter_6,
    chapter_7,
    chapter_8,
)
from lenet_course.exercises.checking import NOT_ATTEMPTED, RIGHT, WRONG, Verdict, check_function, check_value
from lenet_course.lenet import LeNet
from lenet_course.lenet5 import squash
from lenet_course.variants import Variant


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


# --- chapter 4 ------------------------------------------------------------------------------------------------------


def test_table_parameters():
    def right(table, kernel_size):
        return sum(row.count("X") for row in table) * kernel_size**2 + len(table[0])

    assert chapter_4.table_parameters(right).outcome == RIGHT
    assert chapter_4.table_parameters(lambda table, kernel_size: None).outcome == NOT_ATTEMPTED
    no_bias = chapter_4.table_parameters(lambda table, kernel_size: right(table, kernel_size) - len(table[0]))
    assert no_bias.outcome == WRONG and "one bias" in no_bias.message
    dense = chapter_4.table_parameters(lambda table, kernel_size: len(table) * len(table[0]) * kernel_size**2)
    assert dense.outcome == WRONG


def sums(maps):
    return 4 * avg_pool2d(maps[None], 2)[0]


@pytest.mark.parametrize(
    ("pool", "hint"),
    [
        (lambda maps, c, b: c * sums(maps) + b, "still has to be squashed"),
        (lambda maps, c, b: squash(c * sums(maps) / 4 + b), "takes the mean"),
        (lambda maps, c, b: squash(c * sums(maps) * b), "bias is multiplied in"),
        (lambda maps, c, b: torch.tanh(c * sums(maps) + b), "plain tanh"),
        (lambda maps, c, b: torch.sigmoid(c * sums(maps) + b), "logistic"),
        (lambda maps, c, b: squash(c * max_pool2d(maps, 2) + b), "the largest of the four"),
        (lambda maps, c, b: squash(sums(maps) + b), "coefficient is missing"),
        (lambda maps, c, b: squash(c * (sums(maps) + b)), "after the multiplication"),
        (lambda maps, c, b: squash(c * sums(maps) - b), "the values are not"),
        (lambda maps, c, b: squash(c[:, 0, 0] * sums(maps)), "needs the shape (maps, 1, 1)"),
        (lambda maps, c, b: maps, r"(3, 6, 8) came out. Expected: (3, 3, 4)"),
        (lambda maps, c, b: maps @ c, "RuntimeError was raised"),
    ],
)
def test_subsampling_that_is_another_one_is_told_which(pool, hint):
    verdict = chapter_4.subsample(lambda maps, c, b: pool(maps, c[:, None, None], b[:, None, None]))
    assert verdict.outcome == WRONG and hint in verdict.message


def test_subsample():
    def right(maps, coefficient, bias):
        return squash(coefficient[:, None, None] * sums(maps) + bias[:, None, None])

    assert chapter_4.subsample(right).outcome == RIGHT
    assert chapter_4.subsample(...).outcome == chapter_4.subsample(lambda *given: None).outcome == NOT_ATTEMPTED
    assert "without brackets" in chapter_4.subsample(torch.zeros(3)).message


def found(border, squashed, power):
    def forward(net, digits):
        x = squash(net.s2(squash(net.c1(pad(-0.1 + 1.275 * digits[:, None] / 255, [2] * 4, value=border)))))
        x = net.s4(squash(net.c3(x)))
        x = squash(net.f6(squash(net.c5(squash(x) if squashed else x)).flatten(1)))
        return ((x[:, None] - net.output.codes).abs() ** power).sum(dim=2)

    return forward


def test_the_bug_hunt_says_how_many_are_left():
    assert chapter_4.found(found(0.0, False, 1)).outcome == NOT_ATTEMPTED
    assert chapter_4.found(found(-0.1, True, 2)).outcome == RIGHT
    for mended in ((-0.1, False, 1), (0.0, True, 1), (0.0, False, 2)):
        assert "1 mended, 2 left" in chapter_4.found(found(*mended)).message
    for mended in ((-0.1, True, 1), (-0.1, False, 2), (0.0, True, 2)):
        assert "2 mended, 1 left" in chapter_4.found(found(*mended)).message


def test_the_bug_hunt_notices_other_changes():
    assert "Something else changed" in chapter_4.found(found(-0.1, True, 3)).message
    right = found(-0.1, True, 2)
    assert "no root" in chapter_4.found(lambda *given: right(*given).sqrt()).message
    assert "negative" in chapter_4.found(lambda *given: -right(*given)).message
    assert chapter_4.found(lambda *given: None).outcome == NOT_ATTEMPTED
    assert "Expected: distances" in chapter_4.found(lambda net, digits: digits).message
    assert "TypeError was raised" in chapter_4.found(lambda net: net).message
    assert "without brackets" in chapter_4.found(torch.zeros(20, 10)).message


def test_the_checks_leave_the_callers_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    chapter_4.found(found(0.0, False, 1))
    chapter_4.table_parameters(lambda table, kernel_size: 0)
    chapter_4.subsample(lambda maps, c, b: maps)
    assert torch.equal(torch.rand(1), expected)


# --- chapter 5 ------------------------------------------------------------------------------------------------------


def stable_loss(distances, label, j):
    nearest = min(j, *distances)
    total = math.exp(nearest - j) + sum(math.exp(nearest - y) for y in distances)
    return distances[label] + math.log(total) - nearest


def test_loss_of_pattern():
    assert chapter_5.loss_of_pattern(stable_loss).outcome == RIGHT
    assert chapter_5.loss_of_pattern(lambda *given: torch.tensor(stable_loss(*given))).outcome == RIGHT
    assert chapter_5.loss_of_pattern(lambda *given: None).outcome == NOT_ATTEMPTED


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda y, label, j: y[label], "gave 3.0"),
        (
            lambda y, label, j: y[label] + math.log(math.exp(-j) + sum(math.exp(-d) for d in y)),
            "out of the exponentials",
        ),
        (lambda y, label, j: stable_loss(y, label, j) + math.exp(-j), "Expected"),
        (lambda y, label, j: "much", "gave 'much'"),
    ],
)
def test_a_loss_that_is_another_one_is_told_so(loss, said):
    verdict = chapter_5.loss_of_pattern(loss)
    assert verdict.outcome == WRONG and said in verdict.message


def slope(x):
    return 2 / 3 / 1.7159 * (1.7159**2 - x**2)


@pytest.mark.parametrize(
    ("curvature", "hint"),
    [
        (lambda u, h, x: h @ u**2, "before squashing"),
        (lambda u, h, x: slope(x) * (h @ u**2), "slope must be squared"),
        (lambda u, h, x: slope(x) ** 2 * (h @ u), "weights must be squared"),
        (lambda u, h, x: slope(x) * (h @ u), "how a gradient goes down"),
        (lambda u, h, x: slope(x) ** 2 * (h**2 @ u**2), "it is not squared"),
        (lambda u, h, x: (1 - x**2) ** 2 * (h @ u**2), "plain tanh"),
        (lambda u, h, x: slope(squash(x)) ** 2 * (h @ u**2), "squashed already"),
        (lambda u, h, x: h @ u**2 @ u.T, "(6, 3) came out. Expected: a tensor of shape (6, 4)"),
        (lambda u, h, x: x @ h, "RuntimeError was raised"),
        (lambda u, h, x: 2 * slope(x) ** 2 * (h @ u**2), "the values are not"),
        (lambda u, h, x: "much", "a str came out"),
    ],
)
def test_a_curvature_that_is_another_one_is_told_which(curvature, hint):
    verdict = chapter_5.curvature_below(curvature)
    assert verdict.outcome == WRONG and hint in verdict.message


def test_curvature_below():
    assert chapter_5.curvature_below(lambda u, h, x: slope(x) ** 2 * (h @ u**2)).outcome == RIGHT
    assert chapter_5.curvature_below(...).outcome == NOT_ATTEMPTED
    assert chapter_5.curvature_below(lambda u, h, x: None).outcome == NOT_ATTEMPTED
    assert "without brackets" in chapter_5.curvature_below(torch.zeros(6, 4)).message


def rest(distances, labels, rejected):
    two = distances.topk(2, dim=1, largest=False).values
    kept = (two[:, 1] - two[:, 0]).argsort()[rejected:]
    return distances[kept].argmin(dim=1) != labels[kept]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda *given: rest(*given).sum(), "a number of digits"),
        (lambda *given: 1 - rest(*given).float().mean(), "the fraction that is right"),
        (lambda y, t, n: (y.argmin(dim=1) != t).float().mean(), "Sort by the gap"),
        (lambda *given: rest(*given).sum() / 200, "not by how many there were"),
        (lambda *given: rest(*given), "Expected: a single number"),
        (lambda *given: float("nan"), "mean of nothing"),
        (lambda *given: 100 * rest(*given).float().mean(), "in percent"),
    ],
)
def test_an_error_on_the_rest_that_is_another_one_is_told_which(answer, hint):
    verdict = chapter_5.error_on_the_rest(answer)
    assert verdict.outcome == WRONG and hint in verdict.message


def test_error_on_the_rest():
    assert chapter_5.error_on_the_rest(lambda *given: rest(*given).float().mean()).outcome == RIGHT
    assert chapter_5.error_on_the_rest(lambda *given: float(rest(*given).float().mean())).outcome == RIGHT
    assert chapter_5.error_on_the_rest(lambda *given: None).outcome == NOT_ATTEMPTED


# --- chapter 6 ------------------------------------------------------------------------------------------------------


def test_span_of_s4():
    assert chapter_6.span_of_s4(lambda u: (4 * u, 4 * u + 15)).outcome == RIGHT
    assert chapter_6.span_of_s4(lambda u: [4 * u, 4 * u + 15]).outcome == RIGHT
    assert chapter_6.span_of_s4(lambda u: None).outcome == NOT_ATTEMPTED
    for answer in (lambda u: (4 * u, 4 * u + 16), lambda u: (2 * u, 2 * u + 15), lambda u: (u,), lambda u: 16):
        verdict = chapter_6.span_of_s4(answer)
        assert verdict.outcome == WRONG and "both ends are included" in verdict.message


@pytest.mark.parametrize(
    ("share", "hint"),
    [
        (lambda x: (x > 1.6).float().mean(dim=0), "one side only"),
        (lambda x: (x.abs() > 1.6).float().sum(dim=0), "numbers of digits"),
        (lambda x: (x.abs() <= 1.6).float().mean(dim=0), "not saturated"),
        (lambda x: 100 * (x.abs() > 1.6).float().mean(dim=0), "in percent"),
        (lambda x: (x.abs() > 1.6).float().mean(dim=1), "shape (50,) came out"),
        (lambda x: (x.abs() > 1.5).float().mean(dim=0), "the values are not"),
    ],
)
def test_a_share_that_is_another_one_is_told_which(share, hint):
    verdict = chapter_6.saturated(share)
    assert verdict.outcome == WRONG and hint in verdict.message


def test_saturated():
    assert chapter_6.saturated(lambda x: (x.abs() > 1.6).float().mean(dim=0)).outcome == RIGHT
    assert chapter_6.saturated(lambda x: (x.abs() > 1.6).double().mean(dim=0)).outcome == RIGHT
    assert chapter_6.saturated(...).outcome == NOT_ATTEMPTED


def occluded(image, value=-0.1, turn=False):
    covered = image.repeat(28, 28, 1, 1)
    for row in range(28):
        for column in range(28):
            place = covered[column, row] if turn else covered[row, column]
            place[row : row + 5, column : column + 5] = value
    return covered.reshape(784, 1, 32, 32)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda d, x: (d(x[None, None]) - d(occluded(x))).reshape(28, 28), "sign is turned around"),
        (lambda d, x: d(occluded(x)).reshape(28, 28), "Take away that of the whole image"),
        (lambda d, x: (d(occluded(x, turn=True)) - d(x[None, None])).reshape(28, 28), "exchanged"),
        (lambda d, x: (d(occluded(x, 0)) - d(x[None, None])).reshape(28, 28), "covered with 0"),
        (lambda d, x: (d(occluded(x, 1.175)) - d(x[None, None])).reshape(28, 28), "covered with ink"),
        (lambda d, x: d(x), "distance takes images of shape (N, 1, 32, 32); got (32, 32)"),
        (lambda d, x: d(occluded(x)) - d(x[None, None]), "Expected: a tensor of shape (28, 28)"),
    ],
)
def test_an_occlusion_map_that_is_another_one_is_told_which(answer, hint):
    verdict = chapter_6.occlusion_map(answer)
    assert verdict.outcome == WRONG and hint in verdict.message


def test_occlusion_map():
    assert chapter_6.occlusion_map(lambda d, x: (d(occluded(x)) - d(x[None, None])).reshape(28, 28)).outcome == RIGHT
    assert chapter_6.occlusion_map(lambda d, x: None).outcome == NOT_ATTEMPTED


# --- chapter 7 ------------------------------------------------------------------------------------------------------


def interval(errors, reference, t=2.262, spread=statistics.stdev, root=math.sqrt):
    differences = [a - b for a, b in zip(errors, reference, strict=True)]
    mean, half = statistics.mean(differences), t * spread(differences) / root(10)
    return mean - half, mean + half


def unpaired(errors, reference):
    mean = statistics.mean(errors) - statistics.mean(reference)
    half = 2.262 * math.sqrt((statistics.variance(errors) + statistics.variance(reference)) / 10)
    return mean - half, mean + half


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (unpaired, "Pair them first"),
        (lambda a, b: interval(a, b, root=lambda n: 1), "divide by the square root of 10"),
        (lambda a, b: interval(a, b, t=1), "Multiply by t"),
        (lambda a, b: interval(a, b, spread=statistics.pstdev), "pstdev does not"),
        (lambda a, b: interval(b, a), "Which one is subtracted from which"),
        (lambda a, b: interval(a, b)[::-1], "their standard deviation over the root of 10"),
        (lambda a, b: 0.1, "their standard deviation over the root of 10"),
        (lambda a, b: a - b, "raised TypeError"),
    ],
)
def test_an_interval_that_is_another_one_is_told_which(answer, hint):
    verdict = chapter_7.paired_interval(answer)
    assert verdict.outcome == WRONG and hint in verdict.message


def test_paired_interval():
    assert chapter_7.paired_interval(interval).outcome == RIGHT
    assert chapter_7.paired_interval(lambda a, b: list(interval(a, b))).outcome == RIGHT
    assert chapter_7.paired_interval(...).outcome == NOT_ATTEMPTED
    assert chapter_7.paired_interval(lambda a, b: None).outcome == NOT_ATTEMPTED


def test_the_mystery_is_what_its_listing_computes():
    """The listing of exercise 2, as it stands in the chapter, against Variant with the parts of the solution."""
    torch.manual_seed(0)
    listed = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )
    variant = Variant(**chapter_7.MYSTERY)
    variant.load_state_dict(dict(zip(variant.state_dict(), listed.state_dict().values(), strict=True)))
    raw = torch.randint(256, (5, 28, 28), dtype=torch.uint8)
    torch.testing.assert_close(variant(variant.prepare(raw)), listed(raw[:, None] / 256))


@pytest.mark.parametrize(
    ("changed", "hint"),
    [
        ({"c3": "Table I"}, "Count the kernels"),
        ({"subsampling": "max"}, "4 of 5 parts are right. subsampling: Is there anything to train"),
        ({"squashing": "tanh"}, "Look at what follows"),
        ({"output": "RBF, eq. (9)"}, "last line"),
        ({"input": "border 0"}, "padding=2"),
        ({"input": "28 x 28"}, "is not to be had"),
        ({"pooling": "max"}, "is not to be had"),
    ],
)
def test_a_part_that_is_not_in_the_listing(changed, hint):
    verdict = chapter_7.which_lenet({**chapter_7.MYSTERY, **changed})
    assert verdict.outcome == WRONG and hint in verdict.message


def test_which_lenet():
    assert chapter_7.which_lenet(dict(chapter_7.MYSTERY)).outcome == RIGHT
    assert chapter_7.which_lenet({**chapter_7.MYSTERY, "weights": "Glorot"}).outcome == RIGHT
    unfinished = chapter_7.which_lenet({**chapter_7.MYSTERY, "output": ...})
    assert unfinished.outcome == NOT_ATTEMPTED and "fill in output" in unfinished.message
    assert chapter_7.which_lenet("d2l").outcome == WRONG


def test_seeds_needed():
    assert chapter_7.seeds_needed(lambda s, d: math.ceil((2 * s / d) ** 2)).outcome == RIGHT
    assert chapter_7.seeds_needed(lambda s, d: math.ceil(2 * s / d)).outcome == WRONG
    assert chapter_7.seeds_needed(lambda s, d: (2 * s / d) ** 2).outcome == WRONG
    assert chapter_7.seeds_needed(lambda s, d: None).outcome == NOT_ATTEMPTED


# --- chapter 8 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "hint"),
    [
        (lambda batch, rank, world: batch[: len(batch) // world], "Nobody took"),
        (lambda batch, rank, world: batch[rank * (len(batch) // world) :][: len(batch) // world], "Nobody took"),
        (lambda batch, rank, world: batch, "taken twice"),
        (lambda batch, rank, world: batch if rank == 0 else [], "all wait for the slowest"),
        (lambda batch, rank, world: batch[rank] + world, "raised TypeError"),
    ],
)
def test_a_share_of_another_kind_is_told_which(share, hint):
    verdict = chapter_8.share_of_rank(share)
    assert verdict.outcome == WRONG and hint in verdict.message


def test_share_of_rank():
    def in_a_row(batch, rank, world):
        return batch[len(batch) * rank // world : len(batch) * (rank + 1) // world]

    assert chapter_8.share_of_rank(lambda batch, rank, world: batch[rank::world]).outcome == RIGHT
    assert chapter_8.share_of_rank(in_a_row).outcome == RIGHT
    assert chapter_8.share_of_rank(lambda batch, rank, world: None).outcome == NOT_ATTEMPTED
    assert chapter_8.share_of_rank(...).outcome == NOT_ATTEMPTED
    assert "without brackets" in chapter_8.share_of_rank([1, 2]).message


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda gradients, sizes: gradients.mean(dim=0), "weigh each by its size"),
        (lambda gradients, sizes: sizes.float() @ gradients, "divide by the number of its digits"),
        (lambda gradients, sizes: gradients.mean(dim=1), "shape (3,) came out"),
    ],
)
def test_a_mean_gradient_that_is_another_one_is_told_which(answer, hint):
    verdict = chapter_8.mean_gradient(answer)
    assert verdict.outcome == WRONG and hint in verdict.message


def test_mean_gradient():
    assert chapter_8.mean_gradient(lambda gradients, sizes: (sizes / sizes.sum()) @ gradients).outcome == RIGHT
    assert chapter_8.mean_gradient(lambda gradients, sizes: None).outcome == NOT_ATTEMPTED


def test_smallest_bandwidth():
    assert chapter_8.smallest_bandwidth(lambda size, seconds: size / seconds).outcome == RIGHT
    for answer in (lambda size, seconds: 8 * size / seconds, lambda size, seconds: size / seconds / 2, lambda *_: "1"):
        assert chapter_8.smallest_bandwidth(answer).outcome == WRONG
    assert chapter_8.smallest_bandwidth(...).outcome == NOT_ATTEMPTED
