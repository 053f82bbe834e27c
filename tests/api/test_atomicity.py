"""`/v1/atomicity`: a matrix that is measured when it is asked for, and remembered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, get_args

import pytest

from service.api.schemas import Atomicity
from service.catalog import Catalog
from service.executors.scripted import ScriptedExecutor, success
from tests.api.client import Client
from tests.support import wait_until
from tests.system.server import Server

MakeClient = Callable[..., Client]

PATH = "/v1/atomicity"
WAIT = {"Prefer": "wait=20"}


def matrix(client: Client, query: str = "", **headers: str) -> dict[str, Any]:
    """The answer, in the shape of its model."""
    response = client.get(f"{PATH}{query}", headers={**WAIT, **headers})
    assert 200 == response.status_code, response.text
    Atomicity.model_validate_json(response.content)
    return dict(response.json())


@pytest.fixture
def executor() -> ScriptedExecutor:
    """An executor to which nothing is ever lost."""
    return ScriptedExecutor(lambda order: success("not_seen", operation=order.params["operation"], lost_share=0.0))


@pytest.fixture
def client(make_client: MakeClient, executor: ScriptedExecutor) -> Client:
    """A client of a service on that executor."""
    return make_client(executor)


def test_all_operations_are_measured(client: Client, executor: ScriptedExecutor, catalog: Catalog) -> None:
    """Each operation of the scenario is a cell for each interpreter, measured by a job of its own."""
    operations = get_args(catalog.get("atomicity").hints()["operation"])
    found = matrix(client)
    assert list(operations) == found["operations"] == [cell["operation"] for cell in found["cells"]]
    assert ["3.11"] == [each["selector"] for each in found["interpreters"]]
    assert (True, {"done": len(operations), "of": len(operations)}) == (found["complete"], found["progress"])
    assert {"not_seen"} == {cell["outcome"] for cell in found["cells"]}
    assert len(operations) == len({cell["job_id"] for cell in found["cells"]}) == len(executor.orders)
    assert {"3.11"} == {order.python for order in executor.orders}


def test_what_was_cancelled_is_measured_anew(make_client: MakeClient) -> None:
    """A cell whose job was cancelled has measured nothing, and is measured when it is asked for again."""
    held = threading.Event()
    client = make_client(ScriptedExecutor(lambda _: success("not_seen", lost_share=0.0), held=held))
    query = "?operation=augmented"
    (cell,) = client.get(f"{PATH}{query}").json()["cells"]
    assert 200 == client.post(f"/v1/jobs/{cell['job_id']}/cancel").status_code
    held.set()
    (again,) = matrix(client, query)["cells"]
    assert ("succeeded", True) == (again["status"], again["job_id"] != cell["job_id"])
    assert again == matrix(client, query)["cells"][0]


def test_what_was_measured_is_remembered(client: Client, executor: ScriptedExecutor) -> None:
    """A second question measures nothing anew; one whose job is deleted does."""
    first = matrix(client)
    assert first == matrix(client)
    count = len(executor.orders)
    job_id = first["cells"][0]["job_id"]
    assert 204 == client.delete(f"/v1/jobs/{job_id}").status_code
    again = matrix(client)
    assert job_id != again["cells"][0]["job_id"]
    assert first["cells"][1:] == again["cells"][1:]
    assert count + 1 == len(executor.orders)


def test_another_build_is_measured_anew(make_client: MakeClient) -> None:
    """What was measured on one build is not told of another one with the same name."""
    executor = ScriptedExecutor()
    keys = set()
    for build in ("3.11.0 (one)", "3.11.0 (other)"):
        interpreter = executor.interpreters()[0]
        object.__setattr__(interpreter, "build_id", build)
        keys.add(matrix(make_client(executor), "?operation=item")["interpreters"][0]["build_id"])
    assert {"3.11.0 (one)", "3.11.0 (other)"} == keys
    assert 2 == len(executor.orders)


def test_a_part_of_it(client: Client, executor: ScriptedExecutor) -> None:
    """A question can name operations and interpreters; nothing else is measured."""
    found = matrix(client, "?operation=item&operation=augmented&python=3.11&python=3.11")
    assert [("augmented", "3.11"), ("item", "3.11")] == [(c["operation"], c["python"]) for c in found["cells"]]
    assert 2 == len(executor.orders)


def test_unfinished_is_told(make_client: MakeClient) -> None:
    """What is not measured yet is null, with `Retry-After`; it goes on being measured."""
    gate = threading.Event()
    client = make_client(ScriptedExecutor(lambda _: success("lost", lost_share=0.5), held=gate))
    response = client.get(f"{PATH}?operation=item")
    assert ("1", False) == (response.headers["Retry-After"], response.json()["complete"])
    (cell,) = response.json()["cells"]
    assert cell["status"] in {"queued", "running"}
    assert (None, None, None) == (cell["outcome"], cell["lost_share"], cell["measured_at"])
    gate.set()
    wait_until(lambda: matrix(client, "?operation=item")["complete"])
    assert 0.5 == matrix(client, "?operation=item")["cells"][0]["lost_share"]


@pytest.mark.parametrize(
    ("query", "parameter"), [("?operation=items", "operation"), ("?python=9.9", "python"), ("?pyton=3.11", "pyton")]
)
def test_mistakes(client: Client, executor: ScriptedExecutor, query: str, parameter: str) -> None:
    """What there is not is a 422 that names the parameter and what there is, and nothing is run."""
    response = client.get(f"{PATH}{query}")
    (error,) = response.json()["errors"]
    assert (422, parameter) == (response.status_code, error["parameter"])
    assert error["allowed"]
    assert [] == executor.orders


def test_a_real_one(live_server: Server) -> None:
    """On this interpreter, an operation with a call in its gap loses, and its disassembly is marked there."""
    found = Atomicity.model_validate_json(
        live_server.ask("GET", f"{PATH}?operation=yield&operation=setdefault&python=3", headers=WAIT).content
    )
    lost, kept = found.cells
    assert ("lost", True) == (lost.outcome, lost.gap_has_switch)
    assert lost.smallest_iterations is not None
    assert "not_seen" == kept.outcome
    for cell in found.cells:
        assert cell.switch_rule
        assert cell.instructions
        assert all(each.why for each in cell.instructions if each.switch)
