"""A user's own data set: a function in a Python file that returns the training and the test images.

The function returns ``(train, test)``, or a mapping with these two keys and, where wanted, ``class_names`` (a sequence
of text) and ``mean`` and ``std`` (a number a channel, for pixels in [0, 1]: those that a checkpoint was trained with;
else the training images' own). ``train`` and ``test`` are each

- a pair ``(images, labels)`` of arrays or tensors: images (N, C, H, W) or (N, H, W), uint8 or floats in [0, 1];
  labels (N,), whole numbers from 0; or
- a ``torch.utils.data.Dataset`` (anything with length and index) of ``(image, label)``, the image a PIL image, or a
  tensor or array (C, H, W) or (H, W), all of one shape, without random augmentation; or
- a function without arguments that returns one of these: ``test`` is then not read before the report opens it.

Images are kept as uint8, so floats are rounded to the nearest 1/255. Normalising and augmenting is autoprune's part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from autoprune.config.schema import FileData
from autoprune.data.dataset import Split
from autoprune.errors import ConfigError
from autoprune.models.user_file import call_factory

__all__ = ["UserData", "read_user_data"]

_MOST_CHANNELS = 16
"""More than that along dimension 1 and few along the last one: the array is channels-last."""


@dataclass(frozen=True, eq=False)
class UserData:
    """What a user's factory returned, checked."""

    train: Split
    class_names: tuple[str, ...]
    read_test: Callable[[], Split]
    mean: tuple[float, ...] = ()
    """Empty: not given."""
    std: tuple[float, ...] = ()


def read_user_data(config: FileData) -> UserData:
    """Call the factory of the file (once a process, while the file stays as it is) and check what it returns.

    Raises ConfigError that says which part is wrong and what is expected.
    """
    path = Path(config.path).expanduser()
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    return _read(config.model_dump_json(exclude={"search_val"}), changed)


@lru_cache(maxsize=2)
def _read(config_json: str, changed: int) -> UserData:
    del changed  # a part of the cache's key
    config = FileData.model_validate(json.loads(config_json))
    where = f"{Path(config.path).expanduser()}: {config.factory}()"
    content = _parts(call_factory("data", config, {}), where)
    train = _split(content["train"], f"{where}: train")
    classes = int(train.labels.max()) + 1
    names = tuple(str(name) for name in content.get("class_names") or range(classes))
    if len(names) < classes:
        raise ConfigError(f"{where}: class_names has {len(names)} names, the labels go up to {classes - 1}.")
    mean, std = (_per_channel(content, key, train.images.shape[1], where) for key in ("mean", "std"))
    shape = train.images.shape[1:]
    return UserData(train, names, lambda: _test(content["test"], f"{where}: test", len(names), shape), mean, std)


def _parts(content: Any, where: str) -> Mapping[str, Any]:
    if isinstance(content, Mapping):
        missing = [key for key in ("train", "test") if key not in content]
        unknown = [str(key) for key in content if key not in ("train", "test", "class_names", "mean", "std")]
        if missing or unknown:
            wrong = [f"{key!r} is missing" for key in missing] + [f"{key!r} is not known" for key in unknown]
            raise ConfigError(f"{where}: {', '.join(wrong)}.", "Keys are train, test, class_names, mean, std.")
        return content
    arrays = isinstance(content, tuple | list) and any(isinstance(part, np.ndarray | torch.Tensor) for part in content)
    if arrays or not isinstance(content, tuple | list) or len(content) != 2:
        got = "arrays" if arrays else type(content).__name__
        raise ConfigError(
            f"{where} returned {got}, expected (train, test).",
            "Return ((images, labels), (images, labels)), or two torch Datasets.",
        )
    return {"train": content[0], "test": content[1]}


def _test(part: Any, where: str, classes: int, shape: tuple[int, ...]) -> Split:
    split = _split(part, where)
    if int(split.labels.max()) >= classes:
        raise ConfigError(f"{where}: label {int(split.labels.max())} is not among the {classes} training classes.")
    if split.images.shape[1:] != shape:
        raise ConfigError(f"{where}: images of shape {split.images.shape[1:]}, the training images have {shape}.")
    return split


def _split(part: Any, where: str) -> Split:
    if isinstance(part, tuple | list) and len(part) == 2:
        images, labels = (_array(item) for item in part)
    elif hasattr(part, "__getitem__") and hasattr(part, "__len__"):
        images, labels = _listed(part, where)
    elif callable(part):
        return _split(part(), where)
    else:
        raise ConfigError(
            f"{where} is a {type(part).__name__}, expected (images, labels), a torch Dataset or a function of these.",
            "A data set that can only be iterated has to be collected into arrays first.",
        )
    if len(images) != len(labels) or not len(images):
        raise ConfigError(f"{where}: {len(images)} images and {len(labels)} labels, expected as many, and some.")
    return Split(_pixels(images, where), _labels(labels, where))


def _listed(dataset: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for index in range(len(dataset)):
        try:
            image, label = dataset[index]
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where}[{index}]: {error}; expected (image, label).") from None
        images.append(_array(image))
        if images[-1].shape != images[0].shape:
            raise ConfigError(
                f"{where}[{index}]: an image of shape {images[-1].shape}, the first has {images[0].shape}.",
                "Resize or crop all to one shape.",
            )
        labels.append(int(label))
    return np.stack(images) if images else np.empty(0), np.array(labels, np.int64)


def _array(item: Any) -> np.ndarray:
    if isinstance(item, torch.Tensor):
        return item.detach().cpu().numpy()
    if isinstance(item, Image.Image):
        pixels = np.asarray(item.convert("L" if item.mode in ("1", "L") else "RGB"))
        return pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.asarray(item)


def _pixels(images: np.ndarray, where: str) -> np.ndarray:
    """(N, C, H, W) uint8."""
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or (images.shape[1] > _MOST_CHANNELS and images.shape[3] <= 4):
        hint = "Channels come before height and width: images.transpose(0, 3, 1, 2)." if images.ndim == 4 else ""
        raise ConfigError(f"{where}: images of shape {images.shape}, expected (N, C, H, W) or (N, H, W).", hint)
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if images.dtype.kind != "f":
        raise ConfigError(f"{where}: images of {images.dtype}, expected uint8, or floats in [0, 1].")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):  # also when NaN
        raise ConfigError(
            f"{where}: floating point images from {low:.3g} to {high:.3g}, expected values in [0, 1].",
            "Return them before normalisation (autoprune normalises; give mean and std if they must be certain ones).",
        )
    return np.ascontiguousarray(np.rint(images * 255).astype(np.uint8))


def _labels(labels: np.ndarray, where: str) -> np.ndarray:
    """(N,) int64."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or int(labels.min()) < 0:
        raise ConfigError(
            f"{where}: labels of shape {labels.shape} and type {labels.dtype}, expected (N,) whole numbers from 0."
        )
    return labels.astype(np.int64)


def _per_channel(content: Mapping[str, Any], key: str, channels: int, where: str) -> tuple[float, ...]:
    values = content.get(key)
    if values is None:
        return ()
    numbers = tuple(float(value) for value in np.atleast_1d(np.asarray(values, dtype=np.float64)))
    if len(numbers) != channels or not np.isfinite(numbers).all() or (key == "std" and min(numbers) <= 0):
        raise ConfigError(f"{where}: {key} is {numbers}, expected {channels} numbers, one a channel, pixels in [0, 1].")
    return numbers
