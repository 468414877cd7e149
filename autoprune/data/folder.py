"""Images in class folders, decoded once into a uint8 array that later runs map into memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from autoprune.data.cache import cache_dir
from autoprune.data.dataset import Split
from autoprune.errors import ConfigError
from autoprune.files import Damaged, check_sealed, sealing, set_aside

__all__ = ["Listing", "class_folders", "find_split", "list_images", "read_images"]

_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
_CHUNK = 512
_LAYOUT = "Put images into {root}/train/<class>/ and {root}/test/<class>/ (or val for test)."


@dataclass(frozen=True)
class Listing:
    """The images of one split, in a fixed order, and a digest of what is there."""

    root: Path
    files: tuple[str, ...]
    """Relative to ``root``."""
    labels: np.ndarray
    """(N,) int64."""
    digest: str
    """Changes with the place, names, sizes and modification times of the files."""


def find_split(root: Path, *names: str) -> Path:
    """The first of ``root/<name>`` that is a folder. Raises ConfigError with the expected layout."""
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise ConfigError(
        f"data.root: {root} has no folder {' or '.join(repr(name) for name in names)}.", _LAYOUT.format(root=root)
    )


def class_folders(folder: Path) -> tuple[str, ...]:
    """Names of the class folders, sorted; the index is the label. Raises ConfigError when there are fewer than two."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        raise ConfigError(
            f"{folder} has {len(names)} class folders, expected at least 2.", _LAYOUT.format(root=folder.parent)
        )
    return tuple(names)


def list_images(folder: Path, classes: tuple[str, ...]) -> Listing:
    """All images of the split. Raises ConfigError when a class has none."""
    files: list[str] = []
    labels: list[int] = []
    content = hashlib.sha256(str(folder.resolve()).encode())
    for label, name in enumerate(classes):
        found = sorted(_images(folder / name, name))
        if not found:
            raise ConfigError(
                f"the class folder {folder / name} has no images.",
                f"Add some ({', '.join(sorted(_SUFFIXES))}), or remove the folder from every split.",
            )
        for file, size, changed in found:
            content.update(f"{file}|{size}|{changed}\n".encode())
            files.append(file)
        labels += [label] * len(found)
    return Listing(folder, tuple(files), np.array(labels, np.int64), content.hexdigest()[:24])


def _images(folder: Path, prefix: str) -> Iterator[tuple[str, int, int]]:
    if not folder.is_dir():
        return
    for entry in os.scandir(folder):
        if os.path.splitext(entry.name)[1].lower() in _SUFFIXES and entry.is_file():
            status = entry.stat()
            yield f"{prefix}/{entry.name}", status.st_size, status.st_mtime_ns


def read_images(
    listing: Listing, *, size: int, channels: int, on_progress: Callable[[int, int], None] | None = None
) -> Split:
    """Decode the images, or map the array that an earlier call left in the cache.

    Images are scaled to the shorter side ``size`` and centre-cropped to (channels, size, size). The array is
    read-only and backed by the cache file. ``on_progress(done, total)`` is called while decoding. Raises ConfigError
    that names the file when an image cannot be read.
    """
    path = cache_dir("images") / f"{listing.digest}-{size}x{size}x{channels}.npy"
    shape = (len(listing.files), channels, size, size)
    images = _cached(path, shape)
    if images is None:
        with sealing(path) as temporary:
            _decode_all(listing, temporary, shape, on_progress)
        images = np.load(path, mmap_mode="r")
    return Split(images, listing.labels)


def _cached(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The cached array, or None when it is absent. One that is damaged is warned of and set aside."""
    if not path.is_file():
        return None
    try:
        check_sealed(path)
        images = np.load(path, mmap_mode="r")
        if images.shape == shape and images.dtype == np.uint8:
            return images
        reason: object = f"it holds {images.dtype} of shape {images.shape}, expected uint8 of {shape}"
    except (Damaged, OSError, ValueError) as error:
        reason = error
    set_aside(path, "the file of decoded images", reason, "They are decoded again.")
    return None


def _decode_all(
    listing: Listing, path: Path, shape: tuple[int, ...], on_progress: Callable[[int, int], None] | None
) -> None:
    total, channels, size = shape[:3]
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    # Written like any file rather than through a map: a full disk is then an error and not a killed process.
    with path.open("wb") as out, ThreadPoolExecutor() as pool:
        np.lib.format.write_array_header_1_0(out, header)
        for start in range(0, total, _CHUNK):
            files = listing.files[start : start + _CHUNK]
            for image in pool.map(lambda file: _decode(listing.root / file, size, channels), files):
                out.write(image.tobytes())
            if on_progress:
                on_progress(start + len(files), total)


def _decode(path: Path, size: int, channels: int) -> np.ndarray:
    mode = "RGB" if channels == 3 else "L"
    try:
        with Image.open(path) as opened:
            opened.draft(mode, (size, size))  # lets the JPEG decoder skip detail that scaling would throw away
            image = opened.convert(mode)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConfigError(
            f"the image {path} cannot be read: {error}.", "Replace or remove the file, then run again."
        ) from None
    pixels = np.asarray(_squared(image, size))
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _squared(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    if (width, height) == (size, size):
        return image
    scale = size / min(width, height)
    wide, high = max(size, round(width * scale)), max(size, round(height * scale))
    left, top = (wide - size) // 2, (high - size) // 2
    return image.resize((wide, high), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
