"""What keeps a process from joining a cluster, in words and at once; and nodes whose Python differs."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
import ray

from autoprune.errors import ConfigError
from autoprune.executors import ray_joining, ray_look, ray_probe

MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.44.1
    Python: 3.12.3
This process on node address: 10.0.0.7 was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""


def _says(monkeypatch: pytest.MonkeyPatch, error: Exception) -> ConfigError:
    def init(**settings: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray_joining, "_require_answer", lambda address: None)
    with pytest.raises(ConfigError) as caught:
        ray_joining.join("head:6379")
    return caught.value


def test_nothing_answers() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else takes it
        port = held.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(ConfigError, match=rf"nothing answers at executor\.address '127\.0\.0\.1:{port}'"):
            ray_joining.join(f"127.0.0.1:{port}")
    assert time.monotonic() - began < 10.0


def test_another_ray_and_python(monkeypatch: pytest.MonkeyPatch) -> None:
    error = _says(monkeypatch, RuntimeError(MISMATCH))
    assert "runs Ray 2.44.1 on Python 3.12.3; this process has Ray 2.60.0 on Python 3.11.7" in str(error)
    assert "pip install 'ray==2.44.1' in Python 3.12.3" in str(error.hint)


def test_a_token_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cause = RuntimeError("RPC error: InvalidAuthToken: Authentication token is missing or incorrect")
    error = ConnectionError("Failed to connect to Ray cluster")
    error.__cause__ = cause
    assert "asks for a token" in str(_says(monkeypatch, error))


def test_other_reasons_are_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "head:6379': no GCS" in str(_says(monkeypatch, ConnectionError("no GCS\nmore")))


def test_without_ray_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="ray:// needs Ray Client, which is not installed"):
        ray_joining.require_client()


# --- nodes ---------------------------------------------------------------------------------------------------------


def _node(**other: str) -> dict[str, str]:
    return {**ray_look.look(), **other}


def test_equal_nodes_need_nothing() -> None:
    found = {"10.0.0.7/abcd": _node(), "10.0.0.8/efgh": _node(host="h")}
    ray_probe.check_versions(found)
    assert ray_probe.package_to_ship(found) is None


@pytest.mark.parametrize("theirs", ["", "0123456789abcdef"])
def test_another_autoprune_or_none_is_replaced(theirs: str) -> None:
    shipped = ray_probe.package_to_ship({"10.0.0.7/abcd": _node(), "10.0.0.8/efgh": _node(autoprune=theirs)})
    assert shipped is not None
    assert [Path(each).name for each in shipped["py_modules"]] == ["autoprune"]


def test_another_torch_is_an_error_in_words() -> None:
    here = ray_look.look()["torch"]
    with pytest.raises(
        ConfigError, match=rf"torch differs .* here it is {here.partition('+')[0]}.* has 2\.1\.0\+cu118"
    ):
        ray_probe.check_versions({"10.0.0.7/abcd": _node(torch="2.1.0+cu118")})


def test_another_build_of_the_same_torch_is_none() -> None:
    public = ray_look.look()["torch"].partition("+")[0]
    ray_probe.check_versions({"10.0.0.7/abcd": _node(torch=f"{public}+cu999")})


def test_no_torch() -> None:
    nodes = {f"10.0.0.{number}/abcd": _node(torch="") for number in range(5)}
    with pytest.raises(ConfigError, match=r"torch is missing .* on 10\.0\.0\.0/abcd, .* and 2 more"):
        ray_probe.check_versions(nodes)


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "sub/__pycache__").mkdir(parents=True)
    (tmp_path / "sub/a.py").write_text("a = 1\n")
    before = ray_look.package_digest(str(tmp_path))
    (tmp_path / "sub/__pycache__/a.pyc").write_bytes(b"compiled")
    assert ray_look.package_digest(str(tmp_path)) == before
    (tmp_path / "sub/a.py").write_text("a = 2\n")
    assert ray_look.package_digest(str(tmp_path)) != before
    (tmp_path / "sub/a.py").write_text("a = 1\n")
    (tmp_path / "sub/a.py").rename(tmp_path / "sub/b.py")
    assert ray_look.package_digest(str(tmp_path)) != before
