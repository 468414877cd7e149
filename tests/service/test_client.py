"""``autoprune.Client`` against a server on a socket gives what the library gives."""

from __future__ import annotations

import contextlib
import io
import math
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import autoprune
import autoprune.service.app as app_module
import autoprune.service.context as context_module
from autoprune.api import launches
from autoprune.api.artifacts import Exporter
from autoprune.api.working import Worker
from autoprune.client.archive import unpacked
from autoprune.config.schema import SearchConfig
from autoprune.errors import (
    ConfigError,
    Conflict,
    NotFound,
    NothingFeasible,
    SearchAborted,
    ServiceError,
)
from autoprune.service.settings import Limits
from autoprune.service.tokens import load_tokens
from autoprune.types import LaunchState, Trial

HERE = Path(__file__).parent
SPACE = {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}}


def commands(name: str) -> list[str]:
    return [sys.executable, "-S", "-E", str(HERE / name)]


Connect = Callable[..., autoprune.Client]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make clients that are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda *given: stack.enter_context(autoprune.Client(*given, poll_seconds=0.02))


@pytest.fixture
def remote(listening: Callable[..., str], connect: Connect, monkeypatch: pytest.MonkeyPatch) -> autoprune.Client:
    monkeypatch.setattr(context_module, "Exporter", lambda url: Exporter(url, command=commands("fake_export.py")))
    return connect(listening())


def plain(trial: Trial) -> Trial:
    """With None in place of NaN, which differs from itself."""
    metrics = {name: None if math.isnan(value) else value for name, value in trial.metrics.items()}
    return replace(trial, metrics=metrics)  # type: ignore[arg-type]


def test_reading_gives_the_same_objects(remote: autoprune.Client, store: str) -> None:
    assert remote.searches() == autoprune.searches(store)
    for states in (None, ["failed"]):
        here, there = autoprune.trials("s", states=states, store=store), remote.trials("s", states=states)
        assert [plain(trial) for trial in there] == [plain(trial) for trial in here]
    assert math.isnan(remote.trial("s", 5).metrics["loss"])
    history = autoprune.history("s", store=store)
    assert remote.history("s").to_json() == history.to_json()
    assert remote.history("s").describe_reference() == history.describe_reference()


@pytest.mark.parametrize(
    "asked", [{}, {"where": ["macs <= 0.6 * baseline", "top1 >= 0.55"]}, {"x": "params", "y": "macs max"}]
)
def test_a_front_is_the_same_object(remote: autoprune.Client, store: str, asked: dict[str, Any]) -> None:
    here, there = autoprune.front("s", store=store, **asked), remote.front("s", **asked)
    assert [plain(trial) for trial in there.trials] == [plain(trial) for trial in here.trials]
    assert replace(there, trials=()) == replace(here, trials=())
    assert there.to_csv() == here.to_csv()


def test_a_selection_is_the_same_object(remote: autoprune.Client, store: str) -> None:
    asked: dict[str, Any] = {"where": ["macs <= 60"], "maximize": "params"}
    here, there = autoprune.select("s", store=store, **asked), remote.select("s", **asked)
    assert replace(there, trial=plain(there.trial)) == replace(here, trial=plain(here.trial))


def test_errors_are_those_of_the_library(remote: autoprune.Client, store: str) -> None:
    with pytest.raises(NothingFeasible) as caught:
        remote.select("s", where=["macs <= 30"])
    with pytest.raises(NothingFeasible) as expected:
        autoprune.select("s", where=["macs <= 30"], store=store)
    assert str(caught.value) == str(expected.value)
    assert caught.value.nearest == expected.value.nearest is not None
    with pytest.raises(NotFound, match="no search named 'nix'"):
        remote.front("nix")
    with pytest.raises(ConfigError, match="not understood"):
        remote.front("s", where=["macs is small"])
    with pytest.raises(Conflict):
        remote.stop("s")
    model = {"kind": "file", "path": "a.py", "factory": "f"}
    with pytest.raises(ServiceError, match="runs Python code"):
        remote.launch({"name": "n", "space": {**SPACE, "model": model}})


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://[::1"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no URL"):
        autoprune.Client(url)


