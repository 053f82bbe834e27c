"""A FastAPI app that takes the same request model and does nothing: what `overhead` compares with."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import uvicorn
from fastapi import Body, FastAPI

from service import catalog
from service.api.requests import RequestLimits, RequestUnion


def _app() -> FastAPI:
    requests = RequestUnion(catalog.find(), RequestLimits({}, 60.0, 600.0))
    app = FastAPI()

    async def submit(body: Any) -> dict[str, Any]:
        return requests.dump(body)

    submit.__annotations__["body"] = Annotated[requests.annotation, Body()]
    app.post("/v1/jobs")(submit)
    return app


class _Server(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        print(f"http://{host}:{port}", flush=True)


if __name__ == "__main__":
    _Server(uvicorn.Config(_app(), port=int(sys.argv[1]), access_log=False, log_level="warning")).run()
