"""A page in a browser, and what went wrong or abroad while it was open."""

from __future__ import annotations

from dataclasses import dataclass, field

from playwright.sync_api import Page

__all__ = ["Visit", "check_clean"]


@dataclass
class Visit:
    """A page, and what went wrong or abroad while it was open."""

    page: Page
    abroad: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def check_clean(visit: Visit) -> None:
    """Nothing was asked of another host, nothing failed, nothing was missing."""
    visit.page.wait_for_load_state("networkidle")
    assert [] == visit.abroad
    assert [] == visit.missing
    assert [] == visit.errors
