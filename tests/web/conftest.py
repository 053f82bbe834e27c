"""A real server and a real browser that can reach nothing but it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Route, sync_playwright

from tests.support import need
from tests.system.server import Server
from tests.web.visit import Visit, opened

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


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
    """A fresh page whose every request to another host is blocked and written down; its browser keeps no cache."""
    context = browser.new_context(base_url=live_server.url)
    visit = opened(context)
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
    yield visit
    context.close()


@pytest.fixture
def at_home(browser: Browser, live_server: Server) -> Iterator[BrowserContext]:
    """A browser as people have it: with a cache, which Playwright switches off where requests are looked at."""
    context = browser.new_context(base_url=live_server.url)
    yield context
    context.close()
