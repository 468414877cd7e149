"""What images a data configuration will give, without reading any."""

from __future__ import annotations

from pathlib import Path

from autoprune.config.schema import DataConfig, DigitsData, ImageFolderData
from autoprune.data.folder import class_folders, find_split
from autoprune.data.torchvision_sets import SETS
from autoprune.errors import ConfigError

__all__ = ["shape_and_classes"]


def shape_and_classes(config: DataConfig) -> tuple[tuple[int, int, int], int]:
    """(C, H, W) of one image and the number of classes. An image folder's classes are counted, its images not opened.

    >>> shape_and_classes(DigitsData())
    ((1, 8, 8), 10)

    Raises ConfigError when an image folder is missing.
    """
    if isinstance(config, DigitsData):
        return (1, 8, 8), 10
    if isinstance(config, ImageFolderData):
        root = Path(config.root).expanduser()
        if not root.is_dir():
            raise ConfigError(f"data.root: there is no folder {root.absolute()}.", "Give the folder that has train/.")
        return (config.channels, config.image_size, config.image_size), len(class_folders(find_split(root, "train")))
    known = SETS[config.kind]
    return (known.channels, known.image_size, known.image_size), known.num_classes
