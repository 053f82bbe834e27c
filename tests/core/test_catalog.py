from __future__ import annotations

import hashlib
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service import catalog, scenarios
from service.catalog import Catalog, Example, Outcome, Scenario, Unavailable
from service.errors import BadScenario, ScenarioNotFound

_SOURCE = '''"""Sample: a scenario that keeps
every rule.

It is here to be broken: one rule at a time.

Run it:

    Four threads:
    {"scenario": "sample", "threads": 4}

    {"scenario": "sample"}

Source: the library manual, `threading`: nothing in particular.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING


@dataclass(frozen=True)
class Params:
    threads: int = field(default=2, metadata={"ge": 1, "description": "How many threads."})
    lock: bool = field(default=True, metadata={"description": "Whether there is a lock."})


LANE = "wait"


def outcomes(params):
    return {
        "kept": ("acceptable", "Nothing was lost."),
        "lost": ("forbidden" if params.lock else "interesting", "Something was."),
    }


def run(params, lab):
    return {"outcome": "kept"}
'''

_THREADS = 'threads: int = field(default=2, metadata={"ge": 1, "description": "How many threads."})'

_COUNTS = 'more: {type} = field(default={default}, metadata={{{counts}"description": "How many more."}})'

_numbers = itertools.count(1)

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write the sample as a module with some of its text replaced, and give the module's name."""
    monkeypatch.syspath_prepend(tmp_path)
    written: list[str] = []

    def write_module(*changes: tuple[str, str]) -> str:
        source = _SOURCE
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        written.append(f"written_scenario_{next(_numbers)}")
        (tmp_path / f"{written[-1]}.py").write_text(source, encoding="utf-8")
        return written[-1]

    yield write_module
    for name in written:
        sys.modules.pop(name, None)


def _load(module_name: str) -> Scenario:
    return catalog.load("sample", module_name, "tests")


# What is there.


def test_every_built_in_scenario_is_found() -> None:
    """Each file in `service/scenarios` is in the catalog under its own name, and none is unavailable."""
    expected = sorted(path.stem for path in Path(scenarios.__path__[0]).glob("*.py") if path.stem != "__init__")
    found = catalog.find()
    assert expected == [scenario.name for scenario in found if scenario.origin == "built-in"]
    assert [] == [each for each in found.unavailable if each.origin == "built-in"]


def test_a_scenario_that_keeps_the_rules_is_read(write: Write) -> None:
    """Title, summary, text, source, digest and origin of a scenario are taken from its file."""
    sample = _load(write())
    assert ("sample", "Sample", "tests") == (sample.name, sample.title, sample.origin)
    assert "a scenario that keeps every rule." == sample.summary
    assert sample.text.startswith("Sample: a scenario that keeps\nevery rule.\n\nIt is here")
    assert _SOURCE == sample.source
    assert hashlib.sha256(_SOURCE.encode()).hexdigest() == sample.digest


def test_the_parameters_are_told_in_order(write: Write) -> None:
    """A scenario says the names, types and fields of its parameters as its dataclass has them."""
    sample = _load(write())
    assert [("threads", int), ("lock", bool)] == list(sample.hints().items())
    assert ["threads", "lock"] == list(sample.fields())
    assert 2 == sample.fields()["threads"].default
    assert 7 == sample.params_type(threads=7).threads


def test_the_outcomes_are_those_of_all_choices(write: Write) -> None:
    """A scenario says what it can end with, with each grade that a choice can bring, and that it can be stuck."""
    expected = (
        Outcome("kept", "acceptable", "Nothing was lost."),
        Outcome("lost", "forbidden", "Something was."),
        Outcome("lost", "interesting", "Something was."),
    )
    *found, stuck = _load(write()).outcomes()
    assert (expected, ("stuck", "interesting")) == (tuple(found), (stuck.name, stuck.grade))


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [("params.threads == 4", "of an example"), ("params.threads == 1 and params.lock", "of the lowest number")],
)
def test_the_outcomes_are_those_of_examples_and_lowest_numbers(write: Write, condition: str, outcome: str) -> None:
    """What only an example brings, or a number at its lowest, is among the outcomes."""
    more = f'    found = {{"rare": ("interesting", "{outcome}")}} if {condition} else {{}}\n    return {{**found,\n'
    assert outcome in {each.meaning for each in _load(write(("    return {\n", more))).outcomes()}


