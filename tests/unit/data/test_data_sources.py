from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoprune.config.schema import DigitsData, ImageFolderData, TorchvisionData
from autoprune.data import folder, sources, torchvision_sets
from autoprune.data.cache import cache_dir
from autoprune.data.dataset import Split
from autoprune.errors import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def colour(label: int, index: int, test: bool) -> tuple[int, int, int]:
    return (40 * label + 5, 3 * index + 1, 200 if test else 100)


def write_images(root: Path, *, per_class: int = 10, classes: tuple[str, ...] = ("cat", "dog"), size=(8, 8)) -> Path:
    for split in ("train", "test"):
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for index in range(per_class):
                image = Image.new("RGB", size, colour(label, index, split == "test"))
                image.save(root / split / name / f"{index:03}.png")
    return root


def config(root: Path, **more: object) -> ImageFolderData:
    return ImageFolderData(**{"kind": "image_folder", "root": str(root), "image_size": 8, "search_val": 0.2, **more})


def rows(split: Split) -> set[bytes]:
    return {image.tobytes() for image in split.images}


def test_digits_splits_do_not_overlap_and_cover_the_set():
    data = sources.load(DigitsData(), seed=3)
    test = data.open_test()
    assert len(data.train) + len(data.search_val) + len(test) == 1797
    assert data.train.images.dtype == np.uint8
    assert data.train.labels.dtype == np.int64
    assert data.train.images.max() == 255
    # All digits differ in some pixel, so an image in two splits would show.
    together = [rows(data.train), rows(data.search_val), rows(test)]
    assert len(set.union(*together)) == sum(len(part) for part in together) == 1797


def test_the_seed_moves_search_val_but_never_test():
    one, other = sources.load(DigitsData(), seed=0), sources.load(DigitsData(), seed=1)
    assert one.search_val.digest != other.search_val.digest
    assert one.open_test().digest == other.open_test().digest
    assert sources.load(DigitsData(), seed=1).search_val.digest == other.search_val.digest


def test_mean_and_std_are_those_of_the_train_split():
    data = sources.load(DigitsData())
    pixels = data.train.images / 255.0
    assert data.mean == pytest.approx([pixels.mean()], rel=1e-12)
    assert data.std == pytest.approx([pixels.std()], rel=1e-12)


def test_a_constant_channel_does_not_divide_by_zero(tmp_path):
    data = sources.load(config(write_images(tmp_path / "d")))
    assert data.mean[2] == pytest.approx(100 / 255)
    assert data.std[2] > 0


def test_folder_pixels_labels_and_names(tmp_path):
    data = sources.load(config(write_images(tmp_path / "d")))
    assert data.class_names == ("cat", "dog")
    assert data.image_shape == (3, 8, 8)
    assert (len(data.train), len(data.search_val), data.num_classes) == (16, 4, 2)
    for split, test in ((data.train, False), (data.search_val, False), (data.open_test(), True)):
        for image, label in zip(split.images, split.labels, strict=True):
            assert tuple(image[:, 0, 0]) == colour(int(label), (int(image[1, 0, 0]) - 1) // 3, test)
    assert not rows(data.train) & rows(data.search_val)


def test_test_images_are_not_touched_before_they_are_asked_for(tmp_path):
    root = write_images(tmp_path / "d")
    broken = root / "test" / "dog" / "003.png"
    broken.write_bytes(b"not an image")
    data = sources.load(config(root))
    with pytest.raises(ConfigError, match=r"the image .*test/dog/003.png cannot be read"):
        data.open_test()


def test_a_corrupt_training_image_is_named_and_leaves_no_cache(tmp_path, home):
    root = write_images(tmp_path / "d")
    whole = (root / "train" / "cat" / "004.png").read_bytes()
    (root / "train" / "cat" / "004.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"train/cat/004.png") as caught:
        sources.load(config(root))
    assert "Replace or remove" in caught.value.hint
    assert list((home / "images").iterdir()) == []


def test_images_are_decoded_once_until_a_file_changes(tmp_path, monkeypatch):
    root = write_images(tmp_path / "d")
    decoded = []
    original = folder._decode
    monkeypatch.setattr(folder, "_decode", lambda path, *rest: (decoded.append(path), original(path, *rest))[1])
    progress: list[tuple[int, int]] = []
    first = sources.load(config(root), on_progress=lambda done, total: progress.append((done, total)))
    assert (len(decoded), progress[-1]) == (20, (20, 20))
    again = sources.load(config(root))
    assert len(decoded) == 20
    assert again.train.digest == first.train.digest
    file = root / "train" / "dog" / "000.png"
    Image.new("RGB", (8, 8), (9, 9, 9)).save(file)
    os.utime(file, ns=(1, 1))
    sources.load(config(root))
    assert len(decoded) == 40


def test_a_damaged_cache_is_decoded_again(tmp_path, home):
    root = write_images(tmp_path / "d")
    first = sources.load(config(root)).train.digest
    (cached,) = (home / "images").iterdir()
    whole = cached.read_bytes()
    for content in (whole[:300], whole[:500] + bytes([whole[500] ^ 4]) + whole[501:]):
        cached.write_bytes(content)
        with pytest.warns(UserWarning, match=r"decoded images .* is damaged: .*SHA-256"):
            assert sources.load(config(root)).train.digest == first
        assert cached.read_bytes() == whole
    assert sorted(path.name for path in cached.parent.iterdir()) == [cached.name, f"{cached.name}.corrupt"]


def test_images_are_scaled_to_the_shorter_side_and_cropped_in_the_middle(tmp_path):
    root = write_images(tmp_path / "d", per_class=2)
    wide = Image.new("RGB", (48, 16), (0, 0, 0))
    wide.paste((255, 0, 0), (16, 0, 32, 16))
    wide.save(root / "train" / "cat" / "000.png")
    split = sources.load(config(root, search_val=0.5))
    images = np.concatenate([split.train.images, split.search_val.images])
    assert np.array([255, 0, 0]).reshape(3, 1, 1).astype(np.uint8).tolist() in [
        image[:, 3:4, 3:4].tolist() for image in images
    ]


def test_grey_folders_have_one_channel(tmp_path):
    assert sources.load(config(write_images(tmp_path / "d"), channels=1)).image_shape == (1, 8, 8)


def test_a_named_set_reads_a_folder_of_its_images(tmp_path):
    names = tuple(f"class{index}" for index in range(10))
    root = write_images(tmp_path / "d", per_class=2, classes=names)
    data = sources.load(TorchvisionData(kind="cifar10", root=str(root), search_val=0.5))
    assert data.image_shape == (3, 32, 32)
    with pytest.raises(ConfigError, match="has 10 class folders, cifar100 has 100"):
        sources.load(TorchvisionData(kind="cifar100", root=str(root)))


def remove_test(root: Path) -> None:
    (root / "test").rename(root / "hidden")


def empty_class(root: Path) -> None:
    for file in (root / "train" / "dog").iterdir():
        file.unlink()


def extra_class(root: Path) -> None:
    (root / "test" / "mouse").mkdir()


def one_image(root: Path) -> None:
    for file in sorted((root / "train" / "dog").iterdir())[1:]:
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_test, "has no folder 'test' or 'val'"),
        (empty_class, "train/dog has no images"),
        (extra_class, "different class folders: mouse"),
        (one_image, "class 1 has 1 image"),
    ],
)
def test_wrong_folders_are_explained(tmp_path, spoil, message):
    root = write_images(tmp_path / "d")
    spoil(root)
    with pytest.raises(ConfigError) as caught:
        sources.load(config(root))
    assert message in caught.value.message
    assert caught.value.hint


