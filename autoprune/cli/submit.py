"""``autoprune submit``, and ``autoprune run-submission``, which the cluster runs."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.failures import INTERRUPTED, Interrupted
from autoprune.cli.options import Format
from autoprune.cli.output import message, print_json
from autoprune.errors import ConfigError

if TYPE_CHECKING:
    from autoprune.api.submitting import Submission
    from autoprune.cluster.jobs import Job

__all__ = ["register"]

_EXAMPLES = """\b
Examples:
  autoprune submit launch/quickstart.yaml --address http://head:8265 --store sqlite:////data/autoprune.db
  autoprune submit own.yaml --address http://head:8265 --include helpers.py --no-wait
  autoprune submit --follow digits-quickstart-1121-190455-3f2a --address http://head:8265
  autoprune submit --stop digits-quickstart-1121-190455-3f2a --address http://head:8265

\b
The token of the cluster is read from RAY_AUTH_TOKEN, or from the file that RAY_AUTH_TOKEN_PATH names.
The store must be one that the head node can open. Its URL travels among the job's files: neither arguments nor
variables hold it, since Ray's dashboard shows those.
"""


def register(app: typer.Typer) -> None:
    app.command(epilog=_EXAMPLES)(submit)
    app.command(hidden=True)(run_submission)


def submit(
    config: Annotated[str | None, typer.Argument(metavar="[CONFIG]", help="A launch file (YAML).")] = None,
    address: Annotated[
        str,
        typer.Option(
            "--address",
            metavar="URL",
            envvar="RAY_API_SERVER_ADDRESS",
            help="The job server of the cluster's head node.",
            show_default=False,
        ),
    ] = "",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.", show_default=False),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            envvar="AUTOPRUNE_STORE",
            help="Where the cluster keeps the search.  [default: what AUTOPRUNE_STORE names there]",
            show_default=False,
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include",
            metavar="PATH",
            help="A file or folder that your Python files need as well; may be repeated.",
            show_default=False,
        ),
    ] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow the log.")] = False,
    follow: Annotated[
        str | None, typer.Option("--follow", metavar="ID", help="Follow a job that was submitted.", show_default=False)
    ] = None,
    stop: Annotated[
        str | None, typer.Option("--stop", metavar="ID", help="End a job in good order.", show_default=False)
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="The job as JSON on stdout when it ends; its log goes to stderr.")
    ] = False,
) -> None:
    """Run a search as a job of a Ray cluster.

    Its log is followed. autoprune, the configuration and the Python files and checkpoints that it names by relative
    paths travel with the job; data do not. The exit code is that of the search. Ctrl-C ends the following, not the
    search. Submitted again after it was lost, a search goes on where it stopped.
    """
    from autoprune.api import submitting

    if sum(given is not None for given in (config, follow, stop)) != 1:
        raise ConfigError("expected one of CONFIG, --follow ID and --stop ID.", "See 'autoprune submit --help'.")
    if not address:
        raise ConfigError(
            "no cluster is named.", "Pass --address http://HEAD:8265, or set RAY_API_SERVER_ADDRESS to it."
        )
    if stop is not None:
        stopping = submitting.stop(stop, address=address)
        message(f"job {stop} was asked to end; what was measured is kept." if stopping else f"job {stop} had ended.")
        return
    job_id, search = follow or "", ""
    if config is not None:
        made = submitting.submit(config, address=address, overrides=overrides or (), store=store, include=include or ())
        job_id, search = made.id, made.search
        _announce(made)
        if no_wait:
            return _print(made.id, made.search, None) if json else None
    _follow(job_id, search, address, json)


def _announce(made: Submission) -> None:
    message(f"submitted {made.search!r} to {made.address} as job {made.id}")
    if made.store.startswith("sqlite"):
        file = made.store.removeprefix("sqlite:///")
        message(f"its store is {file} on the head node: query it there, or through 'autoprune serve' there.")
    else:
        message(f"its store is {made.store or 'the one that AUTOPRUNE_STORE names on the head node'}.")


def _follow(job_id: str, search: str, address: str, json: bool) -> None:
    from autoprune.api import submitting

    out = sys.stderr if json else sys.stdout

    def write(text: str) -> None:
        out.write(text)
        out.flush()

    try:
        job = submitting.follow(job_id, address=address, write=write, say=message)
    except KeyboardInterrupt:
        message(f"no longer following; job {job_id} goes on.")
        for option, what in (("--follow", "follow it"), ("--stop", "stop it")):
            message(f"{what} with: autoprune submit {option} {job_id} --address {address}")
        raise typer.Exit(INTERRUPTED) from None
    if json:
        _print(job_id, search or dict(job.metadata or {}).get("search", ""), job)
    if code := submitting.exit_code(job):
        message(
            f"job {job_id} {job.state.words}; its log says why."
            if code != INTERRUPTED
            else f"job {job_id} was stopped."
        )
        raise typer.Exit(code)


def _print(job_id: str, search: str, job: Job | None) -> None:
    state = "submitted" if job is None else job.state.value.lower()
    print_json({"id": job_id, "search": search, "state": state, "exit_code": None if job is None else job.exit_code})


def run_submission() -> None:
    """Run the search of a job, in the job's folder."""
    from autoprune.api import submitting
    from autoprune.cli.progress import make_progress
    from autoprune.cli.run import show
    from autoprune.cli.signals import ended_like_ctrl_c

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with ended_like_ctrl_c(), make_progress(quiet=False) as progress:
            result = submitting.run_submission(Path.cwd(), progress)
        show(result, None, Format.table, False)
    except (KeyboardInterrupt, Interrupted):
        raise Interrupted("submit it again: it goes on where it stopped.") from None
