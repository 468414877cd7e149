"""VGG with batch normalisation for 32x32 images: the convolutions of Simonyan & Zisserman 2015 and one linear layer.

The pruning literature's CIFAR variant (Liu et al. 2019, Rethinking the Value of Network Pruning): no hidden linear
layers, convolutions without bias.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["VGG", "vgg16_bn", "vgg19_bn"]

_WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """``depths`` convolutions in each of five stages, halving the image between them."""

    def __init__(self, depths: tuple[int, ...], num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for stage, (width, depth) in enumerate(zip(_WIDTHS, depths, strict=True)):
            if stage:
                layers.append(nn.MaxPool2d(2))
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)]
                channels = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, H, W) float, H and W at least 16 -> (N, num_classes) logits."""
        return self.classifier(self.pool(self.features(images)).flatten(1))


def vgg16_bn(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """13 convolutions: 14,724,042 parameters, 313.2 M MACs on 32x32 colour images with 10 classes."""
    return VGG((2, 2, 3, 3, 3), num_classes, in_channels)


def vgg19_bn(num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """16 convolutions: 20,035,018 parameters, 398.1 M MACs on 32x32 colour images with 10 classes."""
    return VGG((2, 2, 4, 4, 4), num_classes, in_channels)
