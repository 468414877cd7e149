"""Launch files: every mistake at once, with file, line, key and the nearest known name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from autoprune.config.benchmark import BenchmarkConfig
from autoprune.config.loading import load_search, load_space, load_with_space
from autoprune.errors import ConfigError

SPACE = {"model": {"kind": "builtin", "name": "resnet8"}, "data": {"kind": "digits"}}
SEARCH = {"name": "demo", "space": SPACE}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(source: object, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_search(source, overrides)  # type: ignore[arg-type]
    return str(caught.value)


def test_all_mistakes_at_once_with_line_key_and_nearest_name(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "launch.yaml",
        """name: demo
space:
  model: {kind: builtin, name: resnet8}
  data: {kind: digts}
controler: {kind: optuna}
controller:
  kind: optuna
  populaton: 30
limits:
  trials: many
""",
    )
    message = refused(path)
    assert "4 mistakes" in message
    assert f"{path}:4: space.data.kind is 'digts'. Did you mean 'digits'?" in message
    assert f"{path}:5: unknown key 'controler'. Did you mean 'controller'?" in message
    assert f"{path}:8: unknown key 'controller.populaton'. Did you mean 'population'?" in message
    assert f"{path}:10: limits.trials" in message
    assert "'many'" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [unclosed", "not valid YAML"),
        ("a: &x [1]\nb: *x", "2: YAML aliases (*x) are not accepted"),
        ("name: a\nname: b", "2: the key 'name' is given twice"),
        ("- just\n- a list", "expected keys and values at the top level, found a list"),
        ("", "found nothing"),
        ("name: !!python/object/apply:os.system [echo]", "is not accepted; write plain"),
    ],
)
def test_broken_yaml(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, "x.yaml", text)
    message = refused(path)
    assert expected in message


def test_missing_and_oversized_and_binary_files(tmp_path: Path) -> None:
    assert "there is no file" in refused(tmp_path / "none.yaml")
    assert "bytes; a configuration has at most" in refused(write(tmp_path, "big.yaml", "#" * 300_000))
    binary = tmp_path / "x.pt"
    binary.write_bytes(b"\x80\x02\xff\xfe")
    assert "not UTF-8" in refused(binary)


def test_space_file_is_found_beside_the_launch_folder(tmp_path: Path) -> None:
    write(tmp_path, "search_spaces/s.yaml", yaml.safe_dump(SPACE))
    launch = write(tmp_path, "launch/l.yaml", "name: demo\nspace: search_spaces/s.yaml\n")
    assert load_search(launch).space.model.name == "resnet8"
    assert "there is no search space file 'other.yaml'" in refused(launch, "space=other.yaml")


def test_mistake_in_the_space_file_names_that_file(tmp_path: Path) -> None:
    space = write(
        tmp_path, "search_spaces/s.yaml", "model: {kind: builtin, name: a}\ndata: {kind: digits}\nrulez: []\n"
    )
    launch = write(tmp_path, "launch/l.yaml", "name: demo\nspace: search_spaces/s.yaml\n")
    assert f"{space}:3: unknown key 'space.rulez'. Did you mean 'rules'?" in refused(launch)


def test_overrides_are_typed_and_reach_into_the_space() -> None:
    config = load_search(
        SEARCH, ["limits.trials=7", "space.base.recipe.lr=1e-3", "constraints=[macs <= 0.5 * baseline]", "seed=3"]
    )
    assert (config.limits.trials, config.space.base.recipe.lr, config.seed) == (7, 1e-3, 3)
    assert config.constraints == ("macs <= 0.5 * baseline",)
    assert load_search(config, ["seed=4"]).seed == 4
    assert "--set limits.trails: unknown key 'limits.trails'. Did you mean 'trials'" in refused(
        SEARCH, "limits.trails=7"
    )
    assert "expected KEY=VALUE" in refused(SEARCH, "limits.trials")
    assert "'x' does not name something inside a list" in refused({**SEARCH, "constraints": []}, "constraints.x=1")


def test_a_wrong_constraint_is_reported_with_the_rest() -> None:
    message = refused({**SEARCH, "constraints": ["macs <= much"], "objectives": ["top1 up"], "seed": -1})
    assert "3 mistakes" in message
    assert "bound 'much' is not a number" in message
    assert "'top1 up'" in message


def test_digest_ignores_where_and_how_long_but_not_what() -> None:
    base = load_search(SEARCH)
    moved = load_search(SEARCH, ["limits.trials=999", "executor.kind=serial", "store=sqlite:///x.db", "output=y"])
    assert moved.digest() == base.digest()
    for change in ("seed=1", "evaluator.validation_images=10", "objectives=[top1 max]", "controller.kind=random"):
        assert load_search(SEARCH, [change]).digest() != base.digest()


def test_evaluation_digest_ignores_controller_and_rules() -> None:
    base = load_search(SEARCH)
    same = load_search(SEARCH, ["controller.kind=random", "name=other", "space.rules=[{floor: 0.5}]"])
    assert same.evaluation_digest() == base.evaluation_digest()
    other = load_search(SEARCH, ["evaluator.weights.criterion=l2"])
    assert other.evaluation_digest() != base.evaluation_digest()


def test_space_alone() -> None:
    assert load_space(SPACE).data.kind == "digits"
    with pytest.raises(ConfigError, match="'model' is required and missing"):
        load_space({"data": {"kind": "digits"}})


def test_every_shipped_file_is_valid() -> None:
    root = Path(__file__).resolve().parents[2]
    spaces = sorted((root / "search_spaces").glob("*.yaml"))
    launches = sorted((root / "launch").glob("*.yaml"))
    benchmarks = [path for path in launches if path.name.startswith("benchmark_controllers_")]
    assert spaces
    assert benchmarks
    assert set(launches) > set(benchmarks)
    for path in spaces:
        load_space(path)
    for path in launches:
        load_with_space(BenchmarkConfig, path) if path in benchmarks else load_search(path)