def test_a_missing_folder_says_what_is_expected(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no folder .*nowhere.*train/<class>/"):
        sources.load(config(tmp_path / "nowhere"))


@pytest.mark.parametrize(("kind", "file"), [("cifar10", "cifar-10-python.tar.gz"), ("mnist", "MNIST/raw")])
def test_without_files_and_without_download_it_says_what_to_put_where(tmp_path, kind, file):
    with pytest.raises(ConfigError) as caught:
        sources.load(TorchvisionData(kind=kind, root=str(tmp_path), download=False))
    assert str(tmp_path) in caught.value.hint
    assert file in caught.value.hint
    assert "data.download: true" in caught.value.hint


def test_a_download_that_fails_says_what_to_put_where(tmp_path, monkeypatch):
    from autoprune.models.torchvision_shim import torchvision

    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", offline)
    with pytest.raises(ConfigError, match=r"Name or service not known.*Without a network: put cifar-10-python"):
        sources.load(TorchvisionData(kind="cifar10", root=str(tmp_path)))


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny CIFAR-10 in the original's own files."""
    from autoprune.models.torchvision_shim import torchvision

    base = root / "cifar-10-batches-py"
    base.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
        content = {"data": random.integers(0, 256, (20, 3072), np.uint8), "labels": list(range(10)) * 2}
        (base / name).write_bytes(pickle.dumps(content))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class{index}" for index in range(10)]}))
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *args: True)


def test_the_original_files_are_read_as_channels_first(tmp_path, monkeypatch):
    write_cifar(tmp_path, monkeypatch)
    settings = TorchvisionData(kind="cifar10", root=str(tmp_path), download=False)
    data = sources.load(settings)
    assert (len(data.train), len(data.search_val), len(data.open_test())) == (90, 10, 20)
    raw = pickle.loads((tmp_path / "cifar-10-batches-py" / "test_batch").read_bytes())  # noqa: S301
    assert np.array_equal(data.open_test().images.reshape(20, -1), raw["data"])
    assert data.class_names[3] == "class3"
    full, _ = torchvision_sets.read_named(settings, train=True)
    assert rows(data.train) | rows(data.search_val) == rows(full)


def test_a_dataset_survives_pickling(tmp_path):
    data = sources.load(config(write_images(tmp_path / "d")))
    again = pickle.loads(pickle.dumps(data))  # noqa: S301
    assert again.train.digest == data.train.digest
    assert again.open_test().digest == data.open_test().digest


def test_a_cache_folder_that_cannot_be_made_is_explained(tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("AUTOPRUNE_HOME", str(tmp_path / "taken"))
    with pytest.raises(ConfigError, match=r"cannot be created.*AUTOPRUNE_HOME"):
        cache_dir("base")
