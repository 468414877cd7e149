"""Tables as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from latency_fixtures import make_space, make_table

from autoprune.errors import ConfigError, NotFound
from autoprune.latency.attach import attached, kept_table
from autoprune.latency.files import load_table, save_table
from autoprune.latency.settings import LatencySettings


def test_round_trip_predicts_the_same(tmp_path: Path) -> None:
    table = make_table()
    loaded = load_table(save_table(table, tmp_path / "new" / "toy.json"))
    assert loaded.digest == table.digest
    assert (loaded.device, loaded.settings, loaded.made) == (table.device, table.settings, table.made)
    assert loaded.groups == dict(table.groups)
    assert loaded.staircases == table.staircases
    assert loaded.median_error == table.median_error
    widths = np.array([[16, 32, 64], [4, 8, 16], [12, 20, 40]])
    one, other = (attached(make_space(), item).cost.metrics(widths)["latency_ms"] for item in (table, loaded))
    assert np.array_equal(one, other)


def test_a_person_can_read_it(tmp_path: Path) -> None:
    content = json.loads(save_table(make_table(), tmp_path / "toy.json").read_text())
    assert (content["format"], content["version"]) == ("autoprune latency table", 2)
    assert content["device"] == "an imagined processor"
    assert content["settings"]["threads"] == 1
    assert content["error"] == {"median": 0.0, "p90": 0.0, "networks": 20}


def test_tables_from_before_compiled_ones_are_read(tmp_path: Path) -> None:
    path = save_table(make_table(), tmp_path / "toy.json")
    content = json.loads(path.read_text())
    del content["between"], content["sha256"]
    content["version"] = 1
    path.write_text(json.dumps(content))
    assert load_table(path).digest == make_table().digest


def test_a_changed_number_is_noticed(tmp_path: Path) -> None:
    path = save_table(make_table(), tmp_path / "toy.json")
    text = path.read_text()
    assert '"intercept_ms": 0.0' in text
    for changed in (text.replace('"intercept_ms": 0.0', '"intercept_ms": 0.1'), text.replace("sha256", "sha257")):
        path.write_text(changed)
        with pytest.raises(ConfigError, match=r"is damaged: its SHA-256 is (not|missing)"):
            load_table(path)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no latency table"):
        load_table(tmp_path / "none.json")
    for text in ("", "[]", "{}", '{"format": "another"}', "\x00\xff"):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(ConfigError, match="is no latency table"):
            load_table(tmp_path / "other.json")


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    path = save_table(make_table(), tmp_path / "toy.json")
    path.write_text(path.read_text().replace('"version": 2', '"version": 3'))
    with pytest.raises(ConfigError, match="has version 3 of the format, expected 2"):
        load_table(path)


@pytest.mark.parametrize(
    "damage",
    [
        {"widths": [[1, 2, 3]]},
        {"times_ms": [[-1.0] * 7] * 51},
        {"scale": -1.0},
        {"between": -0.5},
        {"held_out": {"widths": [], "measured_ms": [], "predicted_ms": []}},
        {"segments": None},
        {"groups": {}},
        {"settings": {"thread": 1}},
        {"staircases": [{"kind": "conv", "layer": "a", "side": "out", "widths": [1], "times_ms": []}]},
    ],
)
def test_damage_is_named(tmp_path: Path, damage: dict[str, object]) -> None:
    path = save_table(make_table(), tmp_path / "toy.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(ConfigError, match="is damaged"):
        load_table(path)


def test_a_kept_table_is_made_once(tmp_path: Path) -> None:
    made = []

    def make() -> object:
        made.append(1)
        return make_table()

    space = make_space()

    def keep(batch: int, processor: str) -> None:
        kept_table(tmp_path, space, LatencySettings(batch=batch), processor, "effort", make)  # type: ignore[arg-type]

    for batch in (1, 1, 2):
        keep(batch, "a processor")
    assert len(made) == 2
    keep(1, "another processor")
    assert len(made) == 3
    kept = next(tmp_path.glob("*.json"))
    kept.write_text(kept.read_text()[:-9])

    def keep_all() -> None:
        for batch in (1, 2):
            keep(batch, "a processor")
            keep(batch, "another processor")

    with pytest.warns(UserWarning, match="the kept latency table .* is damaged"):
        keep_all()
    assert kept.with_name(f"{kept.name}.corrupt").exists()
