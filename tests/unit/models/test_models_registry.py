from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import fx

from autoprune.config.schema import BuiltinModel, FileModel, TorchvisionModel
from autoprune.errors import ConfigError
from autoprune.models import registry


def build(name: str, classes: int = 10, channels: int = 3, **args: object) -> torch.nn.Module:
    return registry.build(BuiltinModel(name=name, args=args), num_classes=classes, in_channels=channels)


@pytest.mark.parametrize("name", registry.builtin_names())
def test_every_builtin_runs_and_is_traceable(name):
    grey = name.startswith("lenet")
    size = 28 if grey else 32
    model = build(name, classes=7, channels=1 if grey else 3).eval()
    images = torch.randn(2, 1 if grey else 3, size, size)
    logits = model(images)
    assert logits.shape == (2, 7)
    assert torch.equal(fx.symbolic_trace(model)(images), logits)


def test_resnet8_takes_grey_8x8_images():
    assert build("resnet8", channels=1)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_option_a_subsamples_and_pads_evenly():
    shortcut = build("resnet20", shortcut="A").get_submodule("layer2.0.downsample")
    images = torch.randn(2, 16, 8, 8)
    out = shortcut(images)
    assert out.shape == (2, 32, 4, 4)
    assert torch.equal(out[:, 8:24], images[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()
    assert not list(shortcut.parameters())


def test_small_images_keep_more_of_a_mobilenet():
    features = build("mobilenet_v1", small_images=True, width=0.25).features
    assert features(torch.zeros(1, 3, 32, 32)).shape[2:] == (4, 4)
    features = build("mobilenet_v2", small_images=True, width=0.25).features
    assert features(torch.zeros(1, 3, 32, 32)).shape[2:] == (4, 4)


@pytest.mark.parametrize(
    ("config", "channels", "parts"),
    [
        (BuiltinModel(name="resnet21"), 3, ["'resnet21'", "Did you mean", "'resnet20'"]),
        (BuiltinModel(name="resnet20", args={"shortcuts": "A"}), 3, ["'shortcuts'", "Did you mean 'shortcut'?"]),
        (BuiltinModel(name="resnet20", args={"shortcut": "C"}), 3, ["'C'", "'A' or 'B'"]),
        (BuiltinModel(name="resnet20", args={"num_classes": 5}), 3, ["num_classes comes from the data set"]),
        (BuiltinModel(name="mobilenet_v1", args={"width": "big"}), 3, ["width is 'big'"]),
        (BuiltinModel(name="lenet5", args={"image_size": 8}), 1, ["8x8", "16x16"]),
        (TorchvisionModel(name="resnet19"), 3, ["'resnet19'", "'resnet18'"]),
        (TorchvisionModel(name="resnet18"), 1, ["3 channels", "have 1"]),
        (TorchvisionModel(name="resnet18", args={"depth": 3}), 3, ["refuses its arguments (depth=3)"]),
        (TorchvisionModel(name="resnet18", args={"weights": "DEFAULT"}), 3, ["base.checkpoint"]),
    ],
)
def test_mistakes_are_explained(config, channels, parts):
    with pytest.raises(ConfigError) as caught:
        registry.build(config, num_classes=10, in_channels=channels)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "googlenet"])
def test_torchvision_gets_the_number_of_classes(name):
    model = registry.build(TorchvisionModel(name=name), num_classes=7, in_channels=3).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_the_registry_imports_without_torchvision():
    code = "import sys, autoprune.models.registry; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def file_model(tmp_path, text: str, factory: str = "make", **args: object) -> torch.nn.Module:
    path = tmp_path / "net.py"
    path.write_text(text)
    config = FileModel(kind="file", path=str(path), factory=factory, args=args)
    return registry.build(config, num_classes=5, in_channels=1)


def test_a_users_file_gets_what_its_factory_takes(tmp_path):
    (tmp_path / "neighbour_of_net.py").write_text("HIDDEN = 6\n")
    text = (
        "from torch import nn\nfrom neighbour_of_net import HIDDEN\n"
        "def make(num_classes, scale=1):\n    return nn.Sequential(nn.Linear(4, HIDDEN * scale), "
        "nn.Linear(HIDDEN * scale, num_classes))\n"
    )
    model = file_model(tmp_path, text, scale=2)
    assert model(torch.zeros(1, 4)).shape == (1, 5)
    assert model[0].out_features == 12
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("import nothing_of_this_name\n", ["net.py:1 cannot be imported: ModuleNotFoundError", "nothing_of_this_name"]),
        ("x = 1\ndef make(:\n", ["net.py:2", "SyntaxError"]),
        ("def maker():\n    pass\n", ["no function 'make'", "Did you mean 'maker'?"]),
        ("def make():\n    return 3\n", ["returned int", "nn.Module"]),
        ("def make():\n    y = 0\n    return 1 / y\n", ["net.py:3 fails in make(): ZeroDivisionError"]),
        ("def make(a):\n    return a\n", ["fails in make(): TypeError", "'a'"]),
    ],
)
def test_mistakes_in_a_users_file_are_explained(tmp_path, text, parts):
    with pytest.raises(ConfigError) as caught:
        file_model(tmp_path, text)
    for part in parts:
        assert part in str(caught.value)


def test_a_missing_file_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(ConfigError, match="there is no file"):
        registry.build(FileModel(kind="file", path=str(tmp_path / "no.py"), factory="f"), num_classes=2, in_channels=1)
