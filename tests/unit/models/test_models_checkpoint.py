from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from autoprune.errors import ConfigError
from autoprune.models.checkpoint import load_into, load_state, state_digest
from autoprune.models.resnet import CifarResNet


def net(classes: int = 10, width: int = 4) -> CifarResNet:
    return CifarResNet(8, classes, 1, "B", width)


@pytest.fixture
def trained() -> CifarResNet:
    torch.manual_seed(3)
    return net()


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "best": 0.5},
        lambda state: {"model": {f"module.{name}": tensor for name, tensor in state.items()}},
        lambda state: {"model_state": state, "optimizer": {"lr": 0.1}},
        lambda state: {"net": {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()}, "acc": 91.0},
        lambda state: {f"module._orig_mod.{name}": tensor for name, tensor in state.items()},
        lambda state: {"model": {"state_dict": state}},
    ],
)
def test_the_usual_wrappers_are_opened(tmp_path, trained, wrap):
    torch.save(wrap(trained.state_dict()), tmp_path / "c.pt")
    assert same(load_state(tmp_path / "c.pt"), trained.state_dict())
    model = net()
    load_into(model, tmp_path / "c.pt")
    assert same(model.state_dict(), trained.state_dict())


def test_safetensors_are_read(tmp_path, trained):
    save_file(trained.state_dict(), tmp_path / "c.safetensors")
    assert same(load_state(tmp_path / "c.safetensors"), trained.state_dict())


def test_old_files_without_batch_counters_load(tmp_path, trained):
    state = {name: tensor for name, tensor in trained.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "c.pt")
    load_into(net(), tmp_path / "c.pt")


class Evil:
    def __reduce__(self):
        return (open, ("/nonexistent/marker", "w"))


def write_corrupt(path, trained):
    torch.save(trained.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-2000])


def write_flipped(path, trained):
    save_file(trained.state_dict(), path)
    content = bytearray(path.read_bytes())
    content[20] ^= 0xFF
    path.write_bytes(content)


BAD_FILES = {
    "whole.pt": (lambda path, trained: torch.save(trained, path), "Python objects", "model.state_dict()"),
    "evil.pt": (lambda path, trained: torch.save({"state_dict": Evil()}, path), "Python objects", "model.state_dict()"),
    "cut.pt": (write_corrupt, "cannot be read", "download it again"),
    "text.pt": (lambda path, trained: path.write_text("hello\n" * 20), "checkpoint", "download it again"),
    "empty.pt": (lambda path, trained: path.write_bytes(b""), "cannot be read", "download it again"),
    "bytes.pt": (lambda path, trained: path.write_bytes(bytes(range(256)) * 9), "checkpoint", "download it again"),
    "flipped.safetensors": (write_flipped, "safetensors", "download it again"),
    "numbers.pt": (lambda path, trained: torch.save({"epoch": 3, "lr": 0.1}, path), "'epoch', 'lr'", "state_dict"),
    "list.pt": (lambda path, trained: torch.save([torch.ones(2)], path), "holds a list", "state_dict"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_are_not_checkpoints_are_refused(tmp_path, trained, name):
    write, message, hint = BAD_FILES[name]
    write(tmp_path / name, trained)
    with pytest.raises(ConfigError) as caught:
        load_state(tmp_path / name)
    assert str(tmp_path / name) in caught.value.message
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_state(tmp_path / "no.pt")
    with pytest.raises(ConfigError, match="is a folder"):
        load_state(tmp_path)


def test_weights_that_are_not_finite_are_named(tmp_path, trained):
    with torch.no_grad():
        trained.layer1[0].conv1.weight.view(-1)[3] = torch.nan
    torch.save(trained.state_dict(), tmp_path / "c.pt")
    with pytest.raises(ConfigError, match=r"1 of 144 values of 'layer1.0.conv1.weight' are not finite"):
        load_state(tmp_path / "c.pt")


def test_another_number_of_classes_is_recognised(tmp_path):
    torch.save(net(classes=100).state_dict(), tmp_path / "c.pt")
    with pytest.raises(ConfigError, match=r"has 100 classes, the data set 10 \(fc.weight: 100x16 instead of 10x16\)"):
        load_into(net(), tmp_path / "c.pt")


def test_other_shapes_are_named_with_both_sizes(tmp_path):
    torch.save(net(width=8).state_dict(), tmp_path / "c.pt")
    with pytest.raises(ConfigError, match=r"with another shape \(conv1.weight: 8x1x3x3 instead of 4x1x3x3, .* more\)"):
        load_into(net(), tmp_path / "c.pt")


def test_missing_and_unexpected_names_are_listed_and_nothing_is_loaded(tmp_path, trained):
    state = trained.state_dict()
    state["head.weight"] = state.pop("fc.weight")
    torch.save(state, tmp_path / "c.pt")
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ConfigError, match=r"1 missing \(fc.weight\); 1 unexpected \(head.weight\)"):
        load_into(model, tmp_path / "c.pt")
    assert same(model.state_dict(), before)


def test_the_digest_sees_names_shapes_dtypes_and_bytes():
    base = {"a": torch.arange(4.0), "b": torch.tensor(3)}
    others = [
        {"a": torch.arange(4.0), "c": torch.tensor(3)},
        {"a": torch.arange(4.0).view(2, 2), "b": torch.tensor(3)},
        {"a": torch.arange(4.0).double(), "b": torch.tensor(3)},
        {"a": torch.tensor([0.0, 1.0, 2.0, 3.0000002]), "b": torch.tensor(3)},
        {"a": torch.arange(4.0).bfloat16(), "b": torch.tensor(3)},
    ]
    digests = {state_digest(state) for state in (base, *others)}
    assert len(digests) == len(others) + 1
    channels_last = torch.randn(2, 3, 4, 4)
    assert state_digest({"a": channels_last}) == state_digest(
        {"a": channels_last.contiguous(memory_format=torch.channels_last)}
    )
