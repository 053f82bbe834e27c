"""The kinds of problems: what can go wrong, its status, and what to do about it.

Who uses it: `problems`, to answer, and `pages`, for the page that each kind's `type` leads to.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError

from service import errors
from service.api.guard import Refusal

__all__ = ["BY_ERROR", "BY_REFUSAL", "BY_STATUS", "ProblemType"]


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of problem: its status, its name in URLs, its title, and what to do about it."""

    status: int
    slug: str
    title: str
    remedy: str


BY_ERROR: dict[type[Exception], ProblemType] = {
    errors.ScenarioNotFound: ProblemType(
        404, "scenario-not-found", "No such scenario", "`GET /v1/scenarios` lists what can be run."
    ),
    errors.JobNotFound: ProblemType(
        404,
        "job-not-found",
        "No such job",
        "It was deleted, or posted to another service. `GET /v1/jobs` lists all jobs.",
    ),
    errors.IllegalMove: ProblemType(
        409,
        "illegal-move",
        "The job's state does not allow that",
        "A finished job cannot be cancelled, and only a finished job can be deleted. Look at the job's `status` first.",
    ),
    errors.ExperimentNotFound: ProblemType(
        404,
        "experiment-not-found",
        "No such experiment",
        "It was deleted, or posted to another service. `GET /v1/experiments` lists all.",
    ),
    errors.IllegalExperimentMove: ProblemType(
        409,
        "illegal-experiment-move",
        "The experiment's state does not allow that",
        "A finished experiment cannot be cancelled, and only a finished one be deleted. Look at its `status` first.",
    ),
    errors.BadExperiment: ProblemType(
        422,
        "bad-experiment",
        "The experiment is not valid",
        "`errors` says where the mistake stands and what is allowed there.",
    ),
    errors.IdempotencyConflict: ProblemType(
        422, "idempotency-conflict", "The Idempotency-Key belongs to another request", "Take a new key for a new job."
    ),
    errors.InterpreterNotFound: ProblemType(
        422,
        "interpreter-not-found",
        "No such interpreter",
        "`GET /v1/interpreters` lists what is here; install another one, and it is found at the next request.",
    ),
    errors.QueueFull: ProblemType(
        503, "queue-full", "The queue is full", "Post again after the seconds that `Retry-After` says."
    ),
    errors.ShuttingDown: ProblemType(
        503, "shutting-down", "The service is shutting down", "Post again when it is back. Accepted jobs are not lost."
    ),
    errors.StoreUnavailable: ProblemType(
        503,
        "store-unavailable",
        "The database cannot be used right now",
        "Nothing was accepted. Post again; the service's log says what the database said.",
    ),
    errors.ExecutorError: ProblemType(
        503, "executor-unavailable", "Jobs cannot be run right now", "Ask again; the service's log says why."
    ),
    errors.NotReady: ProblemType(
        503,
        "not-ready",
        "The service is not ready",
        "`parts` says which part is unwell, and why. It is looked at anew each time: ask again.",
    ),
    errors.BadScenario: ProblemType(
        500, "bad-scenario", "The scenario is broken", "Tell its author; `detail` says which rule it breaks."
    ),
    RequestValidationError: ProblemType(
        422,
        "invalid-request",
        "The request is not valid",
        "`errors` says for each mistake where it stands, what is allowed there, and the nearest valid value.",
    ),
}

BY_STATUS: dict[int, ProblemType] = {
    404: ProblemType(404, "not-found", "No such page", "`/docs` lists all addresses."),
    405: ProblemType(
        405, "method-not-allowed", "That method is not for this address", "The header `Allow` says which are."
    ),
    408: ProblemType(
        408,
        "too-slow",
        "The body took too long",
        "Send it again, without pauses; `GET /v1/capacity` says how many seconds it may take.",
    ),
    413: ProblemType(413, "body-too-large", "The body is too large", "`GET /v1/capacity` says how large it may be."),
    415: ProblemType(
        415,
        "not-json",
        "The body is not sent as JSON",
        "Send the header `Content-Type: application/json`; `curl --json` does, `curl -d` does not. Do not compress it.",
    ),
    500: ProblemType(
        500, "internal-error", "The service made a mistake", "Its log tells more, under the same request id."
    ),
}

BY_REFUSAL: dict[Refusal, ProblemType] = {
    "not-http": ProblemType(
        400, "not-http", "That is no HTTP request", "Send HTTP/1.1, or ask with a client that does, such as `curl`."
    ),
    "unclear-host": ProblemType(
        400, "unclear-host", "The request does not say whom it is for", "Send the header `Host`, and send it once."
    ),
    "long-address": ProblemType(
        414, "long-address", "The address is too long", "Post what stands in its query: `POST /v1/jobs` takes more."
    ),
    "large-headers": ProblemType(
        431, "large-headers", "The headers are too large", "Send fewer, or shorter ones: 100, and 64 KiB in all."
    ),
    "crowded": ProblemType(
        503,
        "crowded",
        "There are too many connections",
        "Try again in a moment; `THREADLAB_MAX_CONNECTIONS` says how many there may be.",
    ),
    "unknown-host": ProblemType(
        421,
        "unknown-host",
        "The service is not known by that name",
        "Use its address in figures, or `localhost`; or start it with the name in `THREADLAB_ALLOWED_HOSTS`.",
    ),
    "cross-site": ProblemType(
        403,
        "cross-site",
        "Another site's page may not do that",
        "Copy the address and paste it into the address bar; for a page of yours that is to use the service, start it "
        "with that page's origin in `THREADLAB_CORS_ORIGINS`.",
    ),
}
