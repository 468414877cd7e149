"""Every command over a faked api: what goes to stdout, to stderr, and to the api."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autoprune import api
from autoprune.analysis.front import build_front
from autoprune.analysis.history import build_history
from autoprune.analysis.plots import plot_front
from autoprune.analysis.selection import Selection
from autoprune.cli.main import main
from autoprune.types import Candidate, Objective, SearchRecord, SearchState, Trial, TrialState

BASELINE = {"top1": 0.92, "macs": 40e6, "flops": 80e6, "params": 270e3}
NAME = "digits-quickstart"


def trial(number: int, top1: float, macs: float, **changes: Any) -> Trial:
    metrics = {"top1": top1, "macs": macs, "flops": 2 * macs, "params": macs / 200}
    values: dict[str, Any] = {"number": number, "candidate": Candidate({"a.conv1": 8, "b.conv1": 16}), **changes}
    return Trial(**{"state": TrialState.COMPLETE, "metrics": metrics, **values})


TRIALS = [
    trial(0, 0.91, 30e6, started_at=10.0, finished_at=12.5),
    trial(1, 0.88, 20.4e6, duplicate_of="other/7"),
    trial(2, 0.0, 0.0, state=TrialState.FAILED, metrics={}, reason="worker died: out of memory " + "x" * 200),
    trial(3, math.nan, 1e6, state=TrialState.DIVERGED),
]
RECORD = SearchRecord(
    NAME, "d" * 16, "e" * 16, {}, BASELINE, SearchState.COMPLETE, 1.0, 2.0, {"complete": 2, "failed": 1, "diverged": 1}
)
HISTORY = build_history(
    NAME,
    np.arange(4),
    {"macs": np.array([30.0, 30.0, 20.0, np.nan]), "top1": np.array([0.5, 0.5, 0.8, 0.9])},
    [Objective("macs", "min"), Objective("top1", "max")],
)
SPACE = SimpleNamespace(
    name="resnet20",
    groups=(
        SimpleNamespace(
            name="a.conv1",
            channels=16,
            unit=1,
            allowed=(4, 8, 12, 16),
            members=("a.conv1.weight[0]", "a.bn1.weight[0]", "a.bn1.bias[0]", "a.conv2.weight[1]"),
            macs_share=0.123,
            error=2.2e-16,
        ),
    ),
    left_out={"layer2.shortcut": "slicing and masking differ"},
    baseline=BASELINE,
    size=4**19,
    uncounted=("aten::bmm",),
    prunable=0.987,
    error=3.1e-16,
)


class Recorder:
    """Answers like the api and remembers how it was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def install(self, patch: pytest.MonkeyPatch, name: str, answer: Any) -> None:
        def call(*args: Any, **kwargs: Any) -> Any:
            kwargs.pop("progress", None)
            self.calls.append((name, args, kwargs))
            if isinstance(answer, BaseException):
                raise answer
            return answer

        patch.setattr(api, name, call)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.delenv("AUTOPRUNE_STORE", raising=False)
    recorder = Recorder()
    front = build_front(NAME, TRIALS, baseline=BASELINE)
    result = SimpleNamespace(record=RECORD, front=front, output=Path("results") / NAME, trials=4, reused=False)
    selection = Selection(search=NAME, trial=TRIALS[1], baseline=BASELINE, considered=2)
    answers = {
        "search": result,
        "resume": result,
        "searches": [RECORD],
        "trials": TRIALS,
        "front": front,
        "select": selection,
        "history": HISTORY,
        "export": Path("model"),
        "space": SPACE,
        "report": Path("results") / NAME,
    }
    for name, answer in answers.items():
        recorder.install(monkeypatch, name, answer)
    monkeypatch.setattr(api, "stored_audits", lambda name, store=None: [])
    return recorder


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    return int(leaving.value.code or 0)


FRONT_JSON = {
    "search": NAME,
    "baseline": BASELINE,
    "front": [
        {
            "trial": each.number,
            "digest": each.candidate.digest,
            "widths": {"a.conv1": 8, "b.conv1": 16},
            "metrics": dict(each.metrics),
        }
        for each in (TRIALS[1], TRIALS[0])
    ],
}


