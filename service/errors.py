"""Every error of the service, drawn as one tree.

* ThreadlabError
  x CatalogError
    - BadScenario            a scenario's file breaks the rules of section 3; it is listed as unavailable
    - ScenarioNotFound       nobody knows a scenario of this name
  x JobError
    - JobNotFound            there is no such job (any more)
    - IllegalMove            a job cannot go from the state it is in to the one asked for
    - IdempotencyConflict    the key belongs to a job with another request
    - QueueFull              as many jobs wait as the settings allow
    - ShuttingDown           the service takes no more jobs
  x ExperimentError
    - BadExperiment          its matrix or its baseline cannot be; the path says where
    - ExperimentNotFound     there is no such experiment (any more)
    - IllegalExperimentMove  the experiment's state does not allow what was asked for
  x StoreError
    - StoreUnavailable       the database could not do what was asked
      - DatabaseInUse        another service has it open
  x ExecutorError
    - ForkServerDied         it could not be started, or ended under a job
    - ForkFailed             the system refused another process
    - ChildLate              a child had not begun when it should have
    - InterpreterNotFound    no interpreter here is the one asked for
  x NotReady                 a part of the service is unwell
  x RemoteError
    - ServiceUnreachable     no service answers at an address
    - ServiceRefused         the service there does not accept what was asked of it

Who uses it: every floor above. `api.problems` alone turns these into HTTP; nothing here knows of status codes.
Foreign errors are wrapped once, where they come in, with `raise ... from exc`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "BadExperiment",
    "BadScenario",
    "CatalogError",
    "ChildLate",
    "DatabaseInUse",
    "ExecutorError",
    "ExperimentError",
    "ExperimentNotFound",
    "ForkFailed",
    "ForkServerDied",
    "IdempotencyConflict",
    "IllegalExperimentMove",
    "IllegalMove",
    "InterpreterNotFound",
    "JobError",
    "JobNotFound",
    "NotReady",
    "QueueFull",
    "RemoteError",
    "ScenarioNotFound",
    "ServiceRefused",
    "ServiceUnreachable",
    "ShuttingDown",
    "StoreError",
    "StoreUnavailable",
    "ThreadlabError",
]


class ThreadlabError(Exception):
    """Base of everything that the service raises on purpose."""


class CatalogError(ThreadlabError):
    """Base of what can be wrong with scenarios."""


class BadScenario(CatalogError):
    """A scenario's file breaks a rule; the text names the rule and what to do."""


class ScenarioNotFound(CatalogError):
    """Nobody knows a scenario of this name.

    Args:
        name: what was asked for.
        known: the names there are.
    """

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"There is no scenario {name!r}.")
        self.name = name
        self.known = known


class JobError(ThreadlabError):
    """Base of what can be wrong with a job or a wish about one."""


class JobNotFound(JobError):
    """There is no such job: it never was, or it has been deleted."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id!r}. It was deleted, or never accepted here.")
        self.job_id = job_id


class IllegalMove(JobError):
    """A job cannot go from the state it is in to the one asked for; the text tells its story."""


class IdempotencyConflict(JobError):
    """An `Idempotency-Key` came again with another request."""

    def __init__(self, key: str, job_id: str) -> None:
        super().__init__(
            f"The Idempotency-Key {key!r} belongs to {job_id}, which has another request. Take a new key for a new job."
        )
        self.job_id = job_id


class QueueFull(JobError):
    """As many jobs wait as the settings allow, or as many experiments.

    Args:
        limit: how many may wait.
        retry_after_s: seconds after which to try again.
    """

    def __init__(self, limit: int, retry_after_s: int, what: str = "jobs") -> None:
        super().__init__(f"{limit} {what} are waiting, which is the limit. Try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class ShuttingDown(JobError):
    """The service is ending and takes no more jobs."""

    def __init__(self) -> None:
        super().__init__("The service is shutting down. Post the job again when it is back.")


class ExperimentError(ThreadlabError):
    """Base of what can be wrong with an experiment or a wish about one."""


class BadExperiment(ExperimentError):
    """An experiment's matrix or baseline cannot be.

    Args:
        path: where in the request the mistake stands, such as `("vary", "threads", 2)`.
        text: one or two sentences: what is wrong, and what to do.
        allowed: what may stand there, where that can be listed.
        asked: what stands there.
    """

    def __init__(
        self, path: tuple[str | int, ...], text: str, allowed: Sequence[Any] | None = None, asked: Any = None
    ) -> None:
        super().__init__(text)
        self.asked = asked
        self.path = path
        self.text = text
        self.allowed = allowed


class ExperimentNotFound(ExperimentError):
    """There is no such experiment: it never was, or it has been deleted."""

    def __init__(self, experiment_id: str) -> None:
        super().__init__(f"There is no experiment {experiment_id!r}. It was deleted, or never accepted here.")
        self.experiment_id = experiment_id


class IllegalExperimentMove(ExperimentError):
    """An experiment's state does not allow what was asked for: a finished one cannot be cancelled."""


class StoreError(ThreadlabError):
    """Base of what can be wrong with the memory of jobs."""


class StoreUnavailable(StoreError):
    """The database could not do what was asked; nothing was changed."""


class DatabaseInUse(StoreUnavailable):
    """Another service has the database open.

    Args:
        database: its file.
        who: what the other one wrote about itself.
    """

    def __init__(self, database: object, who: str) -> None:
        super().__init__(
            f"The database {database} is in use by another Threadlab: {who}. Stop that one first, or name another file "
            "in THREADLAB_DATABASE_URL."
        )


class ExecutorError(ThreadlabError):
    """Base of what can go wrong with running a job, through no fault of the job: it may be tried again."""


class ForkServerDied(ExecutorError):
    """The fork server could not be started, spoke another protocol, or ended while a child of its ran."""


class ForkFailed(ExecutorError):
    """The system refused another process."""


class ChildLate(ExecutorError):
    """A child had not begun its scenario when it should have: the machine may have had no core for it."""


class InterpreterNotFound(ExecutorError):
    """No interpreter here is the one that a job asks for; trying again would not help.

    Args:
        option: which of the job's options cannot be met: `python` or `gil`.
        asked: its value.
        known: the values that could be.
        why: one sentence: what is wrong.
    """

    def __init__(self, option: str, asked: str, known: tuple[str, ...], why: str) -> None:
        super().__init__(f"{why} Here `{option}` can be {', '.join(known)}.")
        self.why = why
        self.option = option
        self.asked = asked
        self.known = known


class NotReady(ThreadlabError):
    """A part of the service is unwell, so that jobs cannot be taken and run right now.

    Args:
        parts: what is wrong with each part, by its name; None where nothing is.
    """

    def __init__(self, parts: Mapping[str, str | None]) -> None:
        super().__init__(" ".join(f"{name}: {ailment}" for name, ailment in parts.items() if ailment is not None))
        self.parts = parts


class RemoteError(ThreadlabError):
    """Base of what goes wrong with a service elsewhere."""


class ServiceUnreachable(RemoteError):
    """No service answers at an address."""


class ServiceRefused(RemoteError):
    """The service there does not accept what was asked of it, in its own words."""
