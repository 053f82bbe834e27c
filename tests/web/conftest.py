"""A real server and a real browser that can reach nothing but it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Route, sync_playwright

from tests.support import need
from tests.system.server import Server
from tests.web.visit import Visit

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 30_000  # a page takes a second or two here; Redoc's a little longer on a busy machine


@pytest.fixture(scope="module")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server."""
    with Server(tmp_path_factory.mktemp("docs")) as server:
        yield server.start()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=need("chromium"), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, live_server: Server) -> Iterator[Visit]:
    """A fresh page whose every request to another host is blocked and written down."""
    context = browser.new_context(base_url=live_server.url)
    context.set_default_timeout(PATIENCE_MS)
    visit = Visit(context.new_page())
    home = urlsplit(live_server.url).netloc

    def guard(route: Route) -> None:
        url = urlsplit(route.request.url)
        if url.netloc == home or url.scheme in {"data", "blob"}:
            route.continue_()
        else:
            visit.abroad.append(route.request.url)
            route.abort()

    context.route("**/*", guard)
    context.route_web_socket("**/*", lambda socket: visit.abroad.append(socket.url))
    visit.page.on("console", lambda message: visit.errors.append(message.text) if message.type == "error" else None)
    visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
    visit.page.on("response", lambda answer: visit.missing.append(answer.url) if answer.status >= 400 else None)
    yield visit
    context.close()
