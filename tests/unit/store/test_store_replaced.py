"""A store's file that is removed, moved, replaced or robbed of its log while a driver has it open."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from autoprune.errors import StoreError
from autoprune.store import Store, new_owner, open_store
from autoprune.types import Candidate, Trial, TrialState


def replaced(path: Path) -> None:
    other = path.with_name("other.db")
    with open_store(f"sqlite:///{other}") as store:
        begin(store, "another")
    other.replace(path)


FAULTS: dict[str, Callable[[Path], None]] = {
    "removed": Path.unlink,
    "moved": lambda path: path.rename(path.with_name("b.db")) and None,
    "replaced": replaced,
    "log removed": lambda path: Path(f"{path}-wal").unlink(),
    "folder removed": lambda path: shutil.rmtree(path.parent),
}


def begin(store: Store, name: str) -> Callable[[int], None]:
    """Makes a search; what is returned starts a trial of it."""
    store.create_search(name, config={}, digest="d", evaluation_digest="e", baseline={})
    lease = store.claim(name, owner=new_owner(), ttl_seconds=60.0)
    return lambda number: store.start_trial(lease, Trial(number, Candidate({"a": number + 1}), TrialState.RUNNING))


@pytest.mark.parametrize("fault", list(FAULTS))
def test_nothing_committed_is_lost(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = tmp_path / "in" / "a.db"
    with open_store(f"sqlite:///{path}") as store:
        start = begin(store, "s")
        for number in range(5):
            start(number)
        FAULTS[fault](path)
        for _ in range(2):
            with pytest.raises(
                StoreError, match=r"was removed or replaced while it was open. All that it held is saved"
            ):
                start(5)
    (saved,) = tmp_path.rglob("a.db.rescued-*")
    if fault in ("removed", "moved"):
        assert not Path(f"{path}-wal").exists(), "it would be played into the file that is put back"
    kept = path.with_name("kept.db")
    kept.parent.mkdir(exist_ok=True)
    saved.rename(kept)
    with open_store(f"sqlite:///{kept}") as store:
        assert [trial.number for trial in store.trials("s")] == list(range(5))


def test_what_cannot_be_saved_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    path = tmp_path / "in" / "a.db"
    with open_store(f"sqlite:///{path}") as store:
        start = begin(store, "s")
        shutil.rmtree(path.parent)
        with pytest.raises(StoreError, match="could not be saved"):
            start(0)
