"""MobileNetV1 (Howard et al. 2017) and MobileNetV2 (Sandler et al. 2018) in their ImageNet layout.

``small_images: true`` leaves out the first two halvings, for images of 64 pixels and below.
"""

from __future__ import annotations

from torch import Tensor, nn

from autoprune.errors import ConfigError

__all__ = ["MobileNet", "mobilenet_v1", "mobilenet_v2"]

# (channels, stride) of the depthwise-separable blocks; Howard et al. 2017, table 1.
_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
# (expansion, channels, blocks, stride); Sandler et al. 2018, table 2.
_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobileNet(nn.Module):
    """A convolutional trunk, global average pooling, one linear layer."""

    def __init__(self, features: nn.Sequential, channels: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) float -> (N, num_classes) logits."""
        return self.classifier(self.dropout(self.pool(self.features(images)).flatten(1)))


def _conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int, groups: int, act: type[nn.Module]) -> list:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), act()]


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the input is added where the shapes allow it."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += _conv_bn(in_channels, hidden, 1, 1, 1, nn.ReLU6)
        layers += _conv_bn(hidden, hidden, 3, stride, hidden, nn.ReLU6)
        layers += _conv_bn(hidden, out_channels, 1, 1, 1, nn.Identity)[:2]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, images: Tensor) -> Tensor:
        return images + self.conv(images) if self.residual else self.conv(images)


def mobilenet_v1(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width: float = 1.0,
    dropout: float = 0.0,
    small_images: bool = False,
) -> nn.Module:
    """MobileNetV1; each layer has ``int(channels * width)`` channels.

    At 224x224 with 1,000 classes: 568.74 / 325.40 / 149.50 / 41.03 M MACs at width 1 / 0.75 / 0.5 / 0.25.
    """
    _check_width("mobilenet_v1", width)
    channels = int(32 * width)
    layers: list[nn.Module] = _conv_bn(in_channels, channels, 3, 1 if small_images else 2, 1, nn.ReLU)
    for index, (planned, planned_stride) in enumerate(_V1):
        stride = 1 if small_images and index == 1 else planned_stride
        layers += _conv_bn(channels, channels, 3, stride, channels, nn.ReLU)
        layers += _conv_bn(channels, int(planned * width), 1, 1, 1, nn.ReLU)
        channels = int(planned * width)
    return MobileNet(nn.Sequential(*layers), channels, num_classes, dropout)


def mobilenet_v2(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width: float = 1.0,
    dropout: float = 0.2,
    small_images: bool = False,
) -> nn.Module:
    """MobileNetV2; channels are rounded to multiples of 8.

    At 224x224 with 1,000 classes and width 1: 300.77 M MACs, 3,504,872 parameters.
    """
    _check_width("mobilenet_v2", width)
    channels = _multiple_of_8(32 * width)
    layers: list[nn.Module] = _conv_bn(in_channels, channels, 3, 1 if small_images else 2, 1, nn.ReLU6)
    for index, (expansion, planned, blocks, planned_stride) in enumerate(_V2):
        for block in range(blocks):
            stride = 1 if block or (small_images and index == 1) else planned_stride
            layers.append(InvertedResidual(channels, _multiple_of_8(planned * width), stride, expansion))
            channels = _multiple_of_8(planned * width)
    last = _multiple_of_8(1280 * max(1.0, width))
    layers += _conv_bn(channels, last, 1, 1, 1, nn.ReLU6)
    return MobileNet(nn.Sequential(*layers), last, num_classes, dropout)


def _multiple_of_8(value: float) -> int:
    """The nearest multiple of 8 that is not more than a tenth below the value (Sandler et al. 2018, their code)."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def _check_width(name: str, width: float) -> None:
    if not isinstance(width, int | float) or isinstance(width, bool) or not 1 / 32 <= width <= 16:
        raise ConfigError(
            f"model {name}: width is {width!r}, expected a multiplier from 0.03125 to 16.", "1.0 is full."
        )
