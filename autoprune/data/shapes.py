"""What images a data configuration will give, without reading any."""

from __future__ import annotations

from pathlib import Path

from autoprune.config.schema import DataConfig, DigitsData, FileData, FunctionData, ImageFolderData
from autoprune.data.folder import class_folders, find_split
from autoprune.data.torchvision_sets import SETS
from autoprune.data.user_data import read_user_data
from autoprune.errors import ConfigError
from autoprune.models.registry import IN_HAND

__all__ = ["in_hand", "shape_and_classes"]


def shape_and_classes(config: DataConfig) -> tuple[tuple[int, int, int], int]:
    """(C, H, W) of one image and the number of classes. An image folder's classes are counted, its images not opened.

    >>> shape_and_classes(DigitsData())
    ((1, 8, 8), 10)

    A user's factory is called. Raises ConfigError when an image folder is missing, when the factory fails, and for a
    search whose measuring was a function in hand.
    """
    if isinstance(config, DigitsData):
        return (1, 8, 8), 10
    if isinstance(config, ImageFolderData):
        root = Path(config.root).expanduser()
        if not root.is_dir():
            raise ConfigError(f"data.root: there is no folder {root.absolute()}.", "Give the folder that has train/.")
        return (config.channels, config.image_size, config.image_size), len(class_folders(find_split(root, "train")))
    if isinstance(config, FileData):
        user = read_user_data(config)
        channels, height, width = user.train.images.shape[1:]
        return (channels, height, width), len(user.class_names)
    if isinstance(config, FunctionData):
        raise in_hand(config)
    known = SETS[config.kind]
    return (known.channels, known.image_size, known.image_size), known.num_classes


def in_hand(config: FunctionData) -> ConfigError:
    """Why there are no images."""
    return ConfigError(
        f"this search measured with the function {config.name!r} on a module in hand; neither is stored.", IN_HAND
    )