def test_parameters_that_do_not_go_together_have_no_outcomes(write: Write) -> None:
    """A choice that the scenario refuses is left out."""
    refuses = (
        'has a lock."})\n',
        'has a lock."})\n\n    def __post_init__(self):\n        if not self.lock:\n            raise ValueError\n',
    )
    found = _load(write(("is a lock.", "has a lock."), refuses)).outcomes()
    assert [("kept", "acceptable"), ("lost", "forbidden"), ("stuck", "interesting")] == [
        (each.name, each.grade) for each in found
    ]


def test_a_measure_is_told_with_the_parameters_that_its_work_grows_with(write: Write) -> None:
    """`GROWS` tells it of a scenario's own measures and of the timings; of one that is not in it nothing is told."""
    own = 'MEASURES = {"calls": "higher", "share": "lower"}\nGROWS = {"calls": ("threads",), "cpu_s": ("threads",)}'
    sample = _load(write(('LANE = "wait"', f'LANE = "wait"\n{own}')))
    expected = {"calls": ("threads",), "share": (), "wall_s": (), "cpu_s": ("threads",)}
    assert expected == {name: measure.grows_with for name, measure in sample.measures().items()}


def test_the_examples_are_the_requests_of_run_it(write: Write) -> None:
    """Each line of JSON below `Run it:` is an example, with the words above it as its caption."""
    expected = (
        Example("Four threads", {"scenario": "sample", "threads": 4}),
        Example("Four threads", {"scenario": "sample"}),
    )
    assert expected == _load(write()).examples


def test_a_scenario_needs_no_examples(write: Write) -> None:
    """Without a section `Run it:` there are no examples."""
    assert () == _load(write(("Run it:", "Look at it:"))).examples


def test_a_lane_may_depend_on_the_parameters(write: Write) -> None:
    """A function `lane` is asked with the parameters; a constant `LANE` holds for all of them."""
    either = _load(write(('LANE = "wait"', 'def lane(params): return "cpu" if params.threads > 2 else "wait"')))
    assert ("wait", "cpu") == (either.lane(either.params_type()), either.lane(SimpleNamespace(threads=3)))
    constant = _load(write())
    assert "wait" == constant.lane(constant.params_type(threads=99))


def test_a_lane_that_breaks_for_other_parameters_is_a_bad_scenario(write: Write) -> None:
    """A `lane` that passed the checks with its defaults is still watched when it is asked with others."""
    sample = _load(write(('LANE = "wait"', 'def lane(params): return {2: "wait", 3: "gpu"}[params.threads]')))
    with pytest.raises(BadScenario, match=r"sample: lane\(params\) raised KeyError: 4"):
        sample.lane(SimpleNamespace(threads=4))
    with pytest.raises(BadScenario, match=r"sample: the lane must be one of \('cpu', 'wait'\), not 'gpu'"):
        sample.lane(SimpleNamespace(threads=3))