@pytest.mark.parametrize(
    "arguments", [("front", NAME), ("search", "launch.yaml"), ("resume", NAME)], ids=lambda arguments: arguments[0]
)
def test_front_json_has_exactly_the_documented_shape(
    fake: Recorder, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert run(*arguments, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == FRONT_JSON


def test_front_table_is_readable_without_a_terminal(fake: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("front", NAME) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out
    assert "…" not in out
    assert "20.4M (51.0 %)" in out
    assert "91.00 %" in out
    assert "baseline" in out
    assert "multiply-accumulates" in out
    assert err == ""


def test_front_passes_axes_budgets_and_store_on(fake: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["macs <= 0.5 * baseline", "params <= 200k"]
    run(
        "front",
        NAME,
        "--x",
        "params",
        "--y",
        "top5",
        "--where",
        where[0],
        "--where",
        where[1],
        "--store",
        "sqlite:///x",
    )
    asked = {"x": "params", "y": "top5", "where": where, "presets": False, "store": "sqlite:///x"}
    assert fake.calls == [("front", (NAME,), asked)]


def test_store_comes_from_the_environment(fake: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOPRUNE_STORE", "sqlite:///env.db")
    run("front", NAME)
    assert fake.calls[0][2]["store"] == "sqlite:///env.db"


def test_front_plot_writes_the_file_and_keeps_stdout_clean(
    fake: Recorder, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "front.svg"
    monkeypatch.setattr(api, "plot", lambda front, path, store: plot_front(front, path, trials=TRIALS))
    assert run("front", NAME, "--plot", str(target), "--format", "json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == FRONT_JSON
    assert str(target) in err
    assert target.stat().st_size > 1000
    assert run("front", NAME, "--plot", str(tmp_path / "front.bmp")) == 2
    assert "hint: Write for example --plot front.png." in capsys.readouterr().err


def test_history_in_all_formats(fake: Recorder, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("history", NAME, "--x", "params", "--format", "json") == 0
    assert fake.calls == [("history", (NAME,), {"x": "params", "y": None, "store": None})]
    content = json.loads(capsys.readouterr().out)
    # the reference is 31 and 0.47: (31 - 30) * (0.5 - 0.47), and then (31 - 20) * (0.8 - 0.47)
    assert [row["trial"] for row in content["history"]] == [0, 2, 3]
    assert [row["hypervolume"] for row in content["history"]] == pytest.approx([0.03, 3.63, 3.63])
    assert content["reference"] == pytest.approx({"macs": 31.0, "top1": 0.47})
    assert run("history", NAME, "--format", "csv") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("0,0.03")
    target = tmp_path / "history.png"
    assert run("history", NAME, "--plot", str(target)) == 0
    out, err = capsys.readouterr()
    assert "    2   100.00 %          3.63" in out
    assert str(target) in err
    assert target.stat().st_size > 1000
    assert run("history", NAME, "--plot", "history.html") == 2


def test_front_csv(fake: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    run("front", NAME, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["trial"] for row in rows] == ["1", "0"]
    assert rows[0]["macs"] == "20400000"
    assert rows[0]["b.conv1"] == "16"


def test_search_reports_on_stderr_and_prints_the_front(fake: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("search", "launch.yaml", "--set", "limits.trials=3", "--set", "seed=1") == 0
    out, err = capsys.readouterr()
    assert fake.calls == [("search", ("launch.yaml",), {"overrides": ["limits.trials=3", "seed=1"], "store": None})]
    assert "on the front" in out
    assert f"4 trials; report, plot and table are in results/{NAME}/" in err
    run("search", "launch.yaml", "--quiet")
    assert capsys.readouterr().err == ""


def test_resume_passes_the_new_limit(fake: Recorder) -> None:
    run("resume", NAME, "--trials", "200")
    assert fake.calls == [("resume", (NAME,), {"store": None, "trials": 200})]


def test_searches(fake: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    run("searches")
    assert "top1 92.00 %, macs 40.0M, params 270k" in capsys.readouterr().out
    run("searches", "--format", "json")
    (content,) = json.loads(capsys.readouterr().out)
    assert content["search"] == NAME
    assert content["trial_counts"] == {"complete": 2, "failed": 1, "diverged": 1}
    run("searches", "--format", "csv")
    assert capsys.readouterr().out.splitlines()[1].startswith(f"{NAME},complete,4,2,")


def test_trials(fake: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    run("trials", NAME, "--state", "failed", "--state", "complete")
    out = capsys.readouterr().out
    assert fake.calls == [("trials", (NAME,), {"states": ["failed", "complete"], "store": None})]
    assert "x" * 200 in out  # nothing is cut for a pipe
    assert "2.5 s" in out
    assert "as other/7" in out
    run("trials", NAME, "--format", "json")
    content = json.loads(capsys.readouterr().out, parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    assert content[3]["metrics"]["top1"] is None
    assert content[0]["seconds"] == 2.5
    run("trials", NAME, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["state"] for row in rows] == ["complete", "complete", "failed", "diverged"]
    assert rows[3]["top1"] == ""
    assert {"slice_seconds", "evaluate_seconds", "report_seconds", "wait_seconds"} <= set(rows[0])


def test_tables_say_where_the_time_went(
    fake: Recorder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = dataclasses.replace(TRIALS[1], duplicate_of="", timings={"evaluate": 1.5, "wait": 0.5}, worker="10.0.0.1:7")
    fake.install(monkeypatch, "trials", [timed])
    fake.install(monkeypatch, "select", Selection(search=NAME, trial=timed, baseline=BASELINE, considered=1))
    run("trials", NAME)
    out = capsys.readouterr().out
    assert "Median time a trial: evaluate 1.50 s, wait 500 ms. 75 % of the workers' time goes into scoring" in out
    run("select", NAME)
    assert "Measured on worker 10.0.0.1:7: evaluate 1.50 s, wait 500 ms." in capsys.readouterr().out


EXPORT_DEFAULTS = {"format": "safetensors", "fold_bn": False, "batch": None, "licence": "unknown"}


def test_select_prints_the_trial_and_exports_it(fake: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    run("select", NAME, "--where", "macs <= 21M", "--minimize", "loss", "--export", "model")
    out, err = capsys.readouterr()
    assert fake.calls == [
        ("select", (NAME,), {"where": ["macs <= 21M"], "maximize": None, "minimize": "loss", "store": None}),
        ("export", (NAME, 1, "model"), {**EXPORT_DEFAULTS, "store": None}),
    ]
    assert "trial 1 (of 2 complete trials)" in out
    assert "a.conv1" in out
    assert "exported trial 1 to model" in err
    run("select", NAME, "--format", "json")
    content = json.loads(capsys.readouterr().out)
    assert content["trial"] == 1
    assert content["widths"] == {"a.conv1": 8, "b.conv1": 16}
    assert content["baseline"] == BASELINE


def test_export_prints_the_folder_only(fake: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    run("export", NAME, "1", "--out", "model")
    out, err = capsys.readouterr()
    assert out == "model\n"
    assert "load_model('model')" in err
    assert run("export", NAME, "one", "--out", "model") == 2


def test_export_passes_format_folding_batch_and_licence_on(fake: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--fold-bn", "--batch", "4", "--licence", "MIT"]
    assert run("export", NAME, "1", "--out", "model", "--format", "onnx", *options) == 0
    assert run("select", NAME, "--export", "model", "--export-format", "onnx", *options) == 0
    wanted = {"format": "onnx", "fold_bn": True, "batch": 4, "licence": "MIT", "store": None}
    assert [call[2] for call in fake.calls if call[0] == "export"] == [wanted, wanted]
    assert "onnxruntime" in capsys.readouterr().err
    assert run("export", NAME, "1", "--out", "model", "--batch", "many") == 2
    assert run("export", NAME, "1", "--out", "model", "--format", "tflite") == 2


def test_space(fake: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    run("space", "resnet20", "--check", "--input", "3x32x32")
    out = capsys.readouterr().out
    assert fake.calls == [("space", ("resnet20",), {"check": True, "input_shape": (3, 32, 32)})]
    groups = ("4, 8, ..., 16", "12.3 %", "2e-16", "and 1 more")
    for expected in (*groups, "98.7 %", "left out: layer2.shortcut", "aten::bmm", "3.1e-16"):
        assert expected in out
    run("space", "resnet20", "--format", "json")
    content = json.loads(capsys.readouterr().out)
    assert content["groups"][0]["allowed"] == [4, 8, 12, 16]
    assert content["size"] == str(4**19)  # beyond what a JSON number holds exactly
    run("space", "resnet20", "--format", "csv")
    assert "a.conv1,16,1,4 8 12 16,a.conv1.weight[0] a.bn1" in capsys.readouterr().out
    assert run("space", "resnet20", "--input", "32") == 2


def test_report_prints_where_it_is(fake: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    run("report", NAME, "--out", "shared")
    assert fake.calls == [("report", (NAME,), {"store": None, "out": "shared"})]
    assert capsys.readouterr().out == f"results/{NAME}\n"


def test_a_narrow_terminal_loses_columns_but_no_digits(
    fake: Recorder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for columns, shown in ((100, True), (58, False), (20, False)):
        monkeypatch.setenv("COLUMNS", str(columns))
        run("front", NAME)
        out = capsys.readouterr().out
        assert "20.4M (51.0 %)" in out
        assert "…" not in out
        assert ("40.8M (51.0 %)" in out) == shown
        assert ("Not shown for want of room: flops" in out) != shown
