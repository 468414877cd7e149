"""Routes that start, stop and delete searches."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from autoprune.api import launches as queue
from autoprune.config.schema import SearchConfig
from autoprune.errors import AutopruneError, ConfigError
from autoprune.service.context import Context, Here
from autoprune.service.parameters import SearchName, errors
from autoprune.service.policy import read_config
from autoprune.service.replies import reply
from autoprune.service.schemas import (
    LaunchBody,
    LaunchesBody,
    LogBody,
    ResumeBody,
    TemplatesBody,
    ValidationBody,
)
from autoprune.types import Launch

__all__ = ["launch_body", "router"]


def _usable(here: Here) -> None:
    """A store that is gone is 503, and no new one is made in its place."""
    here.reader.store  # noqa: B018


router = APIRouter(tags=["launches"], responses=errors(), dependencies=[Depends(_usable)])

_MOST_LOG = 256 * 1024
_MEDIA = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "application/json", "text/plain")
_EXAMPLE = (
    "name: digits-quickstart\n"
    "space:\n  model: {kind: builtin, name: resnet8}\n  data: {kind: digits}\n"
    "controller: {kind: regression}\nlimits: {trials: 60}\n"
)
_CONFIG_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A launch file, as YAML or as JSON of the same shape (see `/schema`).",
        "content": {
            "application/yaml": {"schema": {"type": "string"}, "example": _EXAMPLE},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}
LaunchId = Annotated[int, Path(ge=1, le=2**31, description="A launch.", examples=[3])]


def launch_body(launch: Launch, position: int | None = None) -> dict[str, Any]:
    """``LaunchBody``."""
    return {
        "id": launch.id,
        "search": launch.search,
        "state": launch.state.value,
        "message": launch.message,
        "created_at": launch.created_at,
        "started_at": launch.started_at,
        "finished_at": launch.finished_at,
        "worker": launch.worker,
        "stopping": launch.stopping,
        "position": position,
    }


async def _config(request: Request, here: Context) -> SearchConfig:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in _MEDIA:
        raise HTTPException(415, "expected a launch file as application/yaml or application/json")
    body = await request.body()
    return await run_in_threadpool(read_config, body, media, here.settings)


@router.post(
    "/launches", status_code=202, response_model=LaunchBody, responses=errors(409, 415), openapi_extra=_CONFIG_BODY
)
async def launch(request: Request, here: Here) -> Response:
    """Run a search. It waits in the queue until a worker is free; the configuration is checked at once."""
    config = await _config(request, here)
    made = await run_in_threadpool(queue.enqueue, config, store=here.settings.store)
    return await run_in_threadpool(_reply, here, made)


@router.post("/validate", response_model=ValidationBody, responses=errors(415), openapi_extra=_CONFIG_BODY)
async def validate(request: Request, here: Here) -> Response:
    """Say what is wrong with a configuration, without running it."""
    try:
        config = await _config(request, here)
    except AutopruneError as error:
        if error.http_status not in (403, 422):
            raise
        return reply({"valid": False, "problems": list(_problems(error)), "hint": error.hint, "config": None})
    return reply({"valid": True, "problems": [], "hint": "", "config": config.model_dump(mode="json")})


def _problems(error: AutopruneError) -> Iterator[dict[str, Any]]:
    """One for each line of the message that names a mistake."""
    lines = [line.strip() for line in error.message.splitlines()]
    for line in lines[1:] if len(lines) > 1 else lines:
        placed = re.fullmatch(r"request:(\d+): (.*)", line)
        yield {"line": int(placed[1]) if placed else None, "message": placed[2] if placed else line}


@router.get("/launches", response_model=LaunchesBody)
def launches(
    here: Here,
    search: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """What waits, runs and has run, the youngest first."""
    found = queue.launches(search, limit=limit, store=here.settings.store)
    waiting = sorted(each.id for each in found if each.state.value == "queued")
    places = {launch_id: place for place, launch_id in enumerate(waiting, 1)}
    return reply({"launches": [launch_body(each, places.get(each.id)) for each in found]})


@router.get("/launches/{launch_id}", response_model=LaunchBody)
def one_launch(launch_id: LaunchId, here: Here) -> Response:
    """One launch."""
    return _reply(here, queue.launch(launch_id, store=here.settings.store), 200)


@router.get("/launches/{launch_id}/log", response_model=LogBody)
def log(
    launch_id: LaunchId, here: Here, after: Annotated[int, Query(ge=0, le=2**50, description="Bytes read so far.")] = 0
) -> Response:
    """What its driver wrote since the last call."""
    ended = queue.launch(launch_id, store=here.settings.store).state.ended
    found = b""
    with (
        contextlib.suppress(FileNotFoundError),
        queue.log_file(launch_id, store=here.settings.store).open("rb") as file,
    ):
        file.seek(after)
        found = file.read(_MOST_LOG)
    content = {"text": found.decode("utf-8", "replace"), "next": after + len(found), "ended": ended and not found}
    return reply(content)


@router.post("/launches/{launch_id}/stop", status_code=202, response_model=LaunchBody, responses=errors(409))
def stop_launch(launch_id: LaunchId, here: Here) -> Response:
    """End a launch in good order: what was measured is kept."""
    return _changed(here, lambda: queue.stop(launch_id=launch_id, store=here.settings.store))


@router.post("/searches/{name}/stop", status_code=202, response_model=LaunchBody, responses=errors(409))
def stop(name: SearchName, here: Here) -> Response:
    """End the launch that runs this search, in good order."""
    return _changed(here, lambda: queue.stop(name, store=here.settings.store))


@router.post("/searches/{name}/resume", status_code=202, response_model=LaunchBody, responses=errors(409))
def resume(name: SearchName, here: Here, body: Annotated[ResumeBody | None, Body()] = None) -> Response:
    """Go on with a search that was stopped or cut off, or run more trials."""
    trials = None if body is None else body.trials
    return _changed(here, lambda: queue.enqueue_resume(name, trials=trials, store=here.settings.store))


@router.delete("/searches/{name}", status_code=204, responses=errors(409))
def delete(
    name: SearchName,
    here: Here,
    confirm: Annotated[str, Query(max_length=100, description="The search's name again.")] = "",
) -> Response:
    """Delete a search with its trials for good."""
    here.reader.stamp(name)
    if confirm != name:
        raise ConfigError(f"deleting {name!r} for good needs 'confirm={name}'.", "Nothing was deleted.")
    queue.delete(name, store=here.settings.store)
    return Response(status_code=204)


@router.get("/templates", response_model=TemplatesBody)
def templates() -> Response:
    """Configurations to begin with."""
    found = []
    for file in sorted(files("autoprune.service").joinpath("templates").iterdir(), key=lambda file: file.name):
        text = file.read_text("utf-8")
        summary = text.partition("\n")[0].lstrip("# ")
        found.append({"name": file.name.removesuffix(".yaml"), "summary": summary, "yaml": text})
    return reply({"templates": found})


def _changed(here: Context, change: Callable[[], Launch]) -> Response:
    return _reply(here, change())


def _reply(here: Context, launch: Launch, status: int = 202) -> Response:
    place = queue.position(launch.id, store=here.settings.store)
    return reply(launch_body(launch, place), status)
