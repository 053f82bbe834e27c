"""A page in a browser, and what went wrong or abroad while it was open."""

from __future__ import annotations

from dataclasses import dataclass, field

from playwright.sync_api import BrowserContext, Page, expect

__all__ = ["Visit", "check_clean", "opened"]

_PATIENCE_MS = 30_000  # a page takes a second or two here; Redoc's a little longer on a busy machine


@dataclass
class Visit:
    """A page, and what went wrong or abroad while it was open."""

    page: Page
    abroad: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def opened(context: BrowserContext) -> Visit:
    """Open a page, and write down what goes wrong in it."""
    context.set_default_timeout(_PATIENCE_MS)
    expect.set_options(timeout=_PATIENCE_MS)
    visit = Visit(context.new_page())
    visit.page.on("console", lambda message: visit.errors.append(message.text) if message.type == "error" else None)
    visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
    visit.page.on("response", lambda answer: visit.missing.append(answer.url) if answer.status >= 400 else None)
    return visit


def check_clean(visit: Visit) -> None:
    """Nothing was asked of another host, nothing failed, nothing was missing."""
    visit.page.wait_for_load_state("networkidle")
    assert [] == visit.abroad
    assert [] == visit.missing
    assert [] == visit.errors
