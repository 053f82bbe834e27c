"""What the service can do is in its README: scenarios, settings, endpoints and kinds of problems.

How the README must name them: a scenario and a kind of problem in backquotes (`counter`, `queue-full`), a setting by its
variable (THREADLAB_PORT), an endpoint by its method and path (GET /v1/jobs/{id}; what stands in braces does not matter).
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from service import catalog, errors
from service.api.problems import BY_STATUS, KINDS
from service.app import create_app
from service.executors.scripted import ScriptedExecutor
from service.settings import Settings

ROOT = Path(__file__).parent.parent

PAGES = ["GET /", "GET /docs", "GET /redoc", "GET /openapi.json", "GET /problems"]  # not in the document


@pytest.fixture(scope="module")
def readme() -> str:
    """The text of the README."""
    return (ROOT / "README.md").read_text("utf-8")


def endpoints() -> list[str]:
    """Every endpoint, as its method and path."""
    document: dict[str, Any] = create_app(Settings(database_url="memory:"), ScriptedExecutor()).openapi()
    calls = [f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods]
    return [*calls, *PAGES]


def _unnamed(text: str) -> str:
    """A text with the names in braces left out."""
    return re.sub(r"\{[^}\s]*\}", "{}", text)


@pytest.mark.parametrize("name", [scenario.name for scenario in catalog.find() if scenario.origin == "built-in"])
def test_scenario_is_documented(readme: str, name: str) -> None:
    """Each scenario is in the README."""
    assert f"`{name}`" in readme


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_setting_is_documented(readme: str, name: str) -> None:
    """Each setting is in the README, by its variable, and says its meaning, unit and default's reason in the code."""
    assert re.search(rf"\bTHREADLAB_{name.upper()}\b", readme)
    description = Settings.model_fields[name].description or ""
    assert description.endswith(".")
    assert "Default:" in description or name in {"log_level", "log_format"}


@pytest.mark.parametrize("call", endpoints())
def test_endpoint_is_documented(readme: str, call: str) -> None:
    """Each endpoint is in the README, by its method and path."""
    assert re.search(rf"{re.escape(_unnamed(call))}(?![\w/{{.-])", _unnamed(readme))


@pytest.mark.parametrize("slug", sorted({kind.slug for kind in [*KINDS.values(), *BY_STATUS.values()]}))
def test_problem_is_documented(readme: str, slug: str) -> None:
    """Each kind of problem is in the README."""
    assert f"`{slug}`" in readme


def test_no_setting_in_the_readme_is_unknown(readme: str) -> None:
    """The README names no setting that is none."""
    named = set(re.findall(r"\bTHREADLAB_([A-Z_]*[A-Z])\b", readme))
    assert set() == named - {name.upper() for name in Settings.model_fields}


def test_every_error_is_drawn_in_the_tree() -> None:
    """The tree at the top of `errors.py` holds exactly the errors of the file, each under its base."""
    text = errors.__doc__ or ""
    drawn = re.findall(r"^( *)[*x-] (\w+)", text, re.MULTILINE)
    classes = {node.name for node in ast.parse(Path(errors.__file__).read_text("utf-8")).body if _is_class(node)}
    assert classes == {name for _, name in drawn} == set(errors.__all__)
    above: dict[int, str] = {}
    for indent, name in drawn:
        level = len(indent)
        above[level] = name
        if level:
            assert above[level - 2] == getattr(errors, name).__base__.__name__, name


def _is_class(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef)


def test_every_kind_of_problem_says_what_to_do() -> None:
    """A kind of problem has a title and a remedy of a sentence."""
    for kind in [*KINDS.values(), *BY_STATUS.values()]:
        assert kind.title, kind.slug
        assert kind.remedy.endswith("."), kind.slug
