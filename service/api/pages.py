"""Pages for people: the page itself, the documentation with assets of our own, and what each kind of problem means.

Each page has a content security policy that lets it load from here only and run no script but ours.
"""

import base64
import hashlib
import html
import re
from pathlib import Path

from fastapi import APIRouter
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service import web
from service.api.assets import Assets
from service.api.problem_types import BY_ERROR, BY_REFUSAL, BY_STATUS, ProblemType

__all__ = ["ASSETS", "assets", "make_router"]

ASSETS = "/assets"

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - Threadlab</title>
<link rel="icon" href="{assets}/icon.svg"><link rel="stylesheet" href="{assets}/plain.css">
</head>
<body><main>{body}</main></body>
</html>
"""


_HOME = "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
_FRONT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " + _HOME
)
_PLAIN_POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; " + _HOME
# Swagger UI and Redoc write style sheets of their own into the page, and Redoc searches in a worker made from a blob.
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; worker-src blob:; " + _HOME
)
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def assets() -> Assets:
    """Return the app that serves our own files: style, scripts, icon, and libraries."""
    return Assets(Path(web.__file__).parent)


def make_router(title: str, openapi_url: str, files: Assets) -> APIRouter:
    """Return the pages."""
    front = files.files["index.html"]
    router = APIRouter(include_in_schema=False)
    kinds = {kind.slug: kind for kind in [*BY_ERROR.values(), *BY_STATUS.values(), *BY_REFUSAL.values()]}

    @router.get("/")
    async def show_front(request: Request) -> Response:
        return front.answer(request.headers, {"Content-Security-Policy": _FRONT_POLICY})

    @router.get("/docs")
    async def show_docs() -> Response:
        page = get_swagger_ui_html(
            openapi_url=openapi_url,
            title=title,
            swagger_js_url=f"{ASSETS}/vendor/swagger-ui/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/vendor/swagger-ui/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/icon.svg",
            swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True, "docExpansion": "list"},
        )
        return _guarded(page)

    @router.get("/redoc")
    async def show_redoc() -> Response:
        page = get_redoc_html(
            openapi_url=openapi_url,
            title=title,
            redoc_js_url=f"{ASSETS}/vendor/redoc/redoc.standalone.js",
            redoc_favicon_url=f"{ASSETS}/icon.svg",
            with_google_fonts=False,
        )
        return _guarded(page)

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


def _problem_body(kind: ProblemType) -> str:
    remedy = html.escape(kind.remedy).split("`")
    text = "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(remedy))
    return (
        f"<h1>{html.escape(kind.title)}</h1><p>Status {kind.status}, type <code>{kind.slug}</code>.</p><p>{text}</p>"
        '<p><a href="/problems">All problems</a>, <a href="/docs">the documentation</a>.</p>'
    )


def _page(title: str, body: str) -> Response:
    page = _PAGE.format(title=html.escape(title), body=body, assets=ASSETS)
    return HTMLResponse(page, headers={"Content-Security-Policy": _PLAIN_POLICY})


def _guarded(page: HTMLResponse) -> Response:
    """Allow a page of FastAPI's the very scripts that stand in it, by their hashes."""
    scripts = _INLINE_SCRIPT.findall(bytes(page.body).decode())
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    page.headers["Content-Security-Policy"] = _DOCS_POLICY.format(hashes=hashes)
    return page
