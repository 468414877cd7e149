"""Images too many to be sent around: each node reads them itself, from a folder that all nodes see."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from autoprune.config.schema import DataConfig, DigitsData, FileData, FunctionData
from autoprune.data.cache import cache_dir
from autoprune.data.dataset import Dataset, Split
from autoprune.data.sources import load
from autoprune.errors import ConfigError
from autoprune.files import Damaged, check_sealed, sealing, set_aside

__all__ = ["SharedSplit", "sent_split"]

Part = Literal["train", "search_val", "test"]


@dataclass(frozen=True)
class SharedSplit:
    """How to get at a split on a machine that was not sent its images."""

    config: DataConfig
    """Its paths are absolute."""
    seed: int
    part: Part
    digest: str
    """Of the images and labels that the driver has."""

    def read(self) -> Split:
        """The split, mapped from this machine's cache, so that its processes share one copy.

        The first process of a machine reads and decodes; others wait for it. Raises ConfigError when the folder is
        not there, or holds other images than the driver's.
        """
        images, labels = (cache_dir("splits") / f"{self.digest}-{what}.npy" for what in ("images", "labels"))
        with _locked(cache_dir("splits") / f"{self.digest}.lock"):
            if not (_usable(images) and _usable(labels)):
                split = self._decoded()
                for path, array in ((images, split.images), (labels, split.labels)):
                    with sealing(path) as temporary, temporary.open("wb") as file:
                        np.save(file, array)
        return Split(np.load(images, mmap_mode="r"), np.load(labels))

    def _decoded(self) -> Split:
        split = _part(load(self.config, seed=self.seed), self.part)
        if split.digest != self.digest:
            where = getattr(self.config, "root", None) or getattr(self.config, "path", "")
            raise ConfigError(
                f"data: {where} holds other images on this node than where the search was started.",
                "Let all nodes see the same folder, or raise executor.object_store_gb, so that images are sent.",
            )
        return split


def sent_split(split: Split, part: Part, config: DataConfig, seed: int, most_bytes: float) -> Split | SharedSplit:
    """The split itself, or, over so many bytes, how to get at it. What lies in no folder is always sent."""
    if split.images.nbytes <= most_bytes or isinstance(config, DigitsData | FunctionData):
        return split
    key = "path" if isinstance(config, FileData) else "root"
    there = config.model_copy(update={key: str(Path(getattr(config, key)).expanduser().absolute())})
    return SharedSplit(there, seed, part, split.digest)


def _usable(path: Path) -> bool:
    try:
        check_sealed(path)
    except FileNotFoundError:
        return False
    except (Damaged, OSError) as error:
        set_aside(path, "the file of a split's images", error, "They are read again.")
        return False
    return True


def _part(dataset: Dataset, part: Part) -> Split:
    return dataset.open_test() if part == "test" else getattr(dataset, part)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
