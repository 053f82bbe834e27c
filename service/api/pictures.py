"""`/v1/jobs/{id}/timeline.svg` and `trace.json`: a job to look at, and to take along."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from service.api.access import JobAccess
from service.api.answers import JsonAnswer, documented
from service.api.jobs import JobId
from service.pictures import timeline, trace

__all__ = ["SVG_HEADERS", "make_router"]

SVG_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",  # opened by itself, it runs nothing
    "Cache-Control": "no-cache",
}


def make_router(access: JobAccess) -> APIRouter:
    """Return the endpoints that show a job."""
    router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])

    @router.get(
        "/timeline.svg",
        response_class=Response,
        responses={
            200: {"content": {"image/svg+xml": {"schema": {"type": "string"}}}, "description": "A picture."},
            **documented(404, 422, 503),
        },
    )
    async def job_timeline(job_id: JobId) -> Response:
        """A picture of its threads: a track for each, what it held and waited for, and how many were active."""
        events, job = await access.story(job_id)
        drawn = await access.blocking(timeline.draw, job, events)
        return Response(drawn, media_type="image/svg+xml", headers=SVG_HEADERS)

    @router.get(
        "/trace.json", response_model=dict[str, Any], response_class=JsonAnswer, responses=documented(404, 422, 503)
    )
    async def job_trace(job_id: JobId) -> Response:
        """The same for Perfetto or `chrome://tracing`: a track for each thread, its waits, locks and lines."""
        events, job = await access.story(job_id)
        made = await access.blocking(trace.chrome, job, events)
        return JsonAnswer(made, headers={"Content-Disposition": f'inline; filename="{job.id}.trace.json"'})

    return router
