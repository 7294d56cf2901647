import math

import pytest
import torch
from shape_comments import check_shape_comments
from torch import nn
from torch.nn import functional

from lenet_course.arithmetic import count_parameters
from lenet_course.lenet import LeNet


@pytest.fixture
def images(few_digits):
    return LeNet().prepare(few_digits.images[:8])


def test_parameters_as_in_caffe():
    net = LeNet()
    assert [count_parameters(layer) for layer in (net.conv1, net.conv2, net.fc1, net.fc2)] == [
        520,
        25_050,
        400_500,
        5_010,
    ]
    assert count_parameters(net) == 431_080
    assert count_parameters(LeNet(any_size=True)) == count_parameters(LeNet(relu_after_conv=False)) == 431_080


def caffe_forward(net: LeNet, images: torch.Tensor, relu_after_conv: bool) -> torch.Tensor:
    """The network as its definition reads, in functional form: each ReLU right after its convolution."""
    squash = functional.relu if relu_after_conv else (lambda x: x)
    x = functional.max_pool2d(squash(functional.conv2d(images, net.conv1.weight, net.conv1.bias)), 2)
    x = functional.max_pool2d(squash(functional.conv2d(x, net.conv2.weight, net.conv2.bias)), 2)
    x = functional.relu(x.reshape(len(x), 800) @ net.fc1.weight.T + net.fc1.bias)
    return x @ net.fc2.weight.T + net.fc2.bias


@pytest.mark.parametrize("relu_after_conv", [True, False])
@pytest.mark.parametrize("any_size", [True, False])
def test_computes_what_its_definition_says(images, relu_after_conv, any_size):
    net = LeNet(relu_after_conv, any_size)
    torch.testing.assert_close(net(images), caffe_forward(net, images, relu_after_conv))


def test_the_two_readings_differ(images):
    torch.manual_seed(0)
    with_relu = LeNet()
    without = LeNet(relu_after_conv=False)
    without.load_state_dict(with_relu.state_dict())
    assert not torch.allclose(with_relu(images), without(images))


def test_gradients_are_those_of_the_definition(images):
    net = LeNet().double()
    images, labels = images.double(), torch.arange(8)
    mine = torch.autograd.grad(functional.cross_entropy(net(images), labels), list(net.parameters()))
    plain = torch.autograd.grad(
        functional.cross_entropy(caffe_forward(net, images, True), labels), list(net.parameters())
    )
    for one, other in zip(mine, plain, strict=True):
        torch.testing.assert_close(one, other)


def test_no_softmax_inside(images):
    scores = LeNet()(images)
    assert (scores < 0).any()
    assert not torch.allclose(scores.sum(dim=1), torch.ones(8))


def test_digits_do_not_mix(images):
    """Each image has its scores for itself: changing one moves no other's."""
    net = LeNet()
    scores = net(images)
    changed = images.clone()
    changed[3] = 1 - changed[3] * 0.5
    moved = (net(changed) - scores).abs().amax(dim=1) > 1e-6
    assert moved.tolist() == [row == 3 for row in range(8)]


def test_an_untrained_network_knows_nothing(images, few_digits):
    net = LeNet()
    images = net.prepare(few_digits.images)
    assert net.loss(net(images), few_digits.labels).item() == pytest.approx(math.log(10), abs=0.05)


def test_the_same_seed_gives_the_same_network():
    torch.manual_seed(7)
    first = LeNet()
    torch.manual_seed(7)
    second = LeNet()
    torch.manual_seed(8)
    third = LeNet()
    assert torch.equal(first.fc1.weight, second.fc1.weight)
    assert not torch.equal(first.fc1.weight, third.fc1.weight)


# --- shape comments -------------------------------------------------------------------------------------------------


def test_shape_comments_hold():
    check_shape_comments(LeNet(), torch.rand(3, 1, 28, 28), count=7)


class WrongComment(nn.Module):
    def forward(self, images):  # (N, 1, 4, 4)
        x = images.flatten(start_dim=1)  # (N, 16)
        x = x[:, :3]  # (N, 4)
        return x.sum(dim=1)  # (N,)


