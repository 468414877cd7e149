"""Files that are whole or not there, and whose digests notice what torch and NumPy do not."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from autoprune import files
from autoprune.errors import ConfigError, StoreError


def write_and_fail(target: Path, error: Exception) -> None:
    with files.replacing(target) as temporary:
        temporary.write_text("half")
        raise error


def test_replacing_leaves_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(KeyError):
        write_and_fail(target, KeyError())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "old"


def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be written: No space left.*AUTOPRUNE_HOME") as caught:
        write_and_fail(tmp_path / "file", OSError(28, "No space left on device"))
    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_long_ago_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "front[1].csv"
    old, young, other = (tmp_path / f".{name}.tmp.csv" for name in ("front[1].77.ab", "front[1].78.cd", "front1.79.ef"))
    for path in (old, young, other):
        path.write_text("half")
    past = time.time() - 2 * 24 * 3600
    os.utime(old, (past, past))
    os.utime(other, (past, past))
    files.write_text(target, "whole")
    assert target.read_text() == "whole"
    assert (old.exists(), young.exists(), other.exists()) == (False, True, True)


def test_a_sealed_file_comes_back_and_damage_does_not(tmp_path: Path) -> None:
    path = tmp_path / "sealed.bin"
    with files.sealing(path) as temporary:
        temporary.write_bytes(bytes(range(256)))
    assert files.read_sealed(path) == bytes(range(256))
    files.check_sealed(path)
    raw = path.read_bytes()
    flipped = bytearray(raw)
    flipped[100] ^= 1
    for content, reason in ((bytes(flipped), "is not the one"), (raw[:-1], "does not end"), (b"", "does not end")):
        path.write_bytes(content)
        for read in (files.read_sealed, files.check_sealed):
            with pytest.raises(files.Damaged, match=reason):
                read(path)


def test_a_sealed_empty_file(tmp_path: Path) -> None:
    with files.sealing(tmp_path / "empty") as temporary:
        temporary.touch()
    files.check_sealed(tmp_path / "empty")
    assert files.read_sealed(tmp_path / "empty") == b""


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "kept.npz").write_text("bad")
    with pytest.warns(UserWarning, match=r"the scores .*kept.npz is damaged: why\. Again\..*kept.npz.corrupt"):
        files.set_aside(tmp_path / "kept.npz", "the scores", "why", "Again.")
    assert [path.name for path in tmp_path.iterdir()] == ["kept.npz.corrupt"]
    with pytest.warns(UserWarning, match=r"why\. Again\.$"):  # gone already: another process was faster
        files.set_aside(tmp_path / "kept.npz", "the scores", "why", "Again.")


def test_a_list_of_digests_is_what_sha256sum_reads(tmp_path: Path) -> None:
    for name in ("model.onnx", "notes.txt"):
        (tmp_path / name).write_text(name)
    files.check_listed(tmp_path, ["model.onnx"])  # no list: written before there were any
    files.list_digests(tmp_path)
    done = subprocess.run(["sha256sum", "-c", files.SUMS], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "model.onnx: OK\nnotes.txt: OK\n")
    (tmp_path / "notes.txt").write_text("the user's business")
    files.check_listed(tmp_path, ["model.onnx"])
    with pytest.raises(ConfigError, match=r"notes.txt is damaged: its SHA-256 is not the one in SHA256SUMS"):
        files.check_listed(tmp_path, ["notes.txt"])
    with pytest.raises(ConfigError, match=r"gone cannot be read"):
        files.check_listed(tmp_path, ["gone"])
    (tmp_path / files.SUMS).write_text("")
    with pytest.raises(ConfigError, match="is damaged"):
        files.check_listed(tmp_path, ["model.onnx"])


def test_a_digest_inside_json_outlives_another_layout() -> None:
    content = {"b": [1, 2.5, None], "a": {"x": "y"}}
    text = json.dumps(files.with_digest({**content, "t": (1, 2)}), indent=3, sort_keys=True)
    assert files.without_digest(json.loads(text), required=True) == {**content, "t": [1, 2]}
    changed = json.loads(text.replace("2.5", "2.6"))
    with pytest.raises(files.Damaged, match="is not the one"):
        files.without_digest(changed)
    assert files.without_digest(content) == content
    with pytest.raises(files.Damaged, match="is missing"):
        files.without_digest(content, required=True)
