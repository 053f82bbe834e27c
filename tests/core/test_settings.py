"""Settings that keep the service from whoever is not meant to reach it, and its jobs for as long as is wished."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from service.settings import Settings


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of these tests out of whoever runs them."""
    for name in ("HOST", "EXPOSE", "ALLOWED_HOSTS", "CORS_ORIGINS", "RETENTION_S", "INTERPRETERS"):
        monkeypatch.delenv(f"THREADLAB_{name}", raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
    """What only this machine can reach is taken as it is."""
    assert host == Settings(host=host).host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "lab.example", ""])
def test_another_address_needs_to_be_meant(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that others can reach is refused with what that means, unless the setting says so."""
    with pytest.raises(ValidationError, match="THREADLAB_EXPOSE=true"):
        Settings(host=host)
    monkeypatch.setenv("THREADLAB_EXPOSE", "true")
    assert host == Settings(host=host).host


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment names stand one after the other."""
    monkeypatch.setenv("THREADLAB_ALLOWED_HOSTS", "lab.example, other ,")
    monkeypatch.setenv("THREADLAB_CORS_ORIGINS", "https://course.example")
    settings = Settings()
    assert (("lab.example", "other"), ("https://course.example",)) == (settings.allowed_hosts, settings.cors_origins)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("", ()), ("/opt/python3.9", ("/opt/python3.9",)), ("/opt/a, b/python:/opt/c:", ("/opt/a, b/python", "/opt/c"))],
)
def test_interpreters_are_separated_by_colons(
    given: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the environment paths stand as they do in PATH: they may hold commas and spaces."""
    monkeypatch.setenv("THREADLAB_INTERPRETERS", given)
    assert expected == Settings().interpreters


@pytest.mark.parametrize("origin", ["*", "null", "course.example", "https://course.example/", "https://*.example"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    """A pattern or a page's address would let in nobody, or everybody."""
    with pytest.raises(ValidationError, match="no origin"):
        Settings(cors_origins=(origin,))


def test_jobs_are_kept_for_a_month() -> None:
    """Who does not say how long jobs are kept has them for 30 days."""
    assert 30 * 24 * 60 * 60 == Settings().retention_s


@pytest.mark.parametrize(("given", "expected"), [("never", "never"), ("86400", 86_400.0), ("1.5", 1.5)])
def test_the_time_for_which_jobs_are_kept_is_a_number_or_never(
    given: str, expected: float | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`never` says in a word that nothing is forgotten."""
    monkeypatch.setenv("THREADLAB_RETENTION_S", given)
    assert expected == Settings().retention_s


@pytest.mark.parametrize("given", ["0", "-1", "inf", "nan", "1e12", "always", ""])
def test_a_time_that_could_be_misread_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nought could mean "keep nothing" as well as "forget nothing", and so it means neither."""
    monkeypatch.setenv("THREADLAB_RETENTION_S", given)
    with pytest.raises(ValidationError, match="never"):
        Settings()
