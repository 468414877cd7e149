"""The application: routes, guard and web page."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.responses import RedirectResponse
from fastapi.security import HTTPBearer
from starlette.staticfiles import StaticFiles

from autoprune import __version__
from autoprune.api.working import Worker
from autoprune.errors import AutopruneError
from autoprune.service import catalog, events, exports, fronts, launching, monitoring, searches
from autoprune.service.compressing import Compressing
from autoprune.service.context import Context, Here
from autoprune.service.counting import Counting
from autoprune.service.guard import API, Guard
from autoprune.service.limits import BodyLimit
from autoprune.service.parameters import errors
from autoprune.service.replies import add_handlers, encoded, reply
from autoprune.service.schemas import HealthBody
from autoprune.service.settings import Settings

__all__ = ["create_app"]

_log = logging.getLogger(__name__)
_STATIC = Path(__file__).parent / "static"
_ABOUT = (
    "Searches for pruned CNNs: launch them, watch them, query their Pareto fronts, take the models home. "
    "Errors have one shape: `{error: {code, message, hint}}`."
)


def create_app(settings: Settings) -> FastAPI:
    """The application of one server. Its threads and processes start and end with its lifespan."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with _working(settings):
            yield
            app.state.context.closing.set()
        app.state.context.close()

    app = FastAPI(
        title="autoprune",
        version=__version__,
        description=_ABOUT,
        openapi_url=None,  # below, written once
        docs_url=None,
        generate_unique_id_function=lambda route: route.name,  # what generated clients call their functions
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.context = Context(settings)
    add_handlers(app)
    for part in _ROUTERS:
        app.include_router(part, prefix=API, dependencies=[Depends(_BEARER)])
    _add_document(app)
    _add_page(app)
    app.add_middleware(Compressing, settings=settings)
    app.add_middleware(BodyLimit, limits=settings.limits)
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(Counting, requests=app.state.context.requests)
    return app


@contextmanager
def _working(settings: Settings) -> Iterator[None]:
    """A worker beside the server; at the end its searches are interrupted and wait for the next server."""
    if not settings.parallel:
        yield
        return
    worker = Worker(settings.store, parallel=settings.parallel, say=_log.warning, ray_address=settings.ray_address)
    thread = threading.Thread(target=worker.run, name="worker")
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()


_about = APIRouter(tags=["server"], responses=errors())


@_about.get("/health", response_model=HealthBody)
def health(here: Here) -> Response:
    """Whether the server can answer. Needs no token."""
    try:
        here.reader.activity()
        usable = True
    except AutopruneError:
        usable = False
    content = {
        "status": "ok" if usable else "degraded",
        "version": __version__,
        "store": "ok" if usable else "unavailable",
        "launching": True,
    }
    return reply(content, 200 if usable else 503)


_BEARER = HTTPBearer(auto_error=False, description="Of the server's token file, where it was started with one.")
"""For the OpenAPI document alone: the guard has looked at the token before any route runs."""
_ROUTERS = (
    _about,
    searches.router,
    fronts.router,
    launching.router,
    exports.router,
    events.router,
    catalog.router,
    monitoring.router,
)


def _add_document(app: FastAPI) -> None:
    """The OpenAPI document: 100 kB, which take 5 ms to write."""
    written = cache(lambda: encoded(app.openapi()))

    @app.get(f"{API}/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(written(), media_type="application/json")


def _add_page(app: FastAPI) -> None:
    """The web page under ``/``."""

    @app.get("/", include_in_schema=False)
    def root() -> Response:
        return RedirectResponse("/static/index.html")

    app.mount("/static", StaticFiles(directory=_STATIC, html=True, check_dir=False), name="static")