def test_threads_are_counted_by_name_and_by_metadata(write: Write) -> None:
    """What is called `threads`, and what says that it counts them, asks for threads; the rest does not."""
    more = _COUNTS.format(type="int", default="3", counts='"counts": "threads", ')
    sample = _load(write((_THREADS, f"{_THREADS}\n    {more}")))
    assert (("threads", "more"), ()) == (sample.counting("threads"), sample.counting("iterations"))
    assert [{"threads": 2, "more": 3}] == sample.teams({"threads": 2, "more": 3, "lock": 5})
    assert [{"threads": 2}] == sample.teams({"threads": 2, "more": "many"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((), [{"threads": 2}]),
        ([1, 16], [{"threads": 2}, {"more": 1}, {"more": 16}]),
        ([{}, {}, {}], [{"threads": 2, "more": 3}]),
    ],
)
def test_lists_count_their_items_or_what_these_say(write: Write, value: Any, expected: list[dict[str, int]]) -> None:
    """A list asks for a thread for each item, and a list of numbers for so many, one time after the other."""
    more = _COUNTS.format(type="tuple[int, ...]", default="()", counts='"counts": "threads", ')
    sample = _load(write((_THREADS, f"{_THREADS}\n    {more}")))
    assert expected == sample.teams({"threads": 2, "more": value})


def test_a_name_that_nobody_knows_is_refused_with_the_names_there_are(write: Write) -> None:
    """`ScenarioNotFound` carries what was asked for and what could have been."""
    sample = _load(write())
    one = Catalog([sample])
    assert sample is one.get("sample")
    with pytest.raises(ScenarioNotFound, match="There is no scenario 'smaple'") as refused:
        one.get("smaple")
    assert ("smaple", ("sample",)) == (refused.value.name, refused.value.known)


# Each rule, broken once.

