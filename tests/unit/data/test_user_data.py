"""A user's own data set: what a factory may return, and what is said of everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprune.config.loading import load_space
from autoprune.config.schema import FileData
from autoprune.data import sources
from autoprune.data.shapes import shape_and_classes
from autoprune.errors import ConfigError

HEAD = """
import numpy as np, torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset
rng = np.random.default_rng(0)
U8 = rng.integers(0, 256, (40, 3, 6, 6), dtype=np.uint8)
Y = np.arange(40) % 4
"""


def config(folder: Path, body: str) -> FileData:
    path = folder / "own.py"
    path.write_text(HEAD + body)
    return FileData(kind="file", path=str(path), factory="make", search_val=0.2)


def raw() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 3, 6, 6), dtype=np.uint8)


ACCEPTED = {
    "arrays": "def make(): return (U8, Y), (U8[:8], Y[:8])",
    "tensors": "def make(): return (torch.tensor(U8), torch.tensor(Y)), (torch.tensor(U8[:8]), torch.tensor(Y[:8]))",
    "floats": "def make(): return (U8 / 255, Y), ((U8[:8] / 255).astype('float32'), Y[:8])",
    "datasets": (
        "def make(): return TensorDataset(torch.tensor(U8) / 255, torch.tensor(Y)), "
        "TensorDataset(torch.tensor(U8[:8]) / 255, torch.tensor(Y[:8]))"
    ),
    "pil": (
        "class Own(Dataset):\n"
        "    def __init__(self, n): self.n = n\n"
        "    def __len__(self): return self.n\n"
        "    def __getitem__(self, i): return Image.fromarray(U8[i].transpose(1, 2, 0)), int(Y[i])\n"
        "def make(): return Own(40), Own(8)"
    ),
    "functions": "def make(): return {'train': lambda: (U8, Y), 'test': lambda: (U8[:8], Y[:8])}",
}


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED)
def test_every_accepted_form_gives_the_same_pixels(tmp_path: Path, body: str) -> None:
    own = config(tmp_path, body)
    assert shape_and_classes(own) == ((3, 6, 6), 4)
    data = sources.load(own)
    assert (len(data.train), len(data.search_val), data.name) == (32, 8, "own.py:make")  # 2 of 10 in each class
    together = np.concatenate([data.train.images, data.search_val.images])
    labels = np.concatenate([data.train.labels, data.search_val.labels])
    assert {(a.tobytes(), int(b)) for a, b in zip(together, labels, strict=True)} == {
        (image.tobytes(), number % 4) for number, image in enumerate(raw())
    }
    test = data.open_test()
    assert np.array_equal(test.images, raw()[:8])
    assert data.mean == pytest.approx([channel.mean() / 255 for channel in data.train.images.transpose(1, 0, 2, 3)])


def test_test_images_are_read_by_the_report_only_and_settings_are_taken_over(tmp_path: Path) -> None:
    body = (
        "def unread(): raise RuntimeError('opened')\n"
        "def make(): return {'train': (U8[:, 0], Y), 'test': unread, 'class_names': 'abcde', 'mean': 0.5, 'std': [0.1]}"
    )
    data = sources.load(config(tmp_path, body))
    assert data.image_shape == (1, 6, 6)
    assert (data.class_names, data.num_classes) == (("a", "b", "c", "d", "e"), 5)
    assert (data.mean, data.std) == ((0.5,), (0.1,))
    with pytest.raises(RuntimeError, match="opened"):
        data.open_test()


REFUSED: dict[str, tuple[str, str]] = {
    "one pair": ("return U8, Y", r"returned arrays, expected \(train, test\)"),
    "nothing": ("return None", r"returned NoneType, expected \(train, test\)"),
    "key": ("return {'train': (U8, Y), 'tset': (U8, Y)}", "'test' is missing, 'tset' is not known"),
    "channels last": ("return (U8.transpose(0, 2, 3, 1).repeat(4, 1), Y), (U8, Y)", r"expected \(N, C, H, W\)"),
    "normalised": ("return (U8 / 64.0 - 2, Y), (U8, Y)", r"from -2 to 1\.98, expected values in \[0, 1\]"),
    "integers": ("return (U8.astype('int64'), Y), (U8, Y)", "images of int64, expected uint8"),
    "lengths": ("return (U8, Y[:5]), (U8, Y)", "40 images and 5 labels"),
    "one-hot": ("return (U8, np.eye(4)[Y]), (U8, Y)", r"labels of shape \(40, 4\) and type float64"),
    "iterable": ("return iter([]), iter([])", "is a list_iterator, expected"),
    "sizes": (
        "return [(np.zeros((3, 4 + i, 4), 'uint8'), i) for i in range(3)], (U8, Y)",
        r"train\[1\]: an image of shape \(3, 5, 4\), the first has \(3, 4, 4\)",
    ),
    "no pairs": ("return [U8[i] for i in range(5)], (U8, Y)", r"train\[0\].*expected \(image, label\)"),
    "few names": ("return {'train': (U8, Y), 'test': (U8, Y), 'class_names': ['a']}", "class_names has 1 names"),
    "std": ("return {'train': (U8, Y), 'test': (U8, Y), 'std': [0.1, 0.2]}", "expected 3 numbers"),
    "raises": ("return 1 / 0", r"own\.py:\d+ fails in make\(\): ZeroDivisionError"),
}


@pytest.mark.parametrize(("body", "message"), REFUSED.values(), ids=REFUSED)
def test_everything_else_is_refused_in_words(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sources.load(config(tmp_path, f"def make():\n    {body}\n"))


def test_the_test_images_must_fit_the_training_images(tmp_path: Path) -> None:
    shape = sources.load(config(tmp_path, "def make(): return (U8, Y), (U8[:, :, :4], Y)"))
    with pytest.raises(ConfigError, match=r"test: images of shape \(3, 4, 6\), the training images have"):
        shape.open_test()
    label = sources.load(config(tmp_path, "def make(): return (U8, Y), (U8, Y + 1)"))
    with pytest.raises(ConfigError, match="label 4 is not among the 4 training classes"):
        label.open_test()


def test_the_factory_runs_once_and_again_when_the_file_changes(tmp_path: Path) -> None:
    import os

    body = "def make():\n    with open(__file__ + '.log', 'a') as log: log.write('x')\n    return (U8, Y), (U8, Y)"
    own = config(tmp_path, body)
    log = Path(own.path + ".log")
    for _ in range(3):
        shape_and_classes(own)
        sources.load(own)
    assert log.read_text() == "x"
    os.utime(own.path, ns=(1, 1))
    sources.load(own)
    assert log.read_text() == "xx"


def test_a_launch_file_names_it() -> None:
    content: dict[str, Any] = {
        "model": {"kind": "builtin", "name": "resnet8"},
        "data": {"kind": "file", "path": "own.py", "factory": "make", "args": {"size": 6}},
    }
    assert load_space(content).data == FileData(kind="file", path="own.py", factory="make", args={"size": 6})
    with pytest.raises(ConfigError, match=r"data\.path: there is no file 'own\.py'"):
        sources.load(FileData(kind="file", path="own.py", factory="make"))
    in_hand = load_space({**content, "data": {"kind": "function", "name": "miou"}})
    with pytest.raises(ConfigError, match="the function 'miou' on a module in hand"):
        sources.load(in_hand.data)
