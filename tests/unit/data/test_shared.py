"""Images that are not sent: each machine reads its folder once, and only the images that the driver has."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoprune.config.schema import DigitsData, ImageFolderData
from autoprune.data import sources
from autoprune.data.dataset import Split
from autoprune.data.shared import SharedSplit, sent_split
from autoprune.errors import ConfigError


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageFolderData:
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(folder / f"{number}.png")
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "driver"))
    monkeypatch.chdir(tmp_path)
    return ImageFolderData(kind="image_folder", root="images", image_size=8, channels=1)


def _sent(config: ImageFolderData) -> tuple[Split, SharedSplit]:
    split = sources.load(config, seed=3).train
    sent = sent_split(split, "train", config, 3, most_bytes=0)
    assert isinstance(sent, SharedSplit)
    return split, sent


def test_a_node_reads_the_same_images_into_a_cache_of_its_own(
    config: ImageFolderData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, sent = _sent(config)
    travelled = pickle.loads(pickle.dumps(sent))  # noqa: S301  our own
    assert len(pickle.dumps(sent)) < 1000
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "node"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = travelled.read()
    assert found.digest == split.digest
    (tmp_path / "images").rename(tmp_path / "gone")
    again = travelled.read()
    assert isinstance(again.images, np.memmap), "processes of a machine share one copy"
    assert again.digest == split.digest


def test_other_images_are_refused(config: ImageFolderData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, sent = _sent(config)
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "node"))
    (tmp_path / "images/train/cat/0.png").unlink()
    with pytest.raises(ConfigError, match="holds other images on this node"):
        sent.read()


def test_a_missing_folder_is_named(config: ImageFolderData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, sent = _sent(config)
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "node"))
    (tmp_path / "images").rename(tmp_path / "gone")
    with pytest.raises(ConfigError, match="there is no folder"):
        sent.read()


def test_a_damaged_cache_is_read_again(config: ImageFolderData) -> None:
    split, sent = _sent(config)
    sent.read()
    from autoprune.data.cache import cache_dir

    (file,) = cache_dir("splits").glob("*-images.npy")
    content = bytearray(file.read_bytes())
    content[-200] ^= 1
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="a split's images"):
        assert sent.read().digest == split.digest


def test_few_images_are_sent(config: ImageFolderData) -> None:
    split = sources.load(config, seed=3).train
    assert sent_split(split, "train", config, 3, most_bytes=split.images.nbytes) is split
    digits = sources.load(DigitsData()).train
    assert sent_split(digits, "train", DigitsData(), 0, most_bytes=0) is digits
