"""What the routes that read answer, and that it is what the schemas say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import autoprune
from autoprune.service import schemas
from autoprune.store import open_store
from autoprune.store.points import PresetPoint, save_point

API = "/api/v1"


def get(client: TestClient, path: str, status: int = 200, **query: Any) -> Any:
    answer = client.get(f"{API}{path}", params=query)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_searches_and_one_search(client: TestClient) -> None:
    listed = schemas.SearchesBody.model_validate(get(client, "/searches"), strict=True).searches
    assert [(each.name, each.state, each.driven, each.trials, each.limit) for each in listed] == [
        ("s", "complete", False, 7, 9)
    ]
    found = schemas.SearchBody.model_validate(get(client, "/searches/s"), strict=True)
    assert found.channels == {"a": 8, "b": 16}
    assert found.metrics == ["top1", "loss", "macs", "params"]


def test_trials_come_in_pages(client: TestClient) -> None:
    seen, cursor = [], {}
    while True:
        page = schemas.TrialsBody.model_validate(get(client, "/searches/s/trials", limit=3, **cursor), strict=True)
        seen += [trial.number for trial in page.trials]
        if page.next is None:
            break
        cursor = {"cursor": page.next}
    assert seen == list(range(7))


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"sort": "-number"}, [6, 5, 4, 3, 2, 1, 0]),
        ({"sort": "-number", "cursor": "3"}, [2, 1, 0]),
        ({"after": 4}, [5, 6]),
        ({"after": 6}, []),
        ({"state": ["failed", "stopped"]}, [3, 4]),
        ({"sort": "macs"}, [5, 6, 1, 2, 0]),
        ({"sort": "-top1", "limit": 2}, [0, 1]),
        ({"sort": "-top1", "cursor": "1"}, [5, 6, 2]),
        ({"where": ["macs <= 0.6 * baseline", "top1 >= 0.6"]}, [1, 5, 6]),
        ({"where": "macs <= 0.6 * baseline", "sort": "-number", "after": 1}, [6, 5, 2]),
        ({"where": "macs <= 60", "state": "failed"}, []),
    ],
)
def test_trials_are_filtered_and_sorted(client: TestClient, query: dict[str, Any], numbers: list[int]) -> None:
    assert [trial["number"] for trial in get(client, "/searches/s/trials", **query)["trials"]] == numbers


def test_numbers_that_are_not_finite_are_null(client: TestClient) -> None:
    found = get(client, "/searches/s/trials/5")
    assert found["trial"]["metrics"]["loss"] is None
    assert schemas.CandidateBody.model_validate(found, strict=True).shares == {"macs": 0.4, "params": 0.4}
    assert found["groups"][0] == {"group": "a", "channels": 8, "width": 3, "keep_ratio": 3 / 8}


def test_the_front_is_that_of_the_library(client: TestClient, store: str) -> None:
    body = schemas.FrontBody.model_validate(get(client, "/searches/s/front", others=10), strict=True)
    expected = autoprune.front("s", store=store)
    assert [trial.number for trial in body.front] == [trial.number for trial in expected.trials] == [5, 1, 0]
    assert (body.considered, body.others.total) == (expected.considered, 2)
    assert body.others.number == [2, 6]
    assert body.others.values == [[60.0, 45.0], [0.5, 0.6]]
    assert body.uniform == [1]


def test_the_front_is_never_thinned_and_uniform_widths_stay(client: TestClient) -> None:
    body = get(client, "/searches/s/front", others=1, where="macs <= 60")
    assert [trial["number"] for trial in body["front"]] == [5, 1]
    assert body["others"] == {"number": [0], "values": [[100.0], [0.9]], "total": 3}


def test_a_front_of_three_axes(client: TestClient) -> None:
    body = get(client, "/searches/s/front", x="macs", y="top1", z="params max")
    assert [axis["metric"] for axis in body["axes"]] == ["macs", "top1", "params"]
    assert [trial["number"] for trial in body["front"]] == [5, 6, 1, 0], "more parameters count as better here"


def test_an_unchanged_front_is_not_sent_again(client: TestClient, store: str) -> None:
    first = client.get(f"{API}/searches/s/front")
    tag = {"If-None-Match": first.headers["etag"]}
    assert client.get(f"{API}/searches/s/front", headers=tag).status_code == 304
    with open_store(store) as opened:
        opened.add_metrics("s", 5, {"test_top1": 0.6})
    again = client.get(f"{API}/searches/s/front", headers=tag)
    assert again.status_code == 200
    assert again.json()["front"][0]["metrics"]["test_top1"] == 0.6


def test_select_and_the_nearest_miss(client: TestClient) -> None:
    body = schemas.SelectionBody.model_validate(
        get(client, "/searches/s/select", where=["macs <= 60", "params <= 8"]), strict=True
    )
    assert (body.trial.number, body.considered) == (1, 5)
    missed = schemas.InfeasibleBody.model_validate(get(client, "/searches/s/select", 422, where="macs <= 30"))
    assert missed.error.code == "nothing_feasible"
    assert missed.nearest is not None
    assert missed.nearest.trial == 5
    assert [(each.value, each.bound) for each in missed.nearest.misses] == [(40.0, 30.0)]


def test_the_history_is_that_of_the_library(client: TestClient, store: str) -> None:
    body = schemas.HistoryBody.model_validate(get(client, "/searches/s/history"), strict=True)
    rows = autoprune.history("s", store=store).rows()
    assert body.trial == [row["trial"] for row in rows]
    assert body.hypervolume == [row["hypervolume"] for row in rows]
    assert body.seconds == [100.0 + number for number in body.trial]


def test_a_comparison_is_read_from_the_folder_of_the_search(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert get(client, "/searches/s/comparisons", 404)["error"]["code"] == "not_found"
    folder = tmp_path / "results" / "s" / "compare"
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text('{"verdicts": []}')
    body = schemas.ComparisonsBody.model_validate(get(client, "/searches/s/comparisons"), strict=True)
    assert body.comparisons[0].report == {"verdicts": []}


def test_models_of_procedures_stand_beside_a_front(client: TestClient, store: str) -> None:
    assert get(client, "/searches/s/presets") == {"presets": []}
    with open_store(store) as opened:
        save_point(opened, "s", PresetPoint("d", "li2016", {}, {"a": 4, "b": 8}, {"top1": 0.75, "macs": 50.0}))
    body = schemas.PresetsBody.model_validate(get(client, "/searches/s/presets"), strict=True)
    assert body.presets[0].model_dump() == {
        "label": "li2016",
        "widths": {"a": 4, "b": 8},
        "metrics": {"top1": 0.75, "macs": 50.0},
    }
    assert get(client, "/searches/other/presets", 404)["error"]["code"] == "not_found"


def test_what_a_configuration_may_contain(client: TestClient) -> None:
    controllers = schemas.KindsBody.model_validate(get(client, "/controllers"), strict=True).kinds
    assert {"amc", "evolution", "metapruning", "optuna", "random", "regression"} <= {each.name for each in controllers}
    assert all(each.summary and each.configuration["properties"] for each in controllers)
    assert "group_l2" in [each["name"] for each in get(client, "/criteria")["kinds"]]
    assert {"inherit", "hypernet"} <= {each["name"] for each in get(client, "/weights")["kinds"]}
    assert "objectives" in get(client, "/schema")["properties"]


@pytest.mark.parametrize(
    ("path", "query", "status", "says"),
    [
        ("/searches/nix", {}, 404, "no search named 'nix'"),
        ("/searches/nix/front", {}, 404, "no search named 'nix'"),
        ("/searches/nix/trials", {"sort": "top1"}, 404, "no search named 'nix'"),
        ("/searches/s/trials/99", {}, 404, "no trial 99"),
        ("/searches/s/trials", {"sort": "speed"}, 422, "speed"),
        ("/searches/s/trials", {"where": "macs is small"}, 422, "not understood"),
        ("/searches/s/trials", {"sort": "macs", "cursor": "3"}, 422, "cursor 3"),
        ("/searches/s/trials", {"limit": 1001}, 422, "query.limit"),
        ("/searches/s/trials", {"state": "lost"}, 422, "query.state"),
        ("/searches/s/front", {"x": "top1", "y": "top1"}, 422, "each must be another metric"),
        ("/searches/s/front", {"z": "watts"}, 422, "watts"),
        ("/searches/s/front", {"others": "many"}, 422, "query.others"),
        ("/searches/s/select", {"maximize": "top1", "minimize": "macs"}, 422, "both"),
        ("/searches/s/select", {"maximize": "test_top1"}, 422, "test split"),
        ("/searches/s/history", {"x": "a b c"}, 422, "not understood"),
        ("/searches/..%2Fa", {}, 404, ""),
        ("/nothing", {}, 404, "Not Found"),
    ],
)
def test_mistakes_are_explained_in_one_shape(
    client: TestClient, path: str, query: dict[str, Any], status: int, says: str
) -> None:
    error = schemas.ErrorBody.model_validate(get(client, path, status, **query), strict=True).error
    assert says in error.message


def test_every_parameter_and_error_is_documented(client: TestClient) -> None:
    document = get(client, "/openapi.json")
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            assert route["summary"], (path, method)
            assert {"401", "403", "404", "422", "429", "503"} <= route["responses"].keys(), (path, method)
    assert document["components"]["schemas"]["ErrorBody"]["examples"]
    names = [route["operationId"] for methods in document["paths"].values() for route in methods.values()]
    assert len(set(names)) == len(names) > 20
    assert all(name.isidentifier() for name in names)