def test_a_server_that_does_not_answer_is_named(connect: Connect) -> None:
    with pytest.raises(ServiceError, match=r"no answer from http://127\.0\.0\.1:9"):
        connect("http://127.0.0.1:9").searches()


def test_tokens_are_sent(listening: Callable[..., str], connect: Connect, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"read {'r' * 30}\nlaunch {'l' * 30}\n")
    path.chmod(0o600)
    url = listening(tokens=load_tokens(path))
    with pytest.raises(ServiceError, match="token is required"):
        connect(url).searches()
    assert connect(url, "r" * 30).searches()
    with pytest.raises(ServiceError, match="reading only"):
        connect(url, "r" * 30).delete("s")
    connect(url, "l" * 30).delete("s")


def test_a_client_waits_when_it_asked_too_often(listening: Callable[..., str], connect: Connect) -> None:
    client = connect(listening(limits=Limits(requests_per_second=20, burst=1)))
    assert len([client.health() for _ in range(2)]) == 2


def test_a_launch_file_runs_unchanged(
    listening: Callable[..., str], connect: Connect, store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = commands("fake_driver.py")
    monkeypatch.setattr(app_module, "Worker", lambda *given, **more: Worker(*given, **more, command=command))
    client = connect(listening(parallel=1))
    (tmp_path / "space.yaml").write_text("model: {kind: builtin, name: resnet8}\ndata: {kind: digits}\n")
    file = tmp_path / "launch.yaml"
    file.write_text("name: mine\nspace: space.yaml\nstore: sqlite:///elsewhere.db\nlimits: {trials: 7}\n")
    result = client.search(file, overrides=["seed=3"])
    assert (result.record.name, result.reused) == ("mine", False)
    stored = launches.launches("mine", store=store)[0].config
    assert (stored["seed"], stored["limits"]["trials"], stored["space"]["model"]["name"]) == (3, 7, "resnet8")
    assert "driving mine" in client.log(client.launches("mine")[0].id)
    with pytest.raises(SearchAborted, match="the data are not there"):
        client.search({"name": "fails", "space": SPACE})
    waiting = client.launch({"name": "waits", "space": SPACE})
    client.stop("waits")
    while not (found := client.launches("waits")[0]).state.ended:
        pass
    assert (found.id, found.state) == (waiting.id, LaunchState.STOPPED)


def test_what_is_sent_means_the_same_there(remote: autoprune.Client, store: str) -> None:
    config = SearchConfig.model_validate(
        {
            "name": "n",
            "space": {**SPACE, "base": {"recipe": {"preset": "cifar"}}},
            "controller": {"kind": "metapruning"},
            "constraints": ["macs <= 0.5 * baseline"],
        }
    )
    remote.launch(config)
    sent = SearchConfig.model_validate(launches.launches("n", store=store)[0].config)
    assert sent.digest() == config.digest()


# --- models ----------------------------------------------------------------------------------------------------------


def test_exports_come_as_folders_and_are_made_once(remote: autoprune.Client, store: str, tmp_path: Path) -> None:
    made = [remote.export("s", 5, tmp_path / "out" / name, format="onnx") for name in ("a", "b")]
    assert [(folder / "model.bin").read_bytes() for folder in made] == [b"weights" * 1000] * 2
    assert (made[0] / "sub" / "facts.json").read_text() == '["s", 5]'
    remote.export("s", 5, tmp_path / "c")
    log = Path(store.removeprefix("sqlite:///")).with_name("exports.log").read_text()
    assert log.splitlines() == ["s 5 onnx", "s 5 safetensors"]
    with pytest.raises(Conflict, match="not an empty folder"):
        remote.export("s", 5, tmp_path / "c")
    with pytest.raises(Conflict, match="only measured trials"):
        remote.export("s", 4, tmp_path / "d")
    with pytest.raises(SearchAborted, match="cannot be converted"):
        remote.export("s", 5, tmp_path / "d", format="torchscript")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b"]
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "C:\\evil"])
def test_an_archive_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("good", "x")
        archive.writestr(name, "x")
    with pytest.raises(ServiceError, match="not one of an exported model"):
        unpacked(file, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_archive_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="damaged"):
        unpacked(io.BytesIO(b"no zip"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
