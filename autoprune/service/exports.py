"""Routes that hand models over."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from fastapi.responses import FileResponse

from autoprune.api.artifacts import Artifact
from autoprune.errors import Conflict
from autoprune.service.context import Here
from autoprune.service.parameters import Number, SearchName, errors
from autoprune.service.replies import reply
from autoprune.service.schemas import ExportBody, ExportRequest

__all__ = ["router"]

router = APIRouter(tags=["exports"], responses=errors())

ExportId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="An export.", examples=["0123456789abcdef"])]


@router.post(
    "/searches/{name}/trials/{number}/exports", status_code=202, response_model=ExportBody, responses=errors(409)
)
def export(name: SearchName, number: Number, body: ExportRequest, here: Here) -> Response:
    """Build a trial's model anew, verify it and keep it for download. Equal requests share one file."""
    record, trial = here.reader.search(name), here.reader.trial(name, number)
    made = here.exporter.start(record, trial, format=body.format, fold_bn=body.fold_bn)
    return reply(_body(made), 202)


@router.get("/exports/{export_id}", response_model=ExportBody)
def one_export(export_id: ExportId, here: Here) -> Response:
    """How far an export is."""
    return reply(_body(here.exporter.find(export_id)))


@router.get(
    "/exports/{export_id}/download",
    response_class=FileResponse,
    responses={
        **errors(409),
        200: {"description": "The model's folder as a zip file.", "content": {"application/zip": {}}},
        206: {"description": "A part of it (Range)."},
        416: {"description": "There is no such part."},
    },
)
def download(export_id: ExportId, here: Here) -> Response:
    """The exported model."""
    found = here.exporter.find(export_id)
    if found.path is None:
        raise Conflict(f"export {export_id} is {found.state}. {found.message}".strip(), "Wait until it is ready.")
    name = f"{found.search}-{found.trial}-{found.format}.zip"
    return FileResponse(found.path, media_type="application/zip", filename=name)


def _body(made: Artifact) -> dict[str, Any]:
    return {
        "id": made.id,
        "search": made.search,
        "trial": made.trial,
        "format": made.format,
        "state": made.state,
        "message": made.message,
        "bytes": made.bytes,
    }
