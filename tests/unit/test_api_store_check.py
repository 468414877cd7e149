"""``store check``: each promise of a store, broken by hand, is found; what is sound is not complained about."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from autoprune import api
from autoprune.errors import Conflict, NotFound, StoreError
from autoprune.files import file_digest, list_digests, with_digest
from autoprune.store import new_owner, open_store, packs
from autoprune.testing.store_contract import finished
from autoprune.types import Candidate, Trial, TrialState

CONFIG = {"objectives": ["top1 max", "macs min"], "constraints": ["params <= 50"]}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with packs, a copied trial and a trial of every state."""
    path = tmp_path_factory.mktemp("template") / "a.db"
    with pytest.MonkeyPatch.context() as patch, open_store(f"sqlite:///{path}") as store:
        patch.setattr(packs, "SIZE", 8)
        store.create_search(
            "one", config=CONFIG, digest="d", evaluation_digest="e", baseline={"macs": 90.0}, channels={"g": 40}
        )
        lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
        ends = [state for state in TrialState if state.finished]
        for number in range(20):
            trial = Trial(number, Candidate({"g": 1 + number % 19}), TrialState.RUNNING, started_at=1.0)
            trial = Trial(**{**trial.__dict__, "duplicate_of": "one/0"}) if number == 19 else trial
            store.start_trial(lease, trial)
            state = ends[number] if number < len(ends) else TrialState.COMPLETE
            metrics = {"top1": (number * 7 % 20) / 20, "macs": float(number * 3 % 11), "params": 5.0}
            store.finish_trial(lease, finished(trial, state, **metrics), {"n": number})
        store.release(lease)
    return path


@pytest.fixture
def file(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(packs, "SIZE", 8)
    return Path(shutil.copy(template, tmp_path))


def broken(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


def found(path: Path, status: str = "problem") -> dict[str, str]:
    """Check -> what it says, all its findings of this status together."""
    said: dict[str, str] = {}
    for item in api.check_store(f"sqlite:///{path}").items:
        if item.status == status:
            said[item.check] = f"{said.get(item.check, '')} {item.found}".strip()
    return said


def test_a_sound_store_has_no_problem_and_no_warning(file: Path) -> None:
    report = api.check_store(f"sqlite:///{file}")
    assert report.ok
    assert not report.warnings
    assert {item.check for item in report.items} >= {"integrity", "schema", "numbers", "packs", "front", "duplicates"}
    assert report.to_dict()["ok"] is True


TRIAL = "UPDATE trials SET {} WHERE number = {}"
CASES: list[tuple[str, str, str]] = [
    ("numbers", "UPDATE trials SET number = 30 WHERE number = 19", "numbers from 0 to 30"),
    ("metrics", "DELETE FROM metrics WHERE name = 'top1' AND number = 19", "1 of 16 complete trials lack top1"),
    (
        "metrics",
        "UPDATE metrics SET value = NULL WHERE name = 'top1' AND number = 18",
        "not finite in complete trial 18",
    ),
    ("metrics", "UPDATE metrics SET value = 9e999 WHERE name = 'macs' AND number = 17", "macs is not finite"),
    ("states", TRIAL.format("state = 'lost'", 19), "trial 19: in a state that is unknown"),
    ("states", TRIAL.format("finished_at = NULL", 19), "finished without a time"),
    ("states", "UPDATE searches SET state = 'lost'", "in state 'lost'"),
    ("digests", TRIAL.format("digest = 'f00'", 18), "not that of the widths"),
    ("content", TRIAL.format("widths = '{\"g\": 1'", 18), "no JSON object of integers"),
    ("content", TRIAL.format("note = '[1]'", 18), "note or timings"),
    ("content", "UPDATE searches SET channels = '{\"g\": 18}'", "not those of the search's groups"),
    ("content", "UPDATE searches SET controller_state = '{'", "its controller_state is no JSON object"),
    ("duplicates", TRIAL.format("duplicate_of = 'one/99'", 19), "copied from a trial of 'one' that is not there"),
    ("duplicates", TRIAL.format("duplicate_of = 'one/4'", 19), "has other widths"),
    ("duplicates", TRIAL.format("duplicate_of = 'one/'", 19), "not there"),
    ("packs", "UPDATE metrics SET value = 0.99 WHERE name = 'top1' AND number = 7", "trials from 0 on"),
    (
        "front",
        "UPDATE metrics SET value = 0.99 WHERE name = 'top1' AND number = 7",
        "others when it is made from the rows",
    ),
    ("orphans", "INSERT INTO metrics VALUES (1, 99, 'top1', 0.5, 0)", "1 rows of metrics"),
    ("orphans", "INSERT INTO metrics VALUES (7, 0, 'top1', 0.5, 0)", "1 rows of metrics"),
    ("leases", f"UPDATE searches SET owner = 'h:1:x', lease_until = {time.time() + 1e5}", "its lease ends in"),
    ("schema", "DROP TABLE packed_metrics", "table packed_metrics is missing"),
]


@pytest.mark.parametrize(("check", "statement", "said"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)])
def test_what_is_broken_is_found(file: Path, check: str, statement: str, said: str) -> None:
    broken(file, statement)
    if check == "schema":
        with pytest.raises(StoreError):
            api.check_store(f"sqlite:///{file}")
        return
    assert said in found(file)[check]


def test_trials_of_a_killed_driver_and_of_a_deleted_origin_are_worth_knowing(file: Path) -> None:
    broken(file, "UPDATE trials SET state = 'running', finished_at = NULL WHERE number > 17")
    broken(file, "UPDATE trials SET duplicate_of = 'gone/3' WHERE number = 5")
    said = found(file, "warning")
    assert said["running"].startswith("trials 18, 19 began")
    assert "'gone'" in said["duplicates"]
    assert not found(file)


def test_a_driven_search_may_have_running_trials(file: Path) -> None:
    with open_store(f"sqlite:///{file}") as store:
        lease = store.claim("one", owner=new_owner(), ttl_seconds=60)
        store.start_trial(lease, Trial(20, Candidate({"g": 3}), TrialState.RUNNING))
        assert not found(file, "warning")


def test_repair_mends_packs_and_orphans_and_nothing_else(file: Path) -> None:
    broken(file, "UPDATE metrics SET value = 0.99 WHERE name = 'top1' AND number = 7")
    broken(file, "INSERT INTO metrics VALUES (7, 0, 'top1', 0.5, 0)")
    broken(file, "UPDATE trials SET digest = 'f00' WHERE number = 18")
    report = api.check_store(f"sqlite:///{file}", repair=True)
    assert {item.check for item in report.problems} == {"digests"}
    assert [item.found for item in report.items if item.check == "repair"] == [
        "deleted 1 rows that belonged to nothing",
        "made 1 packs again from their rows",
    ]


def test_repair_leaves_a_search_that_is_driven(file: Path) -> None:
    broken(file, "UPDATE metrics SET value = 0.99 WHERE name = 'top1' AND number = 7")
    with open_store(f"sqlite:///{file}") as store:
        store.claim("one", owner=new_owner(), ttl_seconds=60)
        with pytest.raises(Conflict, match="Stop it before"):
            api.check_store(f"sqlite:///{file}", repair=True)


def exported(folder: Path, weights: bytes, name: str = "m.zip") -> None:
    folder.mkdir(exist_ok=True)
    said = {"weights": {"file": "model.safetensors", "sha256": sha256(b"weights").hexdigest()}}
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("model.json", json.dumps(said))
        archive.writestr("model.safetensors", weights)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: exported(folder, b"weightz"),
        lambda folder: (folder / "m.zip").write_bytes((folder / "m.zip").read_bytes()[:-30]),
        lambda folder: (folder / "m.zip").write_bytes((folder / "m.zip").read_bytes().replace(b"weights", b"weighty")),
    ],
)
def test_a_damaged_export_is_found(file: Path, change: Callable[[Path], object]) -> None:
    exported(file.parent / "exports", b"weights")
    assert not found(file)
    change(file.parent / "exports")
    assert found(file)["exports"].startswith("m.zip: ")


