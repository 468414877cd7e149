"""The two networks that pruning began with: LeNet-300-100 and LeNet-5."""

from __future__ import annotations

from torch import Tensor, nn

from autoprune.errors import ConfigError

__all__ = ["LeNet5", "lenet5", "lenet300_100"]


def lenet300_100(num_classes: int = 10, in_channels: int = 1, *, image_size: int = 28) -> nn.Module:
    """Two hidden layers of 300 and 100 units (LeCun et al. 1998). 266,610 parameters on 28x28 grey images."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_channels * image_size**2, 300),
        nn.ReLU(),
        nn.Linear(300, 100),
        nn.ReLU(),
        nn.Linear(100, num_classes),
    )


class LeNet5(nn.Module):
    """Convolutions of 20 and 50 channels, then 500 units: the variant that pruning papers call LeNet-5.

    It is Caffe's (Jia et al. 2014): 431,080 parameters on 28x28 grey images.
    """

    def __init__(self, num_classes: int, in_channels: int, image_size: int) -> None:
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        if side < 1:
            raise ConfigError(
                f"model lenet5: images of {image_size}x{image_size} are too small, it needs at least 16x16.",
                "Use lenet300_100 or a resnet for smaller images.",
            )
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2)
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(50 * side**2, 500), nn.ReLU(), nn.Linear(500, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, image_size, image_size) float -> (N, num_classes) logits."""
        return self.classifier(self.features(images))


def lenet5(num_classes: int = 10, in_channels: int = 1, *, image_size: int = 28) -> nn.Module:
    """See :class:`LeNet5`. ``image_size`` is the side of the square input."""
    return LeNet5(num_classes, in_channels, image_size)
