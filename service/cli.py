"""The command `threadlab`: serve the service, run one scenario without it, list what there is.

Who uses it: people at a terminal, and containers. Options of `run` are built from each scenario's parameters.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import functools
import gc
import inspect
import logging
import resource
import shlex
import socket
import sys
import types
import typing
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import uvicorn
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import to_json
from rich.console import Console
from rich.table import Table
from ulid import ULID

from service import __version__, catalog, logs, remote, terminal
from service.api import connections, validation_errors
from service.api.requests import RequestLimits, RequestUnion
from service.api.schemas import job_view
from service.app import create_app, local_executor
from service.catalog import Scenario
from service.errors import ThreadlabError
from service.events import Trace
from service.executors.base import Cancel, Kept, Order, Sink
from service.jobs import Job, JobState, Report
from service.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp

__all__ = ["main"]

_log = logging.getLogger(__name__)

_DESCRIPTORS_OF_A_JOB = 4  # its link, the pipe that tells how it ended, and both ends of one that wakes its thread
_OWN_DESCRIPTORS = 48  # the database, the fork servers, the listening socket: 15 here with one interpreter

_INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended: 128 and the signal's number
_DEFAULTS = {"as_json": False}

_catalog = functools.cache(catalog.find)  # the commands are made from it, and so is what they start

_app = typer.Typer(
    name="threadlab",
    help="Runs threading scenarios and reports what the threads really did.",
    no_args_is_help=True,
    add_completion=False,
)
_run_app = typer.Typer(
    help="Run one scenario, here or on a server, watch its threads, and print what it showed. The exit code is 0 if it "
    "succeeded, 1 if not, 2 for options that do not exist, 130 after Ctrl-C, which cancels it.",
    no_args_is_help=True,
)
_app.add_typer(_run_app, name="run")


@_app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        typer.echo(f"threadlab {__version__}")
        raise typer.Exit


@_app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one.", show_default="8000")] = None,
    database: Annotated[
        str | None, typer.Option(help="Where jobs are remembered.", show_default="sqlite:///threadlab.db")
    ] = None,
) -> None:
    """Serve the HTTP interface. Every setting is also an environment variable THREADLAB_..."""
    given = {"host": host, "port": port, "database_url": database}
    settings = _settings({name: value for name, value in given.items() if value is not None})
    logs.configure(settings.log_level, settings.log_format)
    settings = _within(settings, _raise_descriptor_limit())
    _check_address(settings.host, settings.port)
    try:
        app = create_app(settings, found=_catalog())
    except ThreadlabError as exc:
        raise _failed(str(exc)) from exc
    http = connections.protocol(
        connections.ConnectionLimits(
            connections=settings.max_connections,
            headers_timeout_s=settings.headers_timeout_s,
            body_timeout_s=settings.body_timeout_s,
            taken_timeout_s=settings.watcher_patience_s + settings.body_timeout_s,  # who watches is told before that
        )
    )
    config = uvicorn.Config(_telling(app), settings.host, settings.port, log_config=None, http=http, ws="none")
    server = _Server(config, app.state.drain)
    try:
        server.run()
    except SystemExit as exc:  # of a start that failed and was told of; its number, 3, is uvicorn's own
        raise typer.Exit(1) from exc
    if not server.started:
        raise typer.Exit(1)


def _check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on before anything is begun: uvicorn takes it last.

    What else may be wrong with one (a family that the system has not) it knows better.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with contextlib.closing(socket.socket(family, kind, protocol)) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
    except socket.gaierror as exc:
        raise _failed(f"THREADLAB_HOST, {host!r}, is no address: {exc.strerror}.") from exc
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise _failed(
                f"Port {port} of {host} is taken: end the program that listens there, or take another one by --port or "
                "THREADLAB_PORT; 0 takes a free one."
            ) from exc
        if exc.errno == errno.EACCES:
            raise _failed(f"This user may not listen on port {port}: take one from 1024 on.") from exc


def _raise_descriptor_limit() -> int:
    """Take all the descriptors that this process may have, 1,024 being the usual limit, and return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _within(settings: Settings, descriptors: int) -> Settings:
    """Share out the descriptors, half for connections and half for jobs: a job that gets none would be lost."""
    jobs = max(1, (descriptors // 2 - _OWN_DESCRIPTORS) // _DESCRIPTORS_OF_A_JOB - settings.cpu_slots)
    fitting = {
        "max_connections": min(settings.max_connections, max(1, descriptors // 2)),
        "wait_slots": min(settings.wait_slots, jobs),
    }
    for name, value in fitting.items():
        if value < getattr(settings, name):
            _log.warning("fewer descriptors than a setting needs", extra={name: value, "descriptors": descriptors})
    return settings.model_copy(update=fitting)


class _Server(uvicorn.Server):
    """uvicorn's server, which greets when it listens, and lets jobs go before it waits for whoever waits for them."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain = drain

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            gc.freeze()  # what is there now stays; to go through it, now and then, would hold everybody up for 60 ms
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            sys.stderr.write(_greeting(host, port))
            sys.stderr.flush()

    async def shutdown(self, sockets: Any = None) -> None:
        drained = asyncio.create_task(asyncio.to_thread(self._drain))
        await super().shutdown(sockets)
        await drained


def _telling(app: FastAPI) -> ASGIApp:
    """The app, whose refusal to start is told in a sentence; what is told of a fault is its traceback."""

    async def told(scope: Any, receive: Any, send: Any) -> None:
        async def send_plainly(message: Any) -> None:
            if message["type"] == "lifespan.startup.failed" and app.state.refusal is not None:
                message = {**message, "message": str(app.state.refusal)}
            await send(message)

        await app(scope, receive, send_plainly if scope["type"] == "lifespan" else send)

    return told


def _greeting(host: str, port: int) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104  every address of this machine: show one that can be pasted
        host = "localhost"
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    body = shlex.quote('{"scenario": "counter", "lock": false}')
    return (
        f"\nThreadlab {__version__} listens on {url}   docs: {url}/docs\n"
        f"  curl -H 'Prefer: wait=10' --json {body} {url}/v1/jobs\n\n"
    )


@_app.command()
def scenarios() -> None:
    """List what can be run."""
    found = _requests(_settings({})).catalog
    table = Table("scenario", "what it shows", box=None)
    for scenario in found:
        table.add_row(scenario.name, scenario.summary)
    for unavailable in found.unavailable:
        table.add_row(unavailable.name, f"unavailable: {unavailable.reason}", style="dim")
    Console().print(table)


@_app.command()
def interpreters() -> None:
    """List the interpreters that were found, and why some cannot be used."""
    settings = _settings({})
    executor = local_executor(_catalog(), settings)
    table = Table("python", "version", "gil", "executable", box=None)
    for each in executor.interpreters():
        gil = {None: "", True: "on", False: "off"}[each.gil] + (", can be switched" if each.gil_switchable else "")
        about = each.executable if each.usable else f"{each.executable}  unusable: {each.reason}"
        table.add_row(
            each.selector if each.usable else "", each.version, gil, about, style=None if each.usable else "dim"
        )
    Console().print(table)
    executor.close()


def _run(scenario: Scenario, given: dict[str, Any], url: str | None, as_json: bool) -> None:
    """Run a scenario here or on a server, show it as it runs, and print its answer."""
    screen = terminal.screen(scenario.name, as_json=as_json)
    try:
        with screen:
            if url is None:
                job = _run_here(scenario, given, screen.tell)
            else:
                job = remote.run(url, _body(_requests(_settings({})), scenario, given), screen.tell)
    except ThreadlabError as exc:
        raise _failed(str(exc)) from exc
    terminal.show(job, as_json=as_json)
    if job["status"] == JobState.CANCELLED:
        raise typer.Exit(_INTERRUPTED)
    if job["status"] != JobState.SUCCEEDED:
        raise typer.Exit(1)


def _run_here(scenario: Scenario, given: dict[str, Any], tell: Sink) -> dict[str, Any]:
    """Return the finished job of a local executor; Ctrl-C cancels it."""
    settings = _settings({})
    requests = _requests(settings)
    for unavailable in requests.catalog.unavailable:
        if unavailable.name == scenario.name:
            raise _failed(f"{scenario.name} is unavailable: {unavailable.reason}")
    try:
        request = requests.validate(_body(requests, scenario, given), "query")
    except RequestValidationError as exc:
        _, found = validation_errors.of_request(exc, requests)
        raise _failed("\n".join(validation_errors.in_lines(found))) from exc
    values, label = requests.dump(request), given.get("label")
    new_id = f"job_{str(ULID()).lower()}"
    job = Job(new_id, scenario.name, scenario.lane(request), values, datetime.now(UTC), label)
    order = Order.of(job.id, scenario, values, Kept(output_bytes=settings.max_output_bytes, events=settings.max_events))
    executor = local_executor(_catalog(), settings)
    cancel = Cancel()
    with ThreadPoolExecutor(1) as pool:
        try:
            running = pool.submit(executor.run, order, tell, cancel)
            job = job.start(datetime.now(UTC))
            report = _outcome(running, cancel)
        finally:
            executor.close()
    view = job_view(job.finish(report, datetime.now(UTC)))
    del view["links"]  # it is nowhere but here
    return view


def _requests(settings: Settings) -> RequestUnion:
    return RequestUnion(_catalog(), RequestLimits({}, settings.default_timeout_s, settings.max_timeout_s))


def _body(requests: RequestUnion, scenario: Scenario, given: dict[str, Any]) -> dict[str, Any]:
    """What the options stand for as the body of `POST /v1/jobs`."""
    texts = {name: value for name, value in given.items() if isinstance(value, str)}
    return {**given, **requests.from_query(scenario.name, texts)}


def _outcome(running: Future[Report], cancel: Cancel) -> Report:
    """Wait for a run; the first Ctrl-C cancels it and waits for what it has to say."""
    try:
        return running.result()
    except KeyboardInterrupt:
        cancel.wish()
        return running.result()


def _command(scenario: Scenario) -> Callable[..., None]:
    """A command whose options are the scenario's parameters."""

    def command(**given: Any) -> None:
        url, as_json = given.pop("url"), given.pop("as_json")
        _run(scenario, {name: value for name, value in given.items() if value is not None}, url, as_json)

    hints = scenario.hints()
    parameters = [_option(name, hints[name], field) for name, field in scenario.fields().items()]
    options: dict[str, Any] = {
        "python": Annotated[str | None, typer.Option(help="Which interpreter: 3.13, 3.13t, 3.x; see `interpreters`.")],
        "gil": Annotated[Literal["on", "off"] | None, typer.Option(help="Of a free-threaded build.")],
        "timeout_s": Annotated[float | None, typer.Option(help="Seconds that it may run.")],
        "trace": Annotated[Trace | None, typer.Option(help="What is recorded: `locks` shows who waits for whom.")],
        "label": Annotated[str | None, typer.Option(help="A text of yours to find the job again by.")],
        "url": Annotated[str | None, typer.Option("--url", help="Run it on this server: http://HOST:PORT.")],
        "as_json": Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON, and nothing else.")],
    }
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS.get(name), annotation=annotation)
        for name, annotation in options.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _option(name: str, hint: Any, field: dataclasses.Field[Any]) -> inspect.Parameter:
    """The option for a parameter of a scenario: text that is read as JSON, where a command line has no such type."""
    plain = _option_type(hint)
    option = typer.Option(
        help=_option_help(field.metadata),
        metavar=None if plain else f"<{_nullable(hint) or 'JSON'}>",
        show_default=True if plain else to_json(field.default).decode(),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default if plain else None,
        annotation=Annotated[(plain or str) | None, option],
    )


def _option_help(metadata: Mapping[str, Any]) -> str:
    limits = [f"{word} {metadata[name]:,}" for word, name in (("from", "ge"), ("to", "le")) if name in metadata]
    return f"{metadata['description']} {' '.join(limits).capitalize()}{'.' if limits else ''}".strip()


def _option_type(hint: Any) -> Any:
    """The type of an option; None where a command line has none for it."""
    members = [each for each in typing.get_args(hint) if each is not types.NoneType]
    if hint in (int, float, bool, str) or typing.get_origin(hint) is Literal:
        return hint
    return _option_type(members[0]) if len(members) == 1 and not _nullable(hint) else None


def _nullable(hint: Any) -> str | None:
    """How `--help` calls a number that can be null; None where a type is no such thing."""
    return {int | None: "int|null", float | None: "float|null"}.get(hint)


def _settings(given: dict[str, Any]) -> Settings:
    try:
        return Settings(**given)
    except ValidationError as exc:
        texts = [_setting_text(each["loc"], each["msg"]) for each in exc.errors()]
        raise _failed("\n".join(texts)) from exc


def _setting_text(place: tuple[int | str, ...], text: str) -> str:
    text = text.removeprefix("Value error, ")
    return f"THREADLAB_{str(place[0]).upper()}: {text}" if place else text


def _failed(text: str) -> typer.Exit:
    Console(stderr=True).print(text, style="red", markup=False, soft_wrap=True)  # one line, in a file, too
    return typer.Exit(1)


def main() -> None:
    """Run the command line."""
    for scenario in _catalog():
        _run_app.command(scenario.name, help=scenario.summary)(_command(scenario))
    _app()
