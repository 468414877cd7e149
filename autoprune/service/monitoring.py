"""Numbers for Prometheus. They come even when the store is gone: ``autoprune_store_up`` is then 0."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from fastapi import APIRouter, Response

from autoprune import __version__
from autoprune.api import launches as queue
from autoprune.errors import AutopruneError, NotFound
from autoprune.service.context import Context, Here
from autoprune.service.counting import BOUNDS
from autoprune.service.exposition import MEDIA_TYPE, Family, histogram, text
from autoprune.service.parameters import errors
from autoprune.types import LaunchState, SearchRecord, SearchState, TrialState

__all__ = ["router"]

router = APIRouter(tags=["server"], responses=errors())


@router.get(
    "/metrics", response_class=Response, responses={200: {"description": "Text.", "content": {"text/plain": {}}}}
)
def metrics(here: Here) -> Response:
    """Searches, trials, fronts, leases, launches and requests in Prometheus' text format."""
    families = list(_server(here))
    began = time.perf_counter()
    try:
        content = list(_content(here))
        up = 1
    except AutopruneError:
        content, up = [], 0
    families.append(Family("store_up", "gauge", "Whether the store can be read.").add(up))
    means = "Time that reading the store took for this page."
    families.append(Family("store_read_seconds", "gauge", means).add(time.perf_counter() - began))
    return Response(text([*families, *content]), media_type=MEDIA_TYPE)


def _server(here: Context) -> Iterator[Family]:
    answers = here.requests.read()
    yield Family("build_info", "gauge", "The version that serves.").add(1, version=__version__)
    began = Family("start_time_seconds", "gauge", "When the server began, in seconds since the epoch.")
    yield began.add(here.requests.began)
    yield Family("event_streams", "gauge", "Streams of events that are open.").add(here.streams)
    requests = Family("requests_total", "counter", "Answers by method and status.")
    for (method, status), count in sorted(answers.counts.items()):
        requests.add(count, method=method, status=status)
    yield requests
    means = "Seconds up to the first byte of an answer."
    yield histogram("request_seconds", means, BOUNDS, answers.classes, answers.seconds)


def _content(here: Context) -> Iterator[Family]:
    records = here.reader.searches()
    ages = here.reader.lease_ages()
    yield _counted("searches", "Searches by state.", Counter(each.state.value for each in records), SearchState)
    trials: Counter[str] = Counter()
    for record in records:
        trials.update(record.trial_counts)
    yield _counted("trials", "Trials of all searches by state.", trials, TrialState)
    launches = Counter(each.state.value for each in queue.launches(store=here.settings.store))
    yield _counted("launches", "Launches by state.", launches, LaunchState)
    waiting = launches[LaunchState.QUEUED.value]
    yield Family("queue_length", "gauge", "Launches that wait for a worker.").add(waiting)
    yield Family("drivers", "gauge", "Drivers that hold a search and may live.").add(len(ages))
    lease = Family("lease_age_seconds", "gauge", "Since the driver of a search was heard from.")
    for name, age in sorted(ages.items()):
        lease.add(age, search=name)
    yield lease
    yield from _of_searches(here, records)


def _counted(
    name: str, means: str, counts: Counter[str], states: type[SearchState] | type[TrialState] | type[LaunchState]
) -> Family:
    """Every state, also those that none is in: a series that comes and goes cannot be summed."""
    family = Family(name, "gauge", means)
    for state in states:
        family.add(counts[state.value], state=state.value)
    return family


def _of_searches(here: Context, records: list[SearchRecord]) -> Iterator[Family]:
    trials = Family("search_trials", "gauge", "Trials of a search by state.")
    limit = Family("search_trials_limit", "gauge", "Trials that a search shall have.")
    front = Family("front_size", "gauge", "Trials on the front of a search's cost and quality.")
    volume = Family("front_hypervolume_ratio", "gauge", "Hypervolume of the front, of the range of all trials.")
    retries = Family("trial_retries_total", "counter", "Attempts that were begun again after an accident.")
    failures = Family("trial_failures_total", "counter", "Trials that failed for good, by the kind of their reason.")
    here.vitals.forget({record.name for record in records})
    for record in sorted(records, key=lambda each: each.name):
        try:
            found = here.vitals.of(record.name)
        except NotFound:  # deleted meanwhile
            continue
        for state, count in record.trial_counts.items():
            trials.add(count, search=record.name, state=state)
        limit.add(int((record.config.get("limits") or {}).get("trials") or 0), search=record.name)
        front.add(found.front, search=record.name)
        volume.add(found.volume, search=record.name)
        retries.add(found.retries, search=record.name)
        for kind, count in sorted(found.failures.items()):
            failures.add(count, search=record.name, kind=kind)
    yield from (trials, limit, front, volume, retries, failures)
