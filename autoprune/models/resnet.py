"""The CIFAR ResNets of He et al. 2016 (section 4.2): three stages of basic blocks, depth 6n + 2.

Parameter names are those of torchvision's ResNet (``layer2.0.conv1.weight``, ``layer2.0.downsample.0.weight``,
``fc.weight``), so common CIFAR checkpoints load unchanged.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.errors import ConfigError

__all__ = ["BUILDERS", "CifarResNet"]


class ZeroPadShortcut(nn.Module):
    """Option A: every ``stride``-th pixel, and zeros for the channels that the input lacks. No parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, images: Tensor) -> Tensor:
        return F.pad(images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around them."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = _shortcut(shortcut, in_channels, channels, stride)

    def forward(self, images: Tensor) -> Tensor:
        kept = images if self.downsample is None else self.downsample(images)
        hidden = F.relu(self.bn1(self.conv1(images)))
        return F.relu(self.bn2(self.conv2(hidden)) + kept)


def _shortcut(option: str, in_channels: int, channels: int, stride: int) -> nn.Module:
    if option == "A":
        return ZeroPadShortcut(in_channels, channels, stride)
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


class CifarResNet(nn.Module):
    """Stages of ``width``, 2 ``width`` and 4 ``width`` channels; the image is halved at the second and the third."""

    def __init__(self, depth: int, num_classes: int, in_channels: int, shortcut: str, width: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) float, any H and W from 4 up -> (N, num_classes) logits."""
        hidden = F.relu(self.bn1(self.conv1(images)))
        hidden = self.layer3(self.layer2(self.layer1(hidden)))
        return self.fc(self.avgpool(hidden).flatten(1))


def _stage(in_channels: int, channels: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1, shortcut) for _ in range(blocks - 1)))


def _builder(depth: int) -> Callable[..., nn.Module]:
    def build(num_classes: int = 10, in_channels: int = 3, *, shortcut: str = "B", width: int = 16) -> nn.Module:
        if shortcut not in ("A", "B"):
            raise ConfigError(
                f"model resnet{depth}: shortcut is {shortcut!r}, expected 'A' or 'B'.",
                "'A' pads with zeros as in He et al. 2016; 'B' has 1x1 convolutions, and every group can be pruned.",
            )
        if type(width) is not int or width < 1:
            raise ConfigError(f"model resnet{depth}: width is {width!r}, expected a positive integer.")
        return CifarResNet(depth, num_classes, in_channels, shortcut, width)

    return build


BUILDERS: dict[str, Callable[..., nn.Module]] = {f"resnet{depth}": _builder(depth) for depth in (8, 20, 32, 56, 110)}
