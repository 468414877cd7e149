"""Papers' procedures beside a search: kept by content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoprune.errors import NotFound
from autoprune.store import Store, open_store
from autoprune.store.points import PresetPoint, read_points, save_point


def point(digest: str, top1: float = 0.5) -> PresetPoint:
    return PresetPoint(digest, "li2016", {"preset": "li2016"}, {"conv1": 8}, {"top1": top1, "macs": 10.0})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path}/points.db")
    for name in ("one", "two"):
        opened.create_search(name, config={}, digest=name, evaluation_digest="e", baseline={})
    yield opened
    opened.close()


def test_points_belong_to_a_search_and_are_kept_once(store: Store) -> None:
    assert read_points(store, "one") == []
    save_point(store, "one", point("a"))
    save_point(store, "one", point("b"))
    save_point(store, "one", point("a", top1=0.9))
    save_point(store, "two", point("a", top1=0.7))
    assert [(each.digest, each.metrics["top1"]) for each in read_points(store, "one")] == [("a", 0.5), ("b", 0.5)]
    assert read_points(store, "two") == [point("a", top1=0.7)]
    with pytest.raises(NotFound):
        save_point(store, "three", point("a"))
