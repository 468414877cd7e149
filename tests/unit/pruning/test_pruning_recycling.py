"""Memory is used again, and never while anything still looks at it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from autoprune.pruning import slicing
from autoprune.pruning.recycling import RecycledMemory
from autoprune.pruning.slicing import Slicer
from autoprune.types import ChannelGroup, Slice


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.complex64])
def test_a_dead_tensor_makes_room_and_a_live_one_does_not(dtype: torch.dtype) -> None:
    memory = RecycledMemory()
    first = memory.empty("a", (3, 5), dtype)
    assert (first.shape, first.dtype, first.is_contiguous()) == ((3, 5), dtype, True)
    assert first.untyped_storage().nbytes() == 15 * dtype.itemsize
    assert first.data_ptr() % 64 == 0
    where = first.data_ptr()
    other = memory.empty("a", (3, 5), dtype)
    assert other.data_ptr() != where
    where = other.data_ptr()
    del other
    assert memory.empty("a", (2, 2), dtype).data_ptr() == where
    assert memory.empty("b", (2, 2), dtype).data_ptr() != where


@pytest.mark.parametrize(
    "look",
    [
        lambda tensor: tensor[1:],
        lambda tensor: tensor.numpy(),
        lambda tensor: nn.Parameter(tensor),
        lambda tensor: tensor.untyped_storage(),
        lambda tensor: tensor.detach(),
    ],
    ids=["view", "array", "parameter", "storage", "detached"],
)
def test_whatever_looks_at_the_memory_keeps_it(look: object) -> None:
    memory = RecycledMemory()
    tensor = memory.empty("a", (64,), torch.float32)
    where, kept = tensor.data_ptr(), look(tensor)  # type: ignore[operator]
    del tensor
    assert memory.empty("a", (64,), torch.float32).data_ptr() != where
    del kept


def _network() -> tuple[nn.Sequential, tuple[ChannelGroup, ...]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Conv2d(64, 8, 1))
    alone = np.arange(64)[:, None]
    groups = tuple(
        ChannelGroup(
            name,
            64,
            (Slice(f"{name}.weight", 0, alone), Slice(f"{name}.bias", 0, alone), Slice(f"{after}.weight", 1, alone)),
        )
        for name, after in (("0", "2"), ("2", "4"))
    )
    return model, groups


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_slices_that_live_at_once_do_not_disturb_each_other(
    layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slicing, "_RECYCLED_BYTES", 0)
    model, groups = _network()
    slicer = Slicer(model.to(memory_format=layout), groups)  # type: ignore[call-overload]
    rng = np.random.default_rng(0)
    live: list[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]] = []
    for _ in range(40):
        keep = {group.name: np.sort(rng.choice(64, rng.integers(1, 65), replace=False)) for group in groups}
        weight = model[2].weight.detach()[keep["2"]][:, keep["0"]]
        state = slicer(keep).state_dict()  # the module is gone, its tensors are not
        assert torch.equal(state["2.weight"], weight)
        assert state["2.weight"].is_contiguous(memory_format=layout)
        live.append((state, {name: tensor.clone() for name, tensor in state.items()}))
        if rng.random() < 0.5:
            live.pop(int(rng.integers(len(live))))
        assert all(torch.equal(one[name], other[name]) for one, other in live for name in other)


def test_a_sequence_of_slices_stays_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slicing, "_RECYCLED_BYTES", 0)
    model, groups = _network()
    slicer = Slicer(model, groups)
    keep = {group.name: np.arange(32) for group in groups}
    places = {slicer(keep)[2].weight.data_ptr() for _ in range(5)}
    assert len(places) == 1


def test_threads_get_memory_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slicing, "_RECYCLED_BYTES", 0)
    model, groups = _network()
    slicer = Slicer(model, groups)

    def check(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        keep = {group.name: np.sort(rng.choice(64, 40, replace=False)) for group in groups}
        sliced = slicer(keep)
        return torch.equal(sliced[2].weight, model[2].weight[keep["2"]][:, keep["0"]])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(check, range(200)))