def test_exports_with_digests_of_their_own_are_held_to_them(file: Path) -> None:
    folder = file.parent / "exports"
    exported(folder, b"weights")
    described = with_digest({"search": "one", "trial": 3, "format": "onnx", "file": file_digest(folder / "m.zip")})
    (folder / "m.json").write_text(json.dumps(described))
    (folder / "kept").mkdir()
    (folder / "kept" / "model.json").write_text("{}")
    list_digests(folder / "kept")
    assert not found(file)
    (folder / "kept" / "model.json").write_text("{ }")
    (folder / "m.zip").write_bytes((folder / "m.zip").read_bytes() + b"0")
    said = found(file)["exports"]
    assert "m.zip: it is not what it was" in said
    assert "kept: " in said
    assert "SHA256SUMS" in said
    (folder / "m.json").write_text(json.dumps({**described, "trial": 4}))
    assert "what is said of it is damaged" in found(file)["exports"]


def test_what_cannot_be_opened_is_said(tmp_path: Path, file: Path) -> None:
    with pytest.raises(NotFound):
        api.check_store(f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(StoreError):
        api.check_store(f"sqlite:///{tmp_path}")
    broken(file, "UPDATE schema_version SET version = 99")
    with pytest.raises(StoreError, match="newer autoprune"):
        api.check_store(f"sqlite:///{file}")


def test_a_page_that_is_overwritten_is_found(file: Path) -> None:
    broken(file, "PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(file.read_bytes())
    place = content.rindex(b'{"g": 12}')
    content[place - 400 : place - 200] = b"\x00" * 200
    file.write_bytes(content)
    with pytest.raises((StoreError, AssertionError)) as refused:
        assert "integrity" not in found(file)
    assert not isinstance(refused.value, StoreError) or "damaged" in str(refused.value)