def test_a_wrong_shape_comment_is_noticed():
    with pytest.raises(AssertionError, match=r"says \(4,\), but the shape is \(2, 3\)"):
        check_shape_comments(WrongComment(), torch.rand(2, 1, 4, 4), count=4)
    with pytest.raises(AssertionError, match="4 shape comments instead of 5"):
        check_shape_comments(WrongComment(), torch.rand(2, 1, 4, 4), count=5)


# --- predict and loss -----------------------------------------------------------------------------------------------


def test_predict_is_the_largest_score_and_needs_no_batches(few_digits):
    net = LeNet()
    images = net.prepare(few_digits.images).repeat(5, 1, 1, 1)  # 1,280: more than predict takes at a time
    predictions = net.predict(images)
    assert predictions.dtype == torch.int64 and predictions.shape == (1280,)
    assert torch.equal(predictions, net(images).argmax(dim=1))
    assert not predictions.requires_grad


def test_decide_takes_the_largest():
    assert LeNet().decide(torch.tensor([[0.0, -1, 3, 2, 0, 0, 0, 0, 0, 0]])).tolist() == [2]


def test_loss_is_the_cross_entropy_worked_out_by_hand():
    scores = torch.tensor([[2.0, 1.0, 0.0] + [0.0] * 7, [0.0] * 10])
    by_hand = (math.log(math.exp(2) + math.exp(1) + 8) - 1.0 + math.log(10)) / 2
    assert LeNet().loss(scores, torch.tensor([1, 5])).item() == pytest.approx(by_hand)


# --- sizes and bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(14, 14), (28, 28), (32, 32), (40, 40), (17, 90)])
def test_any_size(size):
    assert LeNet(any_size=True)(torch.rand(2, 1, *size)).shape == (2, 10)


def test_any_size_changes_nothing_at_28(images):
    plain, any_size = LeNet(), LeNet(any_size=True)
    any_size.load_state_dict(plain.state_dict())
    torch.testing.assert_close(any_size(images), plain(images))


@pytest.mark.parametrize("size", [(13, 28), (28, 13), (5, 5)])
def test_smaller_than_14_is_refused(size):
    with pytest.raises(ValueError, match="14x14 or larger"):
        LeNet(any_size=True)(torch.rand(2, 1, *size))


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (2, 28, 28), (28, 28), (2, 3, 28, 28), (2, 784)])
def test_a_wrong_shape_is_answered_in_words(shape):
    with pytest.raises(ValueError) as error:
        LeNet()(torch.rand(shape))
    assert f"expects images of shape (N, 1, 28, 28); got {shape}" in str(error.value)
    assert "model.prepare" in str(error.value)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_a_wrong_dtype_is_answered_in_words(dtype):
    with pytest.raises(ValueError, match="floating-point .* Use model.prepare"):
        LeNet()(torch.zeros(2, 1, 28, 28, dtype=dtype))


def test_what_is_no_tensor_is_answered_in_words():
    with pytest.raises(ValueError, match="got a list"):
        LeNet()([[0.0]])


@pytest.mark.parametrize("bad", [255.0, -255.0, math.nan, math.inf])
def test_pixels_that_were_not_scaled_are_answered_in_words(bad):
    images = torch.zeros(2, 1, 28, 28)
    images[1, 0, 5, 5] = bad
    with pytest.raises(ValueError, match="scaled to about 0 to 1; got values from"):
        LeNet()(images)


def test_no_images_give_no_scores():
    assert LeNet()(torch.zeros(0, 1, 28, 28)).shape == (0, 10)


def test_many_networks_can_run_as_one_batch(images):
    """torch.func.vmap, on which the course's experiments with many seeds build."""
    nets = [LeNet(), LeNet()]
    parameters, buffers = torch.func.stack_module_state(nets)
    outputs = torch.func.vmap(lambda p, b, x: torch.func.functional_call(nets[0], (p, b), (x,)), in_dims=(0, 0, None))(
        parameters, buffers, images
    )
    for net, output in zip(nets, outputs, strict=True):
        torch.testing.assert_close(net(images), output)
    # and with a batch of images for each, where no number can be read
    torch.func.vmap(lambda p, x: torch.func.functional_call(nets[0], p, (x,)))(
        parameters, images.expand(2, *images.shape)
    )
