"""EfficientNet-Lite0 as an encoder: inverted bottlenecks without squeeze-and-excitation."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Factor of the inner channels, channels, blocks, stride of the first block and kernel of each stage.
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_STEM = 32
_MEAN, _HALF_RANGE = 127.0, 128.0  # what TensorFlow's EfficientNet-Lite makes of levels from 0 to 255
WIDTHS = (16, 24, 40, 112, 320)
"""Channels of the features at a half, a quarter, ... and a 32nd of the image's size."""
_LAST = (0, 2, 4, 10, 15)  # their blocks
_PARTS = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1")}
_PARTS |= {"project": ("_project_conv", "_bn2")}
_UNUSED = re.compile(r"_conv_head\.|_bn1\.|_fc\.")


class Lite0Encoder(nn.Module):
    """The features of EfficientNet-Lite0 at five sizes, for gray images.

    An image is shown in all three colours. A box, if there is one, is a fourth channel, which published
    weights do not know: it begins with zeros.

    Args:
        inputs: 1 for images, 2 for images with boxes.

    Source:
        Tan and Le (2019), EfficientNet: rethinking model scaling for convolutional neural networks, ICML,
        6105-6114, arXiv:1905.11946; Lite0 is Google's variant of B0 with ReLU6 and without
        squeeze-and-excitation. Sandler et al. (2018), MobileNetV2: inverted residuals and linear bottlenecks,
        CVPR, 4510-4520, doi:10.1109/CVPR.2018.00474.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.boxes = inputs - 1
        self.stem = nn.Sequential(_SameConv(inputs + 2, _STEM, 3, 2), _norm(_STEM), nn.ReLU6())
        blocks, before = [], _STEM
        for factor, channels, count, stride, kernel in _STAGES:
            for number in range(count):
                blocks.append(_Block(before, channels, factor, kernel, 1 if number else stride))
                before = channels
        self.blocks = nn.ModuleList(blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images in [0, 1], (B, inputs, S, S), to five features, (B, C, s, s).

        The channels C are `WIDTHS`, and the sizes s a half to a 32nd of S, rounded up.
        """
        gray, boxes = (images[:, :1] * 255 - _MEAN) / _HALF_RANGE, images[:, 1:]
        features, found = self.stem(torch.cat([gray.expand(-1, 3, -1, -1), boxes], dim=1)), []
        for number, block in enumerate(self.blocks):
            features = block(features)
            if number in _LAST:
                found.append(features)
        return found

    def rename(self, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return published weights by this encoder's names, without those of the classifier.

        They have the names of EfficientNet-PyTorch, such as ``_blocks.3._expand_conv.weight``. Unknown names
        stay as they are.
        """
        names = {"_conv_stem": "stem.0", "_bn0": "stem.1"}
        for number in range(len(self.blocks)):
            for part, (layer, norm) in _PARTS.items():
                names[f"_blocks.{number}.{layer}"] = f"blocks.{number}.{part}.0"
                names[f"_blocks.{number}.{norm}"] = f"blocks.{number}.{part}.1"
        renamed = {}
        for name, tensor in published.items():
            if _UNUSED.match(name):
                continue
            module, _, leaf = name.rpartition(".")
            renamed[f"{names.get(module, module)}.{leaf}"] = tensor
        colours = renamed.get("stem.0.weight")
        if colours is not None and colours.shape == (_STEM, 3, 3, 3):
            renamed["stem.0.weight"] = F.pad(colours, (0, 0, 0, 0, 0, self.boxes))
        return renamed


class _Block(nn.Module):
    """An inverted bottleneck: more channels, a convolution of each of them by itself, fewer channels."""

    def __init__(self, inputs: int, outputs: int, factor: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = factor * inputs
        expand = nn.Sequential(nn.Conv2d(inputs, inner, 1, bias=False), _norm(inner), nn.ReLU6())
        self.expand = expand if factor > 1 else nn.Identity()
        depthwise = _SameConv(inner, inner, kernel, stride, groups=inner)
        self.depthwise = nn.Sequential(depthwise, _norm(inner), nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(inner, outputs, 1, bias=False), _norm(outputs))
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride), rounded up."""
        changed = self.project(self.depthwise(self.expand(features)))
        return features + changed if self.is_residual else changed


class _SameConv(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow does: an odd pixel goes below and to the right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride), rounded up."""
        pads = []
        for side in (input.shape[-1], input.shape[-2]):
            kernel, stride = self.kernel_size[0], self.stride[0]
            pad = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [pad // 2, pad - pad // 2]
        return super().forward(F.pad(input, pads))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)  # as TensorFlow trained it
