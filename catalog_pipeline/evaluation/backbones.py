"""Two small ImageNet networks without their classifiers, written for the weights at hand.

Module names follow the state dicts of the packages that carry the weights, so
that both load with ``strict=True``; the arithmetic is checked in the tests
against the packages' own modules.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

FEATURE_WIDTH = 1280
"""Channels of the last convolution of both networks."""

_MOBILENET_STAGES = (
    # expansion, channels, blocks, stride of the first block: Table 2, arXiv:1801.04381
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

_LITE0_STAGES = (
    # expansion, channels, blocks, stride of the first block, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


class _InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel by 3x3, project by 1x1; add the input where it fits."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()]
        layers += [
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.adds_input = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        filtered: Tensor = self.conv(x)
        return x + filtered if self.adds_input else filtered


class MobileNetV2(nn.Module):
    """MobileNetV2 (arXiv:1801.04381), width 1.0, up to its pooled features."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        ]
        channels = 32
        for expansion, outputs, blocks, first_stride in _MOBILENET_STAGES:
            for block in range(blocks):
                stride = first_stride if block == 0 else 1
                layers.append(_InvertedResidual(channels, outputs, stride, expansion))
                channels = outputs
        layers.append(
            nn.Sequential(
                nn.Conv2d(channels, FEATURE_WIDTH, 1, bias=False),
                nn.BatchNorm2d(FEATURE_WIDTH),
                nn.ReLU6(),
            )
        )
        self.features = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        """``(images, 3, height, width)``, ImageNet-normalised -> ``(images, 1280)``."""
        maps: Tensor = self.features(pixels)
        return maps.mean(dim=(2, 3))


class _SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's ``SAME``: the odd pixel goes right and below."""

    def forward(self, x: Tensor) -> Tensor:
        padding: list[int] = []
        for axis in (1, 0):  # functional.pad takes the last axis first
            kernel, stride, size = self.kernel_size[axis], self.stride[axis], x.shape[2 + axis]
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        padded = functional.pad(x, padding)
        convolved: Tensor = self._conv_forward(padded, self.weight, self.bias)
        return convolved


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _MBConv(nn.Module):
    """The inverted residual of EfficientNet-Lite: no squeeze-and-excitation, ReLU6."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, kernel: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
            self._bn0 = _batch_norm(hidden)
        self._depthwise_conv = _SameConv2d(
            hidden, hidden, kernel, stride, groups=hidden, bias=False
        )
        self._bn1 = _batch_norm(hidden)
        self._project_conv = nn.Conv2d(hidden, outputs, 1, bias=False)
        self._bn2 = _batch_norm(outputs)
        self.adds_input = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        hidden = functional.relu6(self._bn1(self._depthwise_conv(hidden)))
        projected: Tensor = self._bn2(self._project_conv(hidden))
        return x + projected if self.adds_input else projected


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (arXiv:1905.11946 without attention), up to its pooled features.

    ``_fc`` is the ImageNet classifier; it is built so that the weights load
    strictly, and is not used.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv2d(3, 32, 3, 2, bias=False)
        self._bn0 = _batch_norm(32)
        blocks: list[nn.Module] = []
        channels = 32
        for expansion, outputs, repeats, first_stride, kernel in _LITE0_STAGES:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                blocks.append(_MBConv(channels, outputs, stride, expansion, kernel))
                channels = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(channels, FEATURE_WIDTH, 1, bias=False)
        self._bn1 = _batch_norm(FEATURE_WIDTH)
        self._fc = nn.Linear(FEATURE_WIDTH, 1000)

    def forward(self, pixels: Tensor) -> Tensor:
        """``(images, 3, height, width)``, ImageNet-normalised -> ``(images, 1280)``."""
        x = functional.relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            x = block(x)
        maps: Tensor = functional.relu6(self._bn1(self._conv_head(x)))
        return maps.mean(dim=(2, 3))
