"""CIFAR-10/100, MNIST and FashionMNIST as torchvision downloads and reads them."""

from __future__ import annotations

import pickle
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoprune.config.schema import TorchvisionData
from autoprune.data.dataset import Split
from autoprune.errors import ConfigError

__all__ = ["SETS", "NamedSet", "read_named"]

_CONNECT_SECONDS = 30.0


@dataclass(frozen=True)
class NamedSet:
    """What is known of a data set before it is read."""

    torchvision_class: str
    num_classes: int
    image_size: int
    channels: int
    files: str
    """Where torchvision looks for its files, under the root."""


_IDX = "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz"

SETS: dict[str, NamedSet] = {
    "cifar10": NamedSet("CIFAR10", 10, 32, 3, "cifar-10-python.tar.gz into {root}"),
    "cifar100": NamedSet("CIFAR100", 100, 32, 3, "cifar-100-python.tar.gz into {root}"),
    "mnist": NamedSet("MNIST", 10, 28, 1, f"{_IDX} into {{root}}/MNIST/raw"),
    "fashionmnist": NamedSet("FashionMNIST", 10, 28, 1, f"{_IDX} into {{root}}/FashionMNIST/raw"),
}


def read_named(config: TorchvisionData, *, train: bool) -> tuple[Split, tuple[str, ...]]:
    """The official train or test images and the class names. Raises ConfigError that says what to put where."""
    from autoprune.models.torchvision_shim import torchvision

    known = SETS[config.kind]
    root = Path(config.root).expanduser()
    try:
        # torchvision prints the mirrors it tries; stdout belongs to whoever reads our tables and JSON.
        with _timeout(), redirect_stdout(sys.stderr):
            data = getattr(torchvision.datasets, known.torchvision_class)(root, train=train, download=config.download)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ConfigError(_failure(config, error), _next_step(config)) from None
    images = np.asarray(data.data)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    labels = np.asarray(data.targets, dtype=np.int64)
    return Split(np.ascontiguousarray(images), labels), tuple(data.classes)


@contextmanager
def _timeout() -> Iterator[None]:
    """A network that swallows packets must not hang the command: urllib has no timeout of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_CONNECT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _failure(config: TorchvisionData, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    reason = reason.partition(" You can use download=True")[0].rstrip(".:")  # our own next step follows
    what = "could not be downloaded or read" if config.download else "is not there or cannot be read"
    return f"data: {config.kind} {what} in {Path(config.root).expanduser().absolute()}: {reason}."


def _next_step(config: TorchvisionData) -> str:
    root = Path(config.root).expanduser().absolute()
    files = SETS[config.kind].files.format(root=root)
    step = "" if config.download else "Set data.download: true, or "
    text = f"put {files}; or set data.root to a folder with train/<class>/ and test/<class>/ images."
    return step + text if step else f"Without a network: {text}"
