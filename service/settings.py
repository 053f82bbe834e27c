"""Every knob of the service: its meaning, its unit, its default and the reason for that.

Who uses it: `app` and `cli` read it once and hand plain values down; nothing below imports it. Each setting is an
environment variable `THREADLAB_` plus its name in capitals.
"""

from __future__ import annotations

import ipaddress
import os
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ["Settings"]

_KIB = 1024
_MIB = 1024 * _KIB
_GIB = 1024 * _MIB
_DAY_S = 24 * 60 * 60

Names = Annotated[tuple[str, ...], NoDecode]  # in the environment: separated by commas
Paths = Annotated[tuple[str, ...], NoDecode]  # in the environment: separated as those of PATH are


class Settings(BaseSettings):
    """All settings; unknown `THREADLAB_` variables are left alone."""

    model_config = SettingsConfigDict(env_prefix="THREADLAB_", use_attribute_docstrings=True, frozen=True)

    host: str = "127.0.0.1"
    """Address to listen on. Default: loopback, because whoever reaches the service can use this machine."""

    expose: bool = False
    """Whether `host` may be an address that other machines can reach. Default: no, because there is no password:
    whoever reaches the service can run its scenarios, read all jobs and delete them."""

    allowed_hosts: Names = ()
    """Names, separated by commas, by which clients may call the service, beside `localhost` and addresses in figures;
    `*` for any. Default: none, so that no page can reach it through a name of its own (DNS rebinding)."""

    cors_origins: Names = ()
    """Origins, separated by commas, such as `https://course.example`, whose pages may use the service from a browser.
    Default: none."""

    max_connections: int = Field(10_000, ge=1)
    """Connections at once; one more is answered 503 and closed. Never more than half of the descriptors that the
    process may have, so that jobs get theirs. Default: ten times the jobs of the lane `wait`."""

    headers_timeout_s: float = Field(10.0, gt=0)
    """Seconds from a connection to the last header of its request. Default: many times what a bad network needs."""

    body_timeout_s: float = Field(20.0, gt=0)
    """Seconds that a request's body may take to arrive. Default: the longest allowed one at 13 KB a second."""

    port: int = Field(8000, ge=0, le=65_535)
    """TCP port; 0 takes a free one, which the start-up line names. Default: what uvicorn's users expect."""

    database_url: str = "sqlite:///threadlab.db"
    """Where jobs are remembered: `sqlite:///relative.db`, `sqlite:////absolute.db`, or `memory:` to keep nothing.
    Default: a file in the working directory, where its owner will find it."""

    retention_s: Annotated[float, Field(ge=1, le=100 * 365 * _DAY_S)] | Literal["never"] = 30 * _DAY_S
    """Seconds for which finished jobs and experiments are kept; `never` forgets none. Default: 30 days, since a course
    or a comparison lasts weeks, and a disk that nobody looks after fills within months."""

    cpu_slots: int = Field(1, ge=1, le=256)
    """Jobs of the lane `cpu` at once. Default: one, so that two measurements never disturb each other."""

    wait_slots: int = Field(1_000, ge=1, le=10_000)
    """Jobs of the lane `wait` at once. Default: sleeping children cost little, some 2 MB each."""

    max_queued: int = Field(10_000, ge=1)
    """Jobs that may wait, over both lanes; one more is answered 503. Default: a minute of work, roughly."""

    max_threads: int = Field(512, ge=1, le=4_096)
    """Threads that one job may ask for, in all. Default: far beyond the point where more threads stop helping."""

    max_iterations: int = Field(10_000_000, ge=1)
    """Iterations per thread that one job may ask for. Default: some seconds of a loop per thread."""

    find_interpreters: bool = True
    """Whether jobs may choose any CPython that is found on PATH, under pyenv, uv, asdf and rye. Default: yes, since
    comparing them is what this is for; `false` leaves the service's own and those of `interpreters`."""

    interpreters: Paths = ()
    """Paths of more CPython executables, separated by colons. Default: none."""

    max_cells: int = Field(512, ge=1, le=10_000)
    """Cells that one experiment may have. Default: four fields of four or five values."""

    max_repeats: int = Field(100, ge=1, le=10_000)
    """Runs of each cell that one experiment may have. Default: more would hide a mistake rather than noise."""

    max_queued_experiments: int = Field(100, ge=1)
    """Experiments that may wait for their turn; one more is answered 503. Default: a day of work, roughly."""

    default_timeout_s: float = Field(60.0, gt=0)
    """Seconds that a job may run when it does not say. Default: long enough for every lesson at its slowest."""

    max_timeout_s: float = Field(600.0, gt=0)
    """Seconds that a job may ask for. Default: ten minutes, so that a forgotten job frees its lane."""

    max_wait_s: int = Field(60, ge=0)
    """Seconds that `Prefer: wait=N` can hold an answer. Default: below the idle timeout of most proxies."""

    try_timeout_s: float = Field(30.0, gt=0)
    """Seconds that a job of `/v1/try` may run. Default: a person looks at an address bar no longer than that."""

    try_max_threads: int = Field(64, ge=1)
    """Threads that a job of `/v1/try` may ask for, in all. Default: a link on a slide should not load a machine."""

    max_body_bytes: int = Field(256 * _KIB, ge=_KIB)
    """Size of a request's body. Default: a hundred times the longest sensible request."""

    max_output_bytes: int = Field(1 * _MIB, ge=0)
    """Printed text kept of one job, a line counted as 16 bytes at least; what comes after it is counted as dropped.
    Default: 20,000 lines, roughly."""

    max_events: int = Field(20_000, ge=0)
    """Events kept of one job besides the starts and ends of its threads (waits for locks, notes, progress); what comes
    after them is counted as dropped. Default: 2 MB of JSON, far more than a picture can show."""

    watcher_patience_s: float = Field(10.0, gt=0)
    """Seconds that whoever watches a job's events may take to read what was sent; then the connection is ended.
    Default: a slow link catches up in that time, a stopped reader does not keep its place for ever."""

    retry_after_s: int = Field(1, ge=1)
    """What `Retry-After` says of an unfinished job or a full queue, in seconds. Default: the smallest there is."""

    cancel_grace_s: float = Field(0.03, ge=0)
    """Seconds between asking a child to end and killing it. Default: 30 ms, so that a cancel is answered within 100."""

    shutdown_grace_s: float = Field(5.0, ge=0)
    """Seconds that running jobs get when the service ends; then they go back to the queue. Default: half of what
    container engines give a service before they kill it."""

    startup_timeout_s: float = Field(10.0, gt=0)
    """Seconds for a fork server to come up, and for a child to begin. Default: a hundred times what it takes here."""

    kill_timeout_s: float = Field(15.0, gt=0)
    """Seconds for a killed child to be gone; then its fork server is given up, with all of its children. Default: some
    thousand times what it takes here, since a machine that is too busy for a while must not cost all jobs at once."""

    child_memory_bytes: int = Field(6 * _GIB, ge=64 * _MIB)
    """Private writable memory of a child (RLIMIT_DATA); on a free-threaded build 40 MiB more for each of `max_threads`.
    Default: 512 stacks of 8 MiB, which count although they are hardly touched, and 2 GiB for the scenario."""

    child_open_files: int = Field(1_024, ge=16)
    """Descriptors of a child (RLIMIT_NOFILE). Default: what a login shell gets, enough for 512 downloads at once."""

    child_file_bytes: int = Field(64 * _MIB, ge=_MIB)
    """Size of any one file a child writes (RLIMIT_FSIZE). Default: a benchmark's file fits, a full disk does not."""

    child_processes: int = Field(16_384, ge=64)
    """Processes and threads of the service's user (RLIMIT_NPROC), which does not bind root. Default: 1,000 waiting jobs
    of 16 threads each."""

    child_isolation: bool = True
    """Whether children are shut in by namespaces and Landlock, where the system has them: no network but loopback, no
    writes outside their folder. Default: yes; `false` is for scenarios that need the network or other folders."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much is logged. Default: a line for each request and each job's end."""

    log_format: Literal["auto", "text", "json"] = "auto"
    """How it is logged. Default: text on a terminal, JSON elsewhere."""

    @field_validator("allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _names(cls, given: object) -> object:
        return [name.strip() for name in given.split(",") if name.strip()] if isinstance(given, str) else given

    @field_validator("interpreters", mode="before")
    @classmethod
    def _paths(cls, given: object) -> object:
        return [path for path in given.split(os.pathsep) if path] if isinstance(given, str) else given

    @field_validator("cors_origins")
    @classmethod
    def _no_wildcard(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for origin in given:
            scheme, _, rest = origin.partition("://")
            if scheme not in ("http", "https") or not rest or set(rest) & set("/*? "):
                raise ValueError(f"{origin!r} is no origin; write it like https://course.example, without a path.")
        return given

    @model_validator(mode="after")
    def _reachable_only_if_meant(self) -> Self:
        if not self.expose and not _is_loopback(self.host):
            raise ValueError(
                f"Other machines could reach the service at {self.host}, and it has no password: whoever reaches it "
                "can run its scenarios, read all jobs and delete them. If that is meant, set THREADLAB_EXPOSE=true; "
                "else leave THREADLAB_HOST at 127.0.0.1."
            )
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
