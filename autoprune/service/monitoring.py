"""Numbers for Prometheus."""

from __future__ import annotations

from collections import Counter

from fastapi import APIRouter, Response

from autoprune.api import launches as queue
from autoprune.service.context import Context, Here
from autoprune.service.parameters import errors

__all__ = ["router"]

router = APIRouter(tags=["server"], responses=errors())


@router.get(
    "/metrics", response_class=Response, responses={200: {"description": "Text.", "content": {"text/plain": {}}}}
)
def metrics(here: Here) -> Response:
    """Searches, trials, launches and requests in Prometheus' text format."""
    return Response("\n".join([*_requests(here), *_content(here), ""]), media_type="text/plain; version=0.0.4")


def _requests(here: Context) -> list[str]:
    counts, seconds = here.requests.read()
    lines = ["# TYPE autoprune_requests_total counter"]
    for (method, status), count in sorted(counts.items()):
        lines.append(f'autoprune_requests_total{{method="{method}",status="{status}"}} {count}')
    return [
        *lines,
        "# TYPE autoprune_request_seconds_total counter",
        f"autoprune_request_seconds_total {seconds:.6f}",
        "# TYPE autoprune_event_streams gauge",
        f"autoprune_event_streams {here.streams}",
        "# TYPE autoprune_start_time_seconds gauge",
        f"autoprune_start_time_seconds {here.requests.began:.3f}",
    ]


def _content(here: Context) -> list[str]:
    searches: Counter[str] = Counter()
    trials: Counter[str] = Counter()
    for record in here.reader.searches():
        searches[record.state.value] += 1
        trials.update(record.trial_counts)
    launches = Counter(each.state.value for each in queue.launches(store=here.settings.store))
    lines = []
    for what, counts in (("searches", searches), ("trials", trials), ("launches", launches)):
        lines.append(f"# TYPE autoprune_{what} gauge")
        lines += [f'autoprune_{what}{{state="{state}"}} {count}' for state, count in sorted(counts.items())]
    return lines
