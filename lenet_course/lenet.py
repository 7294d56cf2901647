"""LeNet as Caffe ships it: 20-50-500-10."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from lenet_course.data import check_scaled, describe_tensor, scale_caffe


class LeNet(nn.Module):
    """The 20-50-500-10 network of Caffe's MNIST example, 431,080 parameters.

    relu_after_conv: a ReLU after each convolution too, as popular re-tellings have it. Caffe's own network
        (relu_after_conv=False) has only the one after the 500 units.
    any_size: take images from 14x14 up, by pooling adaptively to 4x4 before the dense layers. Without it, 28x28 only.

    Source: BVLC/caffe, examples/mnist/lenet_train_test.prototxt. Initial weights are PyTorch's own (uniform in
    +-1/sqrt(fan_in); Caffe's were uniform in +-sqrt(3/fan_in)), drawn from torch's global generator: call
    torch.manual_seed before you build one.
    """

    def __init__(self, relu_after_conv: bool = True, any_size: bool = False) -> None:
        super().__init__()
        self.relu_after_conv = relu_after_conv
        self.any_size = any_size
        self.conv1 = nn.Conv2d(1, 20, kernel_size=5)
        self.pool1 = nn.MaxPool2d(kernel_size=2, stride=2)
        self.conv2 = nn.Conv2d(20, 50, kernel_size=5)
        self.pool2 = nn.AdaptiveMaxPool2d((4, 4)) if any_size else nn.MaxPool2d(kernel_size=2, stride=2)
        self.fc1 = nn.Linear(50 * 4 * 4, 500)
        self.fc2 = nn.Linear(500, 10)

    @property
    def architecture(self) -> str:
        """What weights must have been trained for to mean the same here (any_size changes nothing at 28x28)."""
        return f"LeNet(relu_after_conv={self.relu_after_conv})"

    def forward(self, images: Tensor) -> Tensor:     # (N,  1, 28, 28)
        """Return ten scores for each image, any real numbers; the largest is the answer.

        images: (N, 1, 28, 28) floating point from `prepare`; with any_size (N, 1, height, width), 14x14 or larger.
        Returns (N, 10) of the same dtype. There is no softmax: that belongs to the loss.
        Raises ValueError for another shape, a dtype that is not floating point, or pixels that were not scaled.
        """
        self._check(images)
        x = self.pool1(self.conv1(images))           # (N, 20, 12, 12)
        # ReLU after pooling: the largest of rectified numbers is the rectified largest, at a quarter of the work.
        x = relu(x) if self.relu_after_conv else x   # (N, 20, 12, 12)
        x = self.pool2(self.conv2(x))                # (N, 50,  4,  4)
        x = relu(x) if self.relu_after_conv else x   # (N, 50,  4,  4)
        x = relu(self.fc1(x.flatten(start_dim=1)))   # (N, 500)
        return self.fc2(x)                           # (N, 10)

    def prepare(self, images: Tensor) -> Tensor:
        """Turn raw (N, 28, 28) uint8 images into the network's input, (N, 1, 28, 28) float32 in [0, 1)."""
        return scale_caffe(images)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Return the answer for each image, (N,) int64, 0 to 9; images as `forward` takes them."""
        # A thousand at a time: all 10,000 test digits at once would take 0.5 GB for conv1's output alone.
        return torch.cat([self.decide(self(some)) for some in images.split(1000)])

    def decide(self, outputs: Tensor) -> Tensor:
        """Return the label of the largest score: (N, 10) outputs of `forward` to (N,) int64."""
        return outputs.argmax(dim=1)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of (N, 10) scores with (N,) int64 labels, in nats, mean over the batch."""
        return cross_entropy(outputs, labels)

    def _check(self, images: Tensor) -> None:
        wanted = "(N, 1, height, width), 14x14 or larger," if self.any_size else "(N, 1, 28, 28)"
        if not isinstance(images, Tensor) or not images.is_floating_point():
            raise ValueError(
                f"LeNet expects floating-point images of shape {wanted}; got {describe_tensor(images)}. "
                "Use model.prepare(images) on raw uint8 digits."
            )
        right_size = images.dim() == 4 and images.shape[1] == 1 and (
            min(images.shape[2:]) >= 14 if self.any_size else images.shape[2:] == (28, 28)
        )
        if not right_size:
            advice = "Use model.prepare(images) on raw digits"
            if not self.any_size:
                advice += ", and LeNet(any_size=True) for images of another size"
            raise ValueError(f"LeNet expects images of shape {wanted}; got {tuple(images.shape)}. {advice}.")
        check_scaled(images, "LeNet", "0 to 1", "Use model.prepare(images) on raw uint8 digits")
