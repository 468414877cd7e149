"""``store export`` and ``import``: exact there and back, over both databases; a file that is not whole is refused."""

from __future__ import annotations

import gzip
import json
import math
import random
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from autoprune import api
from autoprune.api.maintenance import vacuum_store
from autoprune.api.maintenance_lines import LONGEST
from autoprune.api.maintenance_transfer import export_searches, import_searches
from autoprune.config.loading import load_search
from autoprune.errors import AutopruneError, ConfigError, Conflict, NotFound, StoreError
from autoprune.store import Retraining, new_owner, open_store, packs
from autoprune.store.points import PresetPoint, save_point
from autoprune.testing.store_contract import finished
from autoprune.types import Candidate, SearchState, Trial, TrialState

CONFIG = {"name": "one", "space": {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}}}
ODD = {"top1": 0.1 + 0.2, "macs": 12.0, "loss": math.nan, "up": math.inf, "down": -math.inf}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two searches with all that a store can hold: odd numbers and texts, packs, a running trial, a copy."""
    path = tmp_path_factory.mktemp("template") / "a.db"
    with pytest.MonkeyPatch.context() as patch, open_store(f"sqlite:///{path}") as store:
        patch.setattr(packs, "SIZE", 8)
        config = load_search(CONFIG)
        for name, stored in (("one", config.model_dump(mode="json")), ("two", {"name": "two", "seed": 1})):
            digest = config.digest() if name == "one" else "d"
            baseline = {"macs": 90.0, "loss": math.nan, "top1": 1.0}
            store.create_search(name, config=stored, digest=digest, evaluation_digest="e", baseline=baseline)
            lease = store.claim(name, owner=new_owner(), ttl_seconds=60)
            for number in range(20):
                trial = Trial(number, Candidate({"b": 1 + number, "a": 2}), TrialState.RUNNING, note={"n": math.inf})
                store.start_trial(lease, trial)
                if number == 19:
                    continue
                done = finished(trial, list(TrialState)[1 + number % 5], **ODD)
                done = Trial(**{**done.__dict__, "reason": "Zeile\nzwei: ü 'x'; --", "duplicate_of": "one/3"})
                store.finish_trial(lease, done, {"seen": number, "rate": math.nan})
            store.set_search_state(name, SearchState.COMPLETE, lease=lease)
            store.release(lease)
            store.add_metrics(name, 5, {"test_top1": 0.5})
            store.save_audit(name, "scratch", {"tau": 0.25})
            save_point(store, name, PresetPoint("p" + name, "li2016", {"b": 1}, {"a": 2}, {"top1": 0.5}))
        store.save_retraining("one", Retraining("abc", {"arm": "scratch", "lr": 0.1}, {"top1": math.nan}, "w"))
    return path


@pytest.fixture
def url(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(packs, "SIZE", 8)
    return f"sqlite:///{shutil.copy(template, tmp_path)}"


def exported(url: str, path: Path, *names: str, **options: Any) -> bytes:
    export_searches(path, names, store=url, overwrite=True, **options)
    return path.read_bytes()


def test_there_and_back_is_exact(url: str, tmp_path: Path) -> None:
    first = exported(url, tmp_path / "a.jsonl")
    done = import_searches(tmp_path / "a.jsonl", store=f"sqlite:///{tmp_path}/b.db")
    assert done.counts == {"search": 2, "trial": 40, "retraining": 1, "audit": 2, "point": 2}
    assert exported(f"sqlite:///{tmp_path}/b.db", tmp_path / "b.jsonl") == first
    with open_store(url) as before, open_store(f"sqlite:///{tmp_path}/b.db") as after:
        assert repr(after.search("one")) == repr(before.search("one"))
        assert repr(after.trials("one")) == repr(before.trials("one"))
        assert after.pack_starts("one") == before.pack_starts("one") == [0, 8]
        assert after.check_packs("one") == []
        assert repr(after.retrainings(["abc"])) == repr(before.retrainings(["abc"]))
        assert repr(after.controller_state("one")) == repr(before.controller_state("one"))
        after.claim("one", owner=new_owner(), ttl_seconds=60)


def test_a_move_to_postgres_and_back_is_exact(url: str, postgres_url: str, tmp_path: Path) -> None:
    first = exported(url, tmp_path / "a.jsonl")
    import_searches(tmp_path / "a.jsonl", store=postgres_url)
    assert exported(postgres_url, tmp_path / "b.jsonl") == first
    assert api.check_store(postgres_url).to_dict()["checks"] == api.check_store(url).to_dict()["checks"]
    before, after = vacuum_store(postgres_url)
    assert min(before, after) > 0
    import_searches(tmp_path / "b.jsonl", store=f"sqlite:///{tmp_path}/c.db")
    assert exported(f"sqlite:///{tmp_path}/c.db", tmp_path / "c.jsonl") == first


def test_compressed_files_are_equal_too(url: str, tmp_path: Path) -> None:
    first = exported(url, tmp_path / "a.jsonl.gz")
    assert first == exported(url, tmp_path / "a.jsonl.gz")
    assert gzip.decompress(first) == exported(url, tmp_path / "a.jsonl")
    import_searches(tmp_path / "a.jsonl.gz", store=f"sqlite:///{tmp_path}/b.db")
    assert exported(f"sqlite:///{tmp_path}/b.db", tmp_path / "b.jsonl.gz") == first
    (tmp_path / "cut.gz").write_bytes(first[:-20])
    with pytest.raises(ConfigError, match="cannot be read"):
        import_searches(tmp_path / "cut.gz", store=f"sqlite:///{tmp_path}/c.db")


def test_one_search_takes_along_what_is_its_own(url: str, tmp_path: Path) -> None:
    export_searches(tmp_path / "two.jsonl", ["two"], store=url)
    done = import_searches(tmp_path / "two.jsonl", store=f"sqlite:///{tmp_path}/b.db")
    assert done.counts == {"search": 1, "trial": 20, "audit": 1, "point": 1}
    with pytest.raises(NotFound, match="no search named 'tow'"):
        export_searches(tmp_path / "none.jsonl", ["tow"], store=url)
    assert not (tmp_path / "none.jsonl").exists()


def test_a_name_that_is_taken_is_refused_skipped_or_changed(url: str, tmp_path: Path) -> None:
    exported(url, tmp_path / "a.jsonl")
    before = exported(url, tmp_path / "before.jsonl")
    with pytest.raises(Conflict, match="has a search 'one' already"):
        import_searches(tmp_path / "a.jsonl", store=url)
    assert import_searches(tmp_path / "a.jsonl", store=url, skip_existing=True).skipped == ("one", "two")
    assert exported(url, tmp_path / "after.jsonl") == before

    done = import_searches(tmp_path / "a.jsonl", store=url, skip_existing=True, rename={"one": "three"})
    assert (done.skipped, done.counts["trial"]) == (("two",), 20)
    with open_store(url) as store:
        found = store.search("three")
        assert found.config["name"] == "three"
        assert found.digest == load_search(found.config).digest() != store.search("one").digest
        assert {trial.duplicate_of for trial in store.trials("three")} == {"three/3", ""}
        assert store.audits("three") == [{"tau": 0.25}]


def test_renaming_says_what_it_cannot_do(url: str, tmp_path: Path) -> None:
    exported(url, tmp_path / "a.jsonl")
    empty = f"sqlite:///{tmp_path}/b.db"
    for rename, said in (
        ({"won": "x"}, "no search 'won'"),
        ({"two": "x"}, "'two' cannot be renamed"),
        ({"one": "a/b"}, "cannot be renamed"),
    ):
        with pytest.raises(ConfigError, match=said):
            import_searches(tmp_path / "a.jsonl", store=empty, rename=rename)
        assert api.searches(empty) == []


# --- files that are not whole ----------------------------------------------------------------------------------------


def test_every_cut_and_every_changed_byte_is_refused(url: str, tmp_path: Path) -> None:
    whole = exported(url, tmp_path / "a.jsonl")
    lines = whole.splitlines(keepends=True)
    broken = [b"".join(lines[:count]) for count in range(len(lines))]
    broken += [whole[:-1], whole + b"\n", whole + lines[-1], b"".join([*lines[:3], *lines[4:]])]
    rng = random.Random(0)
    for _ in range(200):
        place = rng.randrange(len(whole))
        broken.append(whole[:place] + bytes([whole[place] ^ rng.randrange(1, 256)]) + whole[place + 1 :])
    target = f"sqlite:///{tmp_path}/b.db"
    import_searches(tmp_path / "a.jsonl", store=target, rename={"one": "first"}, skip_existing=True)
    before = exported(target, tmp_path / "before.jsonl")
    path = tmp_path / "broken.jsonl"
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(AutopruneError) as refused:
            import_searches(path, store=target, skip_existing=True)
        assert isinstance(refused.value, ConfigError)
        assert refused.value.hint
    assert exported(target, tmp_path / "after.jsonl") == before


def forged(path: Path, change: Callable[[list[Any]], None]) -> Path:
    """A file with another content and the right sums: what somebody means to smuggle in."""
    records = [json.loads(line) for line in path.read_bytes().splitlines()[:-1]]
    change(records)
    body = b"".join(json.dumps(each, separators=(",", ":")).encode() + b"\n" for each in records)
    kinds = [next(iter(each)) for each in records[1:] if isinstance(each, dict)]
    end = {"end": {kind: kinds.count(kind) for kind in sorted(set(kinds))}, "sha256": sha256(body).hexdigest()}
    target = path.with_name("forged.jsonl")
    target.write_bytes(body + json.dumps(end, separators=(",", ":")).encode() + b"\n")
    return target


def put(record: int, field: str, value: object) -> Callable[[list[Any]], None]:
    def change(records: list[Any]) -> None:
        next(iter(records[record].values()))[field] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put(1, "name", "../../etc/passwd"), "expected a search's name"),
        (put(1, "state", "lost"), "expected one of running"),
        (put(1, "config", {"space": "/etc/passwd"}), "names a file"),
        (put(1, "created_at", "now"), "line 2: search: created_at is 'now', expected a finite number"),
        (put(2, "number", -1), "line 3: trial: number is -1, expected an integer from 0"),
        (put(2, "number", True), "number is True"),
        (put(3, "number", 0), "trial 0 follows trial 0"),
        (put(2, "widths", {"a": 1.5}), "expected a JSON object of integers"),
        (put(2, "metrics", {"top1": "0.5"}), "numbers, with null for NaN"),
        (put(2, "metrics", {"top1": {"$float": "NaN"}}), "numbers, with null for NaN"),
        (put(2, "metrics", {"top1": math.nan}), "NaN is no JSON"),
        (put(2, "started_at", {"$float": "Infinity"}), "expected a finite number"),
        (put(2, "worker", "w" * 201), "expected a text"),
        (put(2, "reason", "\ud800"), "expected a text"),
        (put(2, "surplus", 1), "'surplus' is missing or unknown"),
        (lambda records: records.insert(5, {"driver": {}}), "got 'driver'"),
        (lambda records: records.insert(5, [1]), "expected an object with one key"),
        (lambda records: records.pop(1), "follows no search|count differently"),
        (lambda records: records.insert(22, records[1]), "is there twice|count differently"),
        (lambda records: records[0].update(version=2), "reads version 1"),
        (lambda records: records[0].update(format="other"), "no export of searches"),
        (lambda records: records[0].update(trials="40"), "does not count"),
    ],
)
def test_a_forged_file_is_refused_and_leaves_nothing(
    url: str, tmp_path: Path, change: Callable[[list[Any]], None], said: str
) -> None:
    exported(url, tmp_path / "a.jsonl")
    path = forged(tmp_path / "a.jsonl", change)
    with pytest.raises(ConfigError, match=said):
        import_searches(path, store=f"sqlite:///{tmp_path}/b.db")
    if (tmp_path / "b.db").exists():
        assert api.searches(f"sqlite:///{tmp_path}/b.db") == []


def test_what_is_no_file_of_ours_is_said(url: str, tmp_path: Path) -> None:
    (tmp_path / "long.jsonl").write_bytes(b"x" * (LONGEST + 2))
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "deep.jsonl").write_bytes(b"[" * 100_000)
    for name in ("long.jsonl", "empty.jsonl", "deep.jsonl", "a.db", "."):
        with pytest.raises(ConfigError):
            import_searches(tmp_path / name, store=url)
    with pytest.raises(NotFound, match="no file"):
        import_searches(tmp_path / "none.jsonl", store=url)


def test_a_file_is_not_replaced_and_a_failed_export_leaves_none(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(url, tmp_path / "a.jsonl")
    with pytest.raises(Conflict, match="exists"):
        export_searches(tmp_path / "a.jsonl", store=url)
    with pytest.raises(ConfigError, match="is a folder"):
        export_searches(tmp_path, store=url)

    with pytest.raises(StoreError, match="cannot be made"):
        export_searches(tmp_path / "a.jsonl" / "b.jsonl", store=url)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("autoprune.api.maintenance_lines._foot", full)
    with pytest.raises(StoreError, match="No space left"):
        export_searches(tmp_path / "b.jsonl", store=url)
    assert sorted(path.name for path in tmp_path.glob("*.jsonl*")) == ["a.jsonl"]
    assert not list(tmp_path.glob(".*"))
