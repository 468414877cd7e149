"""What README promises can be typed as it stands."""

from __future__ import annotations

import re
import runpy
import shlex
import warnings
from pathlib import Path

import pytest

import autoprune
from autoprune.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


def files() -> dict[str, str]:
    """Blocks that begin with a comment of a file's name."""
    found = re.findall(r"```(?:python|yaml)\n# (\w+\.\w+)\n(.*?)```", TEXT, re.S)
    return dict(found)


def test_two_set_up_commands() -> None:
    marked = re.findall(r"<!-- (install-and-\w+) -->\n```sh\n(.*?)```", TEXT, re.S)
    assert [name for name, _ in marked] == ["install-and-run", "install-and-test"]
    assert all(len(command.strip().splitlines()) == 1 for _, command in marked)


def run(line: str) -> None:
    """A command of the README, in this process: a new one would spend most of its time importing torch."""
    program, *arguments = shlex.split(line)
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # libraries' own, which stop no user
        if program == "python":
            runpy.run_path(arguments[0], run_name="__main__")
        else:
            assert program == "autoprune"
            with pytest.raises(SystemExit) as left:
                main(arguments)
            assert not left.value.code, line


def test_the_python_examples_run(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("launch", "search_spaces"):
        (workplace / name).symlink_to(ROOT / name)
    (workplace / "example.py").write_text(
        "\n".join(block for block in blocks("python") if not re.match(r"# \w+\.py\n", block))
    )
    run("python example.py")
    assert "Conv2d(3, 12" in capsys.readouterr().out
    assert (workplace / "model/model.safetensors").exists()
    assert (workplace / "by-hand-onnx/model.onnx").exists()


def test_the_example_of_a_users_own_model_runs(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files, and its commands one by one."""
    named = files()
    assert sorted(named) == ["own.py", "own.yaml", "own_train.py"]
    for name, text in named.items():
        (workplace / name).write_text(text)
    monkeypatch.syspath_prepend(workplace)  # as for a script of this folder
    (commands,) = [block for block in blocks("sh") if "own.yaml" in block]
    lines = commands.strip().splitlines()
    assert lines[0] == "python own_train.py"
    for line in lines:
        run(line)
    assert (workplace / "pruned/model.onnx").exists()
    assert "onnxruntime, batch 1" in capsys.readouterr().out
    baseline = autoprune.searches()[0].baseline
    assert baseline["top1"] > 0.85  # the checkpoint's weights and its normalisation were taken over


def test_every_command_and_file_it_names_exists() -> None:
    from autoprune.cli.main import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    named = set(re.findall(r"\bautoprune (?!-)([a-z]+) ", " ".join(blocks("sh") + blocks("console"))))
    assert named <= known
    for path in set(re.findall(r"\b((?:launch|search_spaces|results)/[\w./-]+\.\w+)", TEXT)):
        if not path.startswith(("results/digits-quickstart", "results/autoprune.db")):
            assert (ROOT / path).exists(), path


def test_help_names_files_that_exist() -> None:
    from autoprune.cli.main import app

    for command in app.registered_commands:
        for path in re.findall(r"\b((?:launch|search_spaces)/\w+\.yaml)", command.epilog or ""):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("phrase", ["macs", "search-val", "test split"])
def test_definitions_are_given(phrase: str) -> None:
    assert phrase in TEXT.replace("**test** split", "test split")
