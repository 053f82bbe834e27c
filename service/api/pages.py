"""Pages for people: the documentation with assets of our own, and what each kind of problem means."""

import html
from pathlib import Path

from fastapi import APIRouter
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from service import web
from service.api.problems import AT_BORDER, BY_STATUS, KINDS, Kind

__all__ = ["ASSETS", "assets", "make_router"]

ASSETS = "/assets"

_WEB = Path(web.__file__).parent

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - Threadlab</title>
<link rel="icon" href="{assets}/icon.svg"><link rel="stylesheet" href="{assets}/plain.css">
</head>
<body><main>{body}</main></body>
</html>
"""


def assets() -> StaticFiles:
    """Return the app that serves our own files: style, icon, and the libraries of the documentation pages."""
    return StaticFiles(directory=_WEB)


def make_router(title: str, openapi_url: str) -> APIRouter:
    """Return the pages."""
    router = APIRouter(include_in_schema=False)
    kinds = {kind.slug: kind for kind in [*KINDS.values(), *BY_STATUS.values(), *AT_BORDER.values()]}

    @router.get("/")
    async def show_front() -> Response:
        return RedirectResponse("/docs")

    @router.get("/docs")
    async def show_docs() -> Response:
        return get_swagger_ui_html(
            openapi_url=openapi_url,
            title=title,
            swagger_js_url=f"{ASSETS}/vendor/swagger-ui/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/vendor/swagger-ui/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/icon.svg",
            swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True, "docExpansion": "list"},
        )

    @router.get("/redoc")
    async def show_redoc() -> Response:
        return get_redoc_html(
            openapi_url=openapi_url,
            title=title,
            redoc_js_url=f"{ASSETS}/vendor/redoc/redoc.standalone.js",
            redoc_favicon_url=f"{ASSETS}/icon.svg",
            with_google_fonts=False,
        )

    @router.get("/problems")
    async def list_problems() -> Response:
        rows = "".join(
            f'<li><a href="/problems/{kind.slug}">{html.escape(kind.title)}</a> ({kind.status})</li>'
            for kind in kinds.values()
        )
        return _page(
            "Problems",
            f"<h1>Problems</h1><p>What the service answers when it cannot do what was asked.</p><ul>{rows}</ul>",
        )

    @router.get("/problems/{slug}")
    async def show_problem(slug: str) -> Response:
        kind = kinds.get(slug)
        if kind is None:
            raise HTTPException(404, f"There is no problem {slug!r}")
        return _page(kind.title, _problem_body(kind))

    return router


def _problem_body(kind: Kind) -> str:
    remedy = html.escape(kind.remedy).split("`")
    text = "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(remedy))
    return (
        f"<h1>{html.escape(kind.title)}</h1><p>Status {kind.status}, type <code>{kind.slug}</code>.</p><p>{text}</p>"
        '<p><a href="/problems">All problems</a>, <a href="/docs">the documentation</a>.</p>'
    )


def _page(title: str, body: str) -> Response:
    return HTMLResponse(_PAGE.format(title=html.escape(title), body=body, assets=ASSETS))
