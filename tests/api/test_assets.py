"""The page's files: sent from memory, compressed for who can unpack them, kept by browsers while they are the same."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from service import web
from service.api.assets import Assets
from tests.api.client import Client

WEB = Path(web.__file__).parent
SMALL, LARGE, TINY = "page/app.js", "vendor/swagger-ui/swagger-ui.css", "icon.svg"
PLAIN = {"Accept-Encoding": "identity"}


@pytest.mark.parametrize("name", [SMALL, LARGE])
def test_two_forms(client: Client, name: str) -> None:
    """Who can unpack it gets it compressed, others as it is; each form has an ETag, and caches know them apart."""
    packed, plain = client.get(f"/assets/{name}"), client.get(f"/assets/{name}", headers=PLAIN)
    assert (WEB / name).read_bytes() == packed.content == plain.content
    assert "gzip" == packed.headers["content-encoding"]
    assert "content-encoding" not in plain.headers
    assert len(packed.content) > int(packed.headers["content-length"])
    assert packed.headers["etag"] != plain.headers["etag"]
    assert ["Accept-Encoding"] * 2 == [each.headers["vary"] for each in (packed, plain)]


def test_what_is_tiny_is_not_compressed(client: Client) -> None:
    """A file of one packet is sent as it is."""
    answer = client.get(f"/assets/{TINY}")
    assert (200, "image/svg+xml") == (answer.status_code, answer.headers["content-type"])
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("path", ["/", f"/assets/{SMALL}"])
def test_a_browser_that_has_it(client: Client, path: str) -> None:
    """Whoever names the ETag of the form that they would get is told that they have it, and nobody else."""
    packed, plain = client.get(path), client.get(path, headers=PLAIN)
    again = client.get(path, headers={"If-None-Match": f'"other", W/{packed.headers["etag"]}'})
    assert (304, b"", packed.headers["etag"]) == (again.status_code, again.content, again.headers["etag"])
    assert 200 == client.get(path, headers={"If-None-Match": plain.headers["etag"]}).status_code
    assert "no-cache" == packed.headers["cache-control"] == again.headers["cache-control"]


def test_the_etag_is_of_what_is_in_it(tmp_path: Path) -> None:
    """The same content has the same ETag in each life of the service, and other content another."""
    file = tmp_path / "a.js"
    file.write_text("const one = 1;\n" * 100)
    first, again = Assets(tmp_path), Assets(tmp_path)
    file.write_text("const two = 2;\n" * 100)
    other = Assets(tmp_path)
    same = [form.headers["ETag"] for form in again.files["a.js"].keep()]
    assert same == [form.headers["ETag"] for form in first.files["a.js"].keep()]
    assert not set(same) & {form.headers["ETag"] for form in other.files["a.js"].keep()}


def test_head_and_other_methods(client: Client) -> None:
    """HEAD tells the headers of GET; a file cannot be written to."""
    path = f"/assets/{SMALL}"
    assert client.get(path).headers["etag"] == client.request("HEAD", path).headers["etag"]
    assert 405 == client.request("POST", path).status_code


def test_the_page_asks_for_all_its_modules_at_once() -> None:
    """What any module of the page imports is preloaded by the page, so that no module waits for another to be read."""
    html = (WEB / "index.html").read_text()
    named = {*re.findall(r'modulepreload" href="([^"]+)"', html), *re.findall(r'type="module" src="([^"]+)"', html)}
    modules = [*(WEB / "page").glob("*.js"), WEB / "vendor/htm/standalone.module.js"]
    assert {f"/assets/{path.relative_to(WEB).as_posix()}" for path in modules} == named


def test_unpacked_by_anything() -> None:
    """The compressed form is plain gzip, the same in each life of the service."""
    plain, packed = Assets(WEB).files[SMALL].keep()
    assert plain.body == gzip.decompress(packed.body)
    assert packed.body == Assets(WEB).files[SMALL].keep()[1].body
