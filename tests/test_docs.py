"""What the service can do is in its README: scenarios, settings, endpoints and problems.

How the README must name them: a scenario in backquotes, a setting by its variable (THREADLAB_PORT), an endpoint by its
path, and by its method before that if it is not GET (what stands in braces does not matter). The kinds of problems are
on pages of the service's own, which the README names.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from service import catalog, errors
from service.api.problem_types import BY_ERROR, BY_REFUSAL, BY_STATUS, ProblemType
from service.app import create_app
from service.executors.scripted import ScriptedExecutor
from service.settings import Settings

ROOT = Path(__file__).parent.parent

PAGES = ["/docs", "/redoc", "/openapi.json", "/problems"]  # not in the document


@pytest.fixture(scope="module")
def readme() -> str:
    """The text of the README."""
    return (ROOT / "README.md").read_text("utf-8")


def endpoints() -> list[str]:
    """Every endpoint, as its path, with its method if that is not GET."""
    document: dict[str, Any] = create_app(Settings(database_url="memory:"), ScriptedExecutor()).openapi()
    calls = [f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods]
    return [*(call.removeprefix("GET ") for call in calls), *PAGES]


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
    """Each endpoint is in the README, by its path, and by its method if that is not GET."""
    assert re.search(rf"(?<![\w/}}]){re.escape(_unnamed(call))}(?![\w/{{-])", _unnamed(readme))


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


@pytest.mark.parametrize(
    "kind", [*BY_ERROR.values(), *BY_STATUS.values(), *BY_REFUSAL.values()], ids=lambda kind: kind.slug
)
def test_problem_is_documented(kind: ProblemType) -> None:
    """A kind of problem has a title, and a remedy of a sentence, from which its page is made."""
    assert kind.title
    assert kind.remedy.endswith(".")
