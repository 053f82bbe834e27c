"""One executor for all tests here: it is started before a test is watched for what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service.executors.base import Cancel
from service.executors.local import LocalExecutor
from service.jobs import Report
from tests.executors.helpers import LIMITS, make_order, write_scenario
from tests.support import SILENT


@pytest.fixture(scope="session")
def executor() -> Iterator[LocalExecutor]:
    """A started local executor on this interpreter, nothing preloaded."""
    local = LocalExecutor(LIMITS)
    local.start()
    yield local
    local.close()


@pytest.fixture
def run(executor: LocalExecutor) -> Callable[..., Report]:
    """Run the body of a scenario's `run` in a child; see `write_scenario` and `make_order` for the arguments."""

    def run(body: str, top: str = "", **order: Any) -> Report:
        return executor.run(make_order(write_scenario(body, top), **order), SILENT, Cancel())

    return run
