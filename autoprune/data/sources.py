"""From a data configuration to a :class:`Dataset`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from autoprune.config.schema import DataConfig, DigitsData, FileData, FunctionData, ImageFolderData, TorchvisionData
from autoprune.data.dataset import Dataset, Split, carve
from autoprune.data.folder import class_folders, find_split, list_images, read_images
from autoprune.data.shapes import in_hand
from autoprune.data.torchvision_sets import SETS, read_named
from autoprune.data.user_data import read_user_data
from autoprune.errors import ConfigError

__all__ = ["load"]

OnProgress = Callable[[int, int], None]
_SMALLEST_STD = 1e-3


def load(config: DataConfig, *, seed: int = 0, on_progress: OnProgress | None = None) -> Dataset:
    """The configured data set, its training images split into train and search-val by ``seed``.

    What is test does not depend on the seed, and test images are not read before ``open_test()``.
    ``on_progress(images done, images in all)`` is called while a folder is decoded for the first time. Raises
    ConfigError when files are missing (saying what to put where) or an image cannot be read (naming it).

    >>> data = load(DigitsData())
    >>> data.train.images.shape, len(data.search_val), data.num_classes
    ((1151, 1, 8, 8), 287, 10)
    """
    if isinstance(config, DigitsData):
        return _digits(config, seed)
    if isinstance(config, ImageFolderData):
        return _folder(Path(config.root).expanduser(), config.image_size, config.channels, config, seed, on_progress)
    if isinstance(config, FileData):
        return _user_file(config, seed)
    if isinstance(config, FunctionData):
        raise in_hand(config)
    root = Path(config.root).expanduser()
    known = SETS[config.kind]
    if (root / "train").is_dir():
        return _folder(root, known.image_size, known.channels, config, seed, on_progress)
    full, names = read_named(config, train=True)
    return _assemble(config, full, names, seed, partial(_named_test, config))


def _digits(config: DigitsData, seed: int) -> Dataset:
    everything = _read_digits()
    rest, _ = carve(everything.labels, config.test, seed=0)
    full = Split(everything.images[rest], everything.labels[rest])
    return _assemble(config, full, tuple("0123456789"), seed, partial(_digits_test, config.test))


def _read_digits() -> Split:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # Pixels are counts from 0 to 16 of the dark dots in 4x4 blocks.
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    return Split(images, bunch.target.astype(np.int64))


def _digits_test(share: float) -> Split:
    everything = _read_digits()
    _, chosen = carve(everything.labels, share, seed=0)
    return Split(everything.images[chosen], everything.labels[chosen])


def _user_file(config: FileData, seed: int) -> Dataset:
    user = read_user_data(config)
    assembled = _assemble(config, user.train, user.class_names, seed, user.read_test)
    name = f"{Path(config.path).name}:{config.factory}"
    mean, std = user.mean or assembled.mean, user.std or assembled.std
    return replace(assembled, name=name, mean=mean, std=std)


def _named_test(config: TorchvisionData) -> Split:
    return read_named(config, train=False)[0]


def _folder(
    root: Path,
    size: int,
    channels: int,
    config: ImageFolderData | TorchvisionData,
    seed: int,
    on_progress: OnProgress | None,
) -> Dataset:
    if not root.is_dir():
        raise ConfigError(
            f"data.root: there is no folder {root.absolute()}.",
            "Give the folder that has train/<class>/ and test/<class>/ images, relative to the folder you are in.",
        )
    train, test = find_split(root, "train"), find_split(root, "test", "val")
    names = class_folders(train)
    _check_same_classes(train, names, test, class_folders(test))
    if isinstance(config, TorchvisionData) and len(names) != SETS[config.kind].num_classes:
        raise ConfigError(
            f"data.root: {train} has {len(names)} class folders, {config.kind} has {SETS[config.kind].num_classes}.",
            "Use kind: image_folder for a data set of your own.",
        )
    full = read_images(list_images(train, names), size=size, channels=channels, on_progress=on_progress)
    return _assemble(config, full, names, seed, partial(_folder_test, test, names, size, channels))


def _check_same_classes(train: Path, names: tuple[str, ...], test: Path, others: tuple[str, ...]) -> None:
    if names != others:
        differing = sorted(set(names) ^ set(others))
        raise ConfigError(
            f"{train} and {test} have different class folders: {', '.join(differing[:5])} in only one of them.",
            "Give both the same classes.",
        )


def _folder_test(folder: Path, names: tuple[str, ...], size: int, channels: int) -> Split:
    mapped = read_images(list_images(folder, names), size=size, channels=channels)
    return Split(np.array(mapped.images), mapped.labels)


def _assemble(
    config: DigitsData | ImageFolderData | TorchvisionData | FileData,
    full: Split,
    names: tuple[str, ...],
    seed: int,
    read_test: Callable[[], Split],
) -> Dataset:
    try:
        rest, carved = carve(full.labels, config.search_val, seed)
    except ValueError as error:
        raise ConfigError(f"data: {error}.", "Add images to that class or leave the class out.") from None
    train = Split(full.images[rest], full.labels[rest])
    mean, std = _statistics(train.images)
    return Dataset(
        train=train,
        search_val=Split(full.images[carved], full.labels[carved]),
        num_classes=len(names),
        class_names=names,
        mean=mean,
        std=std,
        name=config.kind,
        read_test=read_test,
    )


def _statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel for pixels in [0, 1], exact, from counts of the 256 values."""
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = np.bincount(images[:, channel].reshape(-1), minlength=256)
        mean = float(counts @ values / counts.sum())
        variance = float(counts @ (values - mean) ** 2 / counts.sum())
        means.append(mean)
        deviations.append(max(variance**0.5, _SMALLEST_STD))  # a constant channel must not divide by zero
    return tuple(means), tuple(deviations)