_BROKEN = {
    "a docstring without a title": ("Sample: a scenario", "A scenario", "docstring must begin with a line like"),
    "no Params": ("class Params", "class Parameters", "no dataclass `Params`"),
    "Params no dataclass": ("@dataclass(frozen=True)", "", "no dataclass `Params`"),
    "Params no class": ("\n\nLANE", "\n\nParams = Params()\nLANE", "no dataclass `Params`"),
    "no default": (
        "default=2, ",
        "",
        "parameter 'threads' has no default",
    ),
    "a factory for a default": ("default=2, ", "default_factory=int, ", "parameter 'threads' has no default"),
    "no description": (', "description": "How many threads."', "", "parameter 'threads' has no description"),
    "an empty description": ("How many threads.", "", "parameter 'threads' has no description"),
    "no metadata": (_THREADS, "threads: int = 2", "parameter 'threads' has no description"),
    "a description that is no text": ('"How many threads."', "2", "parameter 'threads' has no description"),
    "a type that nobody knows": (
        "threads: int",
        "threads: Number",
        "types of its parameters cannot be found: NameError: name 'Number' is not defined",
    ),
    "a count of what is not counted": (
        '{"ge": 1, ',
        '{"counts": "sheep", ',
        r"`counts` of its parameter 'threads' must be one of \('threads', 'iterations'\)",
    ),
    "threads that cannot be counted": (
        "threads: int",
        "threads: float",
        "parameter 'threads' counts threads and must be an int, or a tuple",
    ),
    "threads that may be none": (
        _THREADS,
        _COUNTS.format(type="int | None", default="None", counts='"counts": "threads", '),
        "parameter 'more' counts threads and must be an int, or a tuple",
    ),
    "measures as a list": ('LANE = "wait"', 'LANE = "wait"\nMEASURES = ["wall_s"]', "MEASURES must be a dictionary"),
    "measures as a number": ('LANE = "wait"', 'LANE = "wait"\nMEASURES = 3', "MEASURES must be a dictionary"),
    "a measure of which nothing is better": (
        'LANE = "wait"',
        'LANE = "wait"\nMEASURES = {"kept": "more"}',
        r"MEASURES must say of 'kept' which is better, one of \('lower', 'higher'\)",
    ),
    "a bad lane": ('LANE = "wait"', 'LANE = "gpu"', r"the lane must be one of \('cpu', 'wait'\), not 'gpu'"),
    "no lane": ('LANE = "wait"', "", r"lane\(params\) raised AttributeError"),
    "lane raises": ('LANE = "wait"', "def lane(params): return 1 / 0", r"lane\(params\) raised ZeroDivisionError"),
    "lane gives none": ('LANE = "wait"', "def lane(params): pass", "the lane must be one of .* not None"),
    "no outcomes": ("def outcomes", "def endings", "outcomes.* failed: AttributeError"),
    "outcomes raise": ("    return {\n", "    return {}['x'] and {\n", r"outcomes\(params\).* failed: KeyError: 'x'"),
    "outcomes of another shape": (
        '("acceptable", "Nothing was lost.")',
        '"acceptable"',
        r"outcomes\(params\).* failed: ValueError",
    ),
    "outcomes a list": ("    return {\n", "    return []\n    {\n", r"outcomes\(params\).* failed: AttributeError"),
    "a bad grade": (
        '"acceptable"',
        '"fine"',
        r"grade of outcome 'kept' must be one of \('acceptable', 'interesting', 'forbidden'\)",
    ),
    "growth in a list": ('LANE = "wait"', 'LANE = "wait"\nGROWS = ["threads"]', "GROWS must be a dictionary"),
    "growth of no measure": (
        'LANE = "wait"',
        'LANE = "wait"\nGROWS = {"calls": ("threads",)}',
        "GROWS tells of 'calls', which is no measure; those are cpu_s, wall_s",
    ),
    "growth with no parameter": (
        'LANE = "wait"',
        'LANE = "wait"\nGROWS = {"wall_s": ("thread",)}',
        r"GROWS must give 'wall_s' a tuple of parameters that are numbers \(threads\)",
    ),
    "growth with a parameter that is no number": (
        'LANE = "wait"',
        'LANE = "wait"\nGROWS = {"wall_s": ("lock",)}',
        r"GROWS must give 'wall_s' a tuple of parameters that are numbers \(threads\)",
    ),
    "growth with a parameter that stands alone": (
        'LANE = "wait"',
        'LANE = "wait"\nGROWS = {"wall_s": ("threads")}',
        r"GROWS must give 'wall_s' a tuple of parameters that are numbers \(threads\)",
    ),
    "no run": ("def run(", "def walk(", r"no function `run\(params, lab\)`"),
    "run no function": ("def run(params, lab):\n    return", "run =", r"no function `run\(params, lab\)`"),
    "defaults refused": (
        '"description": "Whether there is a lock."})\n',
        '"description": "Whether."})\n\n    def __post_init__(self):\n        raise ValueError("too few")\n',
        r"Params\(\) failed: ValueError: too few",
    ),
    "a third-party import": ("import threading", "import pytest", "imports pytest; .* standard library only"),
    "a third-party import from": (
        "import threading",
        "from pytest import raises",
        "imports pytest; .* standard library only",
    ),
    "a third-party module of a package": (
        "import threading",
        "import threading, _pytest.capture",
        "imports _pytest.capture; .* standard library only",
    ),
    "a third-party import in a function": (
        '    return {"outcome": "kept"}',
        '    import pytest\n    return {"outcome": "kept"}',
        "imports pytest; .* standard library only",
    ),
    "a third-party import that may fail": (
        "import threading",
        "try:\n    import pytest\nexcept ImportError:\n    pass",
        "imports pytest; .* standard library only",
    ),
    "a third-party import beside TYPE_CHECKING": (
        'LANE = "wait"',
        'if TYPE_CHECKING:\n    pass\nelse:\n    import pytest\nLANE = "wait"',
        "imports pytest; .* standard library only",
    ),
    "a third-party import unless TYPE_CHECKING": (
        'LANE = "wait"',
        'if not TYPE_CHECKING:\n    import pytest\nLANE = "wait"',
        "imports pytest; .* standard library only",
    ),
    "an import of ours": ("import threading", "from service import jobs", "imports service; .* standard library only"),
    "an import that fails": (
        "import threading",
        "import no_such_module_anywhere",
        "cannot be imported: ModuleNotFoundError: No module named 'no_such_module_anywhere'",
    ),
    "a module that raises": ("import threading", "raise OSError('no disk')", "cannot be imported: OSError: no disk"),
    "a module that exits": ("import threading", "raise SystemExit(2)", "cannot be imported: SystemExit: 2"),
    "a module that is no Python": ("import threading", "import import", "cannot be imported: SyntaxError"),
    "Run it with bad JSON": ('"threads": 4}', '"threads": }', "`Run it:` holds a line that is no JSON"),
    "Run it with another name": (
        '{"scenario": "sample"}',
        '{"scenario": "counter"}',
        '`Run it:` holds a request for another scenario: {"scenario": "counter"}',
    ),
    "Run it without a name": (
        '{"scenario": "sample"}',
        '{"threads": 3}',
        '`Run it:` holds a request for another scenario: {"threads": 3}',
    ),
}


