"""``autoprune store`` and ``autoprune delete`` on the command line: what they print, refuse, and leave behind."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoprune import api
from autoprune.api.maintenance_optuna import export_to_optuna
from autoprune.cli.main import main
from autoprune.errors import NotFound
from autoprune.store import Lease, Store, new_owner, open_store
from autoprune.testing.store_contract import finished
from autoprune.types import Candidate, Trial, TrialState

CONFIG = {
    "objectives": ["top1 max", "macs min"],
    "constraints": ["macs <= 0.5 * baseline"],
    "space": {"rules": [{"match": "*", "multiple": 8, "floor": 0.25}]},
}
STATES = [TrialState.COMPLETE, TrialState.STOPPED, TrialState.INFEASIBLE, TrialState.DIVERGED, TrialState.FAILED]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "a.db"
    with open_store(f"sqlite:///{path}") as opened:
        baseline = {"top1": 0.9, "macs": 100.0}
        opened.create_search(
            "one", config=CONFIG, digest="d", evaluation_digest="e", baseline=baseline, channels={"g": 36}
        )
        lease = claimed(opened)
        for number in range(6):
            trial = Trial(number, Candidate({"g": (16, 24, 32)[number % 3]}), TrialState.RUNNING, started_at=1e9)
            opened.start_trial(lease, trial)
            if number < 5:
                metrics = {"top1": 0.1 * number, "macs": 20.0 + 20 * number}
                kept = {} if STATES[number] is TrialState.FAILED else metrics
                opened.finish_trial(lease, finished(trial, STATES[number], **kept), {})
        opened.release(lease)
    return path


@pytest.fixture
def store(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{shutil.copy(template, tmp_path)}"
    monkeypatch.setenv("AUTOPRUNE_STORE", url)
    with open_store(url) as opened:
        yield opened


def claimed(store: Store) -> Lease:
    return store.claim("one", owner=new_owner(), ttl_seconds=60)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return int(left.value.code or 0), *capsys.readouterr()


def test_a_sound_store_is_checked(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "store", "check")
    assert code == 0
    assert "trial 5 began and nobody drives the search" in out
    assert "Run 'autoprune resume NAME'" in out
    assert err.endswith("0 problems, 1 warning, 13 checks.\n")
    code, out, _ = run(capsys, "store", "check", "--format", "json", "--quiet")
    assert json.loads(out)["ok"] is True


def test_a_problem_is_exit_code_7_until_it_is_repaired(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect("a.db") as connection:
        connection.execute("INSERT INTO metrics VALUES (9, 0, 'top1', 0.5, 0)")
    connection.close()
    code, out, _ = run(capsys, "store", "check", "--format", "csv")
    assert code == 7
    assert "orphans,,problem," in out
    assert run(capsys, "store", "check", "--repair")[0] == 0
    assert run(capsys, "store", "check", "--format", "json")[0] == 0


def test_vacuum_gives_space_back_and_leaves_a_driven_store(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    lease = claimed(store)
    for number in range(6, 400):
        store.start_trial(lease, Trial(number, Candidate({"g": 8}), TrialState.RUNNING, note={"text": "x" * 2000}))
    code, _, err = run(capsys, "store", "vacuum")
    assert code == 3
    assert "is being run" in err
    store.release(lease)
    with sqlite3.connect("a.db") as connection:
        connection.execute("DELETE FROM trials WHERE number > 5")
    connection.close()
    code, out, _ = run(capsys, "store", "vacuum", "--json")
    content = json.loads(out)
    assert code == 0
    assert content["bytes_after"] < content["bytes_before"] / 3
    assert Path("a.db").stat().st_size == content["bytes_after"]
    assert len(store.trials("one")) == 6


@pytest.mark.parametrize("command", ["check", "vacuum", "migrate"])
def test_what_is_no_store_is_refused_and_not_made(
    command: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "store", command, "--store", "sqlite:///none.db")
    assert (code, "no store at 'none.db'" in err) == (3, True)
    assert not Path("none.db").exists()
    (tmp_path / "folder").mkdir()
    assert run(capsys, "store", command, "--store", "sqlite:///folder")[0] == 4
    Path("text.db").write_text("not a database, but long enough to be taken for one" * 40)
    assert run(capsys, "store", command, "--store", "sqlite:///text.db")[0] == 4
    with sqlite3.connect("a.db") as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    code, _, err = run(capsys, "store", command)
    assert (code, "newer autoprune" in err) == (4, True)


def test_a_password_is_never_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = "postgresql://me:se-cret@127.0.0.1:1/autoprune"
    for command in (["check"], ["vacuum"], ["migrate"], ["export", "--to", str(tmp_path / "x")]):
        code, out, err = run(capsys, "store", *command, "--store", url.replace("postgresql", "mysql"))
        assert (code, "se-cret" in out + err) == (2, False)


def test_migrate_says_what_it_would_do_and_keeps_a_copy(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "store", "migrate")[1].endswith(": up to date.\n")
    with sqlite3.connect("a.db") as connection:
        connection.execute("UPDATE schema_version SET version = 2")
    connection.close()
    code, out, _ = run(capsys, "store", "migrate", "--dry-run")
    assert (code, out) == (0, "the schema would be brought from version 2 to 3.\n")
    assert api.check_store().warnings[0].check == "schema"
    code, out, _ = run(capsys, "store", "migrate", "--json")
    content = json.loads(out)
    assert (code, content["before"], content["after"]) == (0, 2, 3)
    with sqlite3.connect(content["copy"]) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchone() == (2,)
    connection.close()
    assert not [each for each in api.check_store().items if each.check == "schema" and each.status != "ok"]


def test_searches_move_by_a_file(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "store", "export", "--to", "out/all.jsonl.gz", "-q")
    assert (code, out) == (0, "exported 1 search, 6 trials: out/all.jsonl.gz\n")
    assert run(capsys, "store", "export", "--to", "out/all.jsonl.gz")[0] == 3
    code, out, _ = run(capsys, "store", "import", "out/all.jsonl.gz", "--store", "sqlite:///b.db", "--json")
    assert json.loads(out)["counts"] == {"search": 1, "trial": 6}
    code, _, err = run(capsys, "store", "import", "out/all.jsonl.gz")
    assert (code, "--rename one=NEW" in err) == (3, True)
    out = run(capsys, "store", "import", "out/all.jsonl.gz", "--skip-existing")[1]
    assert "left out, since the store has them: one" in out
    assert [record.name for record in api.searches("sqlite:///b.db")] == ["one"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["export"],
        ["export", "--to", "x", "--optuna", "y"],
        ["export", "--optuna", "sqlite:///o.db"],
        ["import", "x", "--rename", "old"],
    ],
)
def test_wrong_usage_is_exit_code_2(store: Store, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run(capsys, "store", *arguments)[0] == 2


def test_optuna_loads_the_study(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    import optuna
    from optuna.trial import TrialState as OptunaState

    code, out, _ = run(capsys, "store", "export", "one", "--optuna", "sqlite:///o.db", "-q")
    assert (code, out) == (0, "study 'one' with 6 trials is in sqlite:///o.db\n")
    study = optuna.load_study(study_name="one", storage="sqlite:///o.db")
    found = study.get_trials()
    assert [each.number for each in found] == list(range(6))
    assert [each.state for each in found] == [
        *(OptunaState.COMPLETE, OptunaState.PRUNED, OptunaState.COMPLETE),
        *(OptunaState.FAIL, OptunaState.FAIL, OptunaState.RUNNING),
    ]
    assert found[0].values == [0.0, 20.0]
    assert found[0].params == {"g": 16}
    # allowed are 16, 24, 32 and 36 of 36 channels: the coarsest grid that has them
    assert found[0].distributions == {"g": optuna.distributions.IntDistribution(16, 36, step=4)}
    assert found[2].constraints == {"macs <= 0.5 * baseline": 10.0}
    assert found[1].user_attrs["state"] == "stopped"
    assert found[1].user_attrs["top1"] == 0.1
    assert [trial.number for trial in study.best_trials] == [0]
    assert study.metric_names == ["top1", "macs"]
    assert run(capsys, "store", "export", "one", "--optuna", "sqlite:///o.db")[0] == 3


def test_a_store_does_not_become_an_optuna_storage(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect("a.db") as connection:
        connection.execute("VACUUM INTO 'copy.db'")
    connection.close()
    for storage in ("sqlite:///a.db", "sqlite:///copy.db", "sqlite:///none/o.db", "sqlite:///.", "mysqlx://h/d"):
        code, _, err = run(capsys, "store", "export", "one", "--optuna", storage)
        assert (code, "Traceback" in err) == (2, False)
    with pytest.raises(NotFound):
        export_to_optuna("two", "sqlite:///o.db")


def test_a_journal_is_a_storage_too(store: Store) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    assert export_to_optuna("one", "o.log") == 6
    study = optuna.load_study(study_name="one", storage=optuna.storages.JournalStorage(JournalFileBackend("o.log")))
    assert len(study.get_trials()) == 6


# --- delete ----------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_delete_asks_for_the_name(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run(capsys, "delete", "one")
    assert (code, "Add --yes; nothing was deleted." in err) == (2, True)
    monkeypatch.setattr(sys, "stdin", Terminal("two\n"))
    code, _, err = run(capsys, "delete", "one")
    assert (code, "6 trials" in err, "nothing was deleted" in err) == (2, True, True)
    monkeypatch.setattr(sys, "stdin", Terminal("one\n"))
    assert run(capsys, "delete", "one")[:2] == (0, "deleted 'one' with 6 trials\n")
    assert api.searches() == []
    assert run(capsys, "delete", "one", "--yes")[0] == 3


def test_delete_leaves_a_search_that_is_driven(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    lease = claimed(store)
    code, _, err = run(capsys, "delete", "one", "--yes")
    assert (code, "Stop it first." in err) == (3, True)
    store.release(lease)
    code, out, _ = run(capsys, "delete", "one", "--yes", "--json")
    assert (code, json.loads(out)) == (0, {"deleted": "one", "trials": 6, "state": "interrupted"})