@pytest.mark.parametrize(("old", "new", "reason"), _BROKEN.values(), ids=_BROKEN.keys())
def test_a_scenario_that_breaks_a_rule_is_refused_with_the_reason(
    write: Write, old: str, new: str, reason: str
) -> None:
    """A broken rule is a `BadScenario` whose text names it."""
    module_name = write((old, new))
    with pytest.raises(BadScenario, match=reason):
        _load(module_name)


def test_a_docstring_that_is_no_text_is_refused(write: Write) -> None:
    """What else a module calls its docstring explains nothing."""
    with pytest.raises(BadScenario, match="docstring must begin with a line like"):
        _load(write(('LANE = "wait"', 'LANE = "wait"\n__doc__ = 3')))


def test_a_scenario_without_a_docstring_is_refused(write: Write) -> None:
    """A file that explains nothing has no title."""
    module_name = write((_SOURCE[: _SOURCE.index('"""\n\nfrom') + 3], ""))
    with pytest.raises(BadScenario, match="docstring must begin with a line like"):
        _load(module_name)


@pytest.mark.parametrize("option", sorted(catalog.OPTIONS))
def test_a_parameter_named_like_an_option_is_refused_with_both_names(write: Write, option: str) -> None:
    """No parameter may hide an option of every job, and the text says which hides which."""
    module_name = write((_THREADS, _THREADS.replace("threads:", f"{option}:")))
    with pytest.raises(BadScenario, match=f"parameter '{option}' .* option '{option}'; rename it"):
        _load(module_name)


@pytest.mark.parametrize(
    "block",
    ["if TYPE_CHECKING:\n    import pytest", "import typing\nif typing.TYPE_CHECKING:\n    from pytest import Item"],
)
def test_an_import_for_type_checkers_is_allowed(write: Write, block: str) -> None:
    """What is imported under `TYPE_CHECKING` is never imported in the child."""
    assert "Sample" == _load(write(('LANE = "wait"', f'{block}\n\nLANE = "wait"'))).title


@pytest.mark.parametrize("name", ["", "Sample", "2sample", "sam-ple", "sam.ple", "sample\n", "schön", "s" * 65])
def test_a_bad_name_is_refused(write: Write, name: str) -> None:
    """A name is what a person types after `"scenario":`: lower-case letters, digits and underscores."""
    with pytest.raises(BadScenario, match="lower-case letters, digits and underscores, not "):
        catalog.load(name, write(("Run it:", "Look at it:")), "tests")


@pytest.mark.parametrize("name", ["s", "sample_2", "s" * 64])
def test_a_good_name_is_taken(write: Write, name: str) -> None:
    """Short and long names are both fine."""
    assert name == catalog.load(name, write(("Run it:", "Look at it:")), "tests").name


# Scenarios of other packages.


def _point(name: str, module_name: str, distribution: str | None = "threadlab-extra") -> SimpleNamespace:
    dist = None if distribution is None else SimpleNamespace(name=distribution)
    return SimpleNamespace(name=name, value=module_name, dist=dist)


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Offer entry points as if other packages had brought them."""

    def offer_points(*points: SimpleNamespace) -> None:
        groups = {"threadlab.scenarios": points}
        monkeypatch.setattr(catalog, "entry_points", lambda group: groups.get(group, ()))

    return offer_points


@pytest.fixture
def built_in_names() -> tuple[str, ...]:
    """The names of the scenarios that are our own."""
    return tuple(scenario.name for scenario in catalog.find() if scenario.origin == "built-in")


def test_another_package_can_bring_a_scenario(
    write: Write, offer: Callable[..., None], built_in_names: tuple[str, ...]
) -> None:
    """A scenario of another package stands behind the built-in ones and says where it comes from."""
    offer(_point("sample", write()))
    found = catalog.find()
    assert (*built_in_names, "sample") == found.names
    assert "threadlab-extra" == found.get("sample").origin


def test_a_bad_scenario_does_not_stop_the_others(
    write: Write, offer: Callable[..., None], built_in_names: tuple[str, ...]
) -> None:
    """A scenario that breaks a rule is listed with its reason; those before and behind it are there."""
    bare = ("Run it:", "Look at it:")
    offer(
        _point("zebra", write(bare)),
        _point("broken", write(bare, ("def run(", "def walk("))),
        _point("absent", "no_such_module_anywhere", None),
        _point("ant", write(bare)),
    )
    found = catalog.find()
    assert (*built_in_names, "ant", "zebra") == found.names
    missing = "no_such_module_anywhere cannot be imported: ModuleNotFoundError: No module named"
    expected = (
        Unavailable("absent", "unknown", f"{missing} 'no_such_module_anywhere'"),
        Unavailable("broken", "threadlab-extra", "It has no function `run(params, lab)`."),
    )
    assert expected == found.unavailable


@pytest.mark.parametrize("kind", _BROKEN)
def test_no_bad_scenario_stops_the_service(write: Write, offer: Callable[..., None], kind: str) -> None:
    """Whatever rule another package's scenario breaks, the others are found and it is listed with the reason."""
    old, new, reason = _BROKEN[kind]
    offer(_point("sample", write((old, new))))
    (unavailable,) = catalog.find().unavailable
    assert "sample" == unavailable.name
    assert re.search(reason, unavailable.reason)


def test_a_module_that_exits_does_not_stop_the_service(write: Write, offer: Callable[..., None]) -> None:
    """A script offered by mistake that ends its interpreter when imported is unavailable, like any other bad one."""
    offer(_point("script", write(("import threading", "import sys; sys.exit('usage: script FILE')"))))
    assert ["script"] == [each.name for each in catalog.find().unavailable]


def test_a_name_that_is_taken_is_unavailable(write: Write, offer: Callable[..., None]) -> None:
    """The second scenario of a name is listed as unavailable, and says who has the name."""
    first, second = write(), write(("    Four threads:\n", ""))
    offer(_point("sample", first, "first-package"), _point("sample", second, "second-package"))
    found = catalog.find()
    assert "first-package" == found.get("sample").origin
    reason = "first-package already has a scenario of this name; give it another."
    assert (Unavailable("sample", "second-package", reason),) == found.unavailable


def test_nobody_can_take_the_name_of_a_built_in_scenario(
    write: Write, offer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A built-in scenario keeps its name, whatever another package offers."""
    ours, theirs = write(), write()
    monkeypatch.setattr(catalog, "_built_in", lambda: [("sample", ours, "built-in")])
    offer(_point("sample", theirs))
    found = catalog.find()
    assert (ours, "built-in") == (found.get("sample").module.__name__, found.get("sample").origin)
    reason = "built-in already has a scenario of this name; give it another."
    assert (Unavailable("sample", "threadlab-extra", reason),) == found.unavailable


def test_parameters_that_can_be_changed_are_refused(write: Write) -> None:
    """A run that could change its own parameters would not be the run that was asked for."""
    with pytest.raises(BadScenario, match="frozen=True"):
        _load(write(("@dataclass(frozen=True)", "@dataclass")))
