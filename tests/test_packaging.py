"""What is shipped: the wheel, the locks, the README's two commands, CI's script, the image and the compose file."""

from __future__ import annotations

import email.parser
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service import __version__
from tests.support import CI, need

ROOT = Path(__file__).parent.parent
LOCKS = ["requirements.lock", "requirements-build.lock", "requirements-dev.lock"]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
REGISTRIES = re.compile("|".join(("py" + r"pi\.org", "python" + "hosted", "registry" + r"\.npmjs", "docker" + r"\.io")))


def pins(lock: str) -> dict[str, str]:
    """Return what a lock pins: canonical names and versions."""
    requirements = [
        Requirement(text) for text in re.findall(r"^([^\s#][^\\\n]*)", (ROOT / lock).read_text(), re.MULTILINE)
    ]
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in requirements}


def missing(reason: str) -> None:
    """Skip on a laptop and fail where CI is set."""
    (pytest.fail if CI else pytest.skip)(reason)


def names(requirements: list[str]) -> set[str]:
    """Return the canonical names of requirements."""
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def readme_commands() -> list[str]:
    """Return the lines of the README's fenced blocks that make a venv."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("python3 -m venv")]


def instructions() -> list[str]:
    """Return the Dockerfile's instructions, each on one line, from its last `FROM` on."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line]
    return lines[max(i for i, line in enumerate(lines) if line.startswith("FROM")) :]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel of this tree, built without a network."""
    if importlib.util.find_spec("hatchling") is None:
        missing("hatchling is not installed; requirements-dev.lock has it")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", folder, ROOT], check=True, capture_output=True, timeout=100)
    (path,) = folder.glob("threadlab-*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.fixture
def metadata(wheel: zipfile.ZipFile) -> Message:
    """The wheel's metadata."""
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.parser.Parser().parsestr(wheel.read(name).decode())


def test_wheel_is_whole(wheel: zipfile.ZipFile) -> None:
    """The wheel holds every file of `service`: child, scenarios and the page's libraries included."""
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "service").rglob("*") if path.is_file()}
    expected = {name for name in sources if "__pycache__" not in name}

    assert expected == {name for name in wheel.namelist() if name.startswith("service/")}
    assert {"service/child/__main__.py", "service/scenarios/counter.py"} <= expected
    assert any(name.startswith("service/web/vendor/") for name in expected)


def test_wheel_carries_licences(wheel: zipfile.ZipFile, metadata: Message) -> None:
    """The wheel carries our licence and that of every library that it ships."""
    vendored = [path for path in (ROOT / "service/web/vendor").iterdir() if path.is_dir()]
    carried = metadata.get_all("License-File", [])

    assert metadata["License-Expression"] == "MIT"
    assert "LICENSE" in carried
    for library in vendored:
        assert f"service/web/vendor/{library.name}/LICENSE" in carried
    assert all(any(name.endswith(f"/licenses/{each}") for name in wheel.namelist()) for each in carried)


def test_wheel_names_version_and_command(wheel: zipfile.ZipFile, metadata: Message) -> None:
    """The wheel has the package's own version and brings the command `threadlab`."""
    (scripts,) = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]

    assert metadata["Version"] == __version__
    assert "threadlab = service.cli:main" in wheel.read(scripts).decode()


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_has_pins_and_hashes_only(lock: str) -> None:
    """A lock pins each package to one version with hashes, and says nothing of where it comes from."""
    text = (ROOT / lock).read_text()
    pinned = r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==[^\s;\\]+( ; [^\\]+)?"
    hashed = r" \\\n    --hash=sha256:[0-9a-f]{64}"
    entries = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)

    assert re.fullmatch(f"({pinned}({hashed})+\n)+", entries)
    assert "://" not in text
    assert f"-o {lock}" in text.splitlines()[1]


def test_locks_cover_what_is_asked_for() -> None:
    """Each lock has what pyproject.toml asks for, in versions that it allows."""
    project = PYPROJECT["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    asked = {
        "requirements.lock": project["dependencies"],
        "requirements-build.lock": PYPROJECT["build-system"]["requires"],
        "requirements-dev.lock": [*project["dependencies"], *extras, *PYPROJECT["build-system"]["requires"]],
    }
    for lock, requirements in asked.items():
        pinned = pins(lock)
        assert names(requirements) <= pinned.keys()
        for requirement in map(Requirement, requirements):
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), (lock, requirement)


def test_locks_agree() -> None:
    """What is tested is what is served: the lock for tests has every pin of the other two."""
    assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()
    assert pins("requirements-build.lock").items() <= pins("requirements-dev.lock").items()


def test_readme_has_two_commands() -> None:
    """The README has one line that sets up and serves and one that sets up and tests, and both install by the locks."""
    serve, tests = readme_commands()

    assert serve.endswith(" && .venv/bin/threadlab serve")
    assert tests.endswith(" && .venv/bin/pytest")
    for command in (serve, tests):
        make, locked, project, _ = command.split(" && ")
        assert make == "python3 -m venv .venv"
        assert locked.startswith(".venv/bin/pip install -q --require-hashes -r ")
        assert set(re.findall(r"-r (\S+)", locked)) <= set(LOCKS)
        assert project == ".venv/bin/pip install -q --no-deps --no-build-isolation -e ."


@pytest.fixture
def ci(tmp_path: Path) -> Path:
    """A tree with CI's script and the README, in which every tool only writes down that it was called."""
    for name in (".ci/run", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    tools = [".venv/bin/" + name for name in ("pip", "pytest", "ruff", "mypy", "lint-imports")]
    for name in ["bin/python3", "bin/npm", ".ci/spectral", *tools]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'#!/bin/sh\necho "{name} $*" | tee -a "{tmp_path}/calls"\ncase "$0 $*" in *"$BREAKS"*) exit 3; esac\n'
        )
        path.chmod(0o755)
    return tmp_path


def run_ci(tree: Path, breaks: str = "nothing") -> tuple[int, list[str]]:
    """Run CI's script in a tree of stand-ins; one of them may be told to fail."""
    kept = {name: value for name, value in os.environ.items() if name != "CI"}
    environment = {**kept, "PATH": f"{tree}/bin:{os.environ['PATH']}", "BREAKS": breaks}
    done = subprocess.run(["bash", tree / ".ci/run"], check=False, env=environment, capture_output=True, timeout=60)
    return done.returncode, (tree / "calls").read_text().splitlines()


def test_ci_runs_the_readme_and_the_checks(ci: Path) -> None:
    """`.ci/run` runs the README's own test command, then lint, format, types, floors, and the document's rules."""
    _, tests = readme_commands()
    expected = [step.replace("python3", "bin/python3", 1) for step in tests.split(" && ")]
    expected += [f".venv/bin/{check}" for check in ("ruff check", "ruff format --check", "mypy", "lint-imports")]
    expected += [".ci/spectral"]

    status, calls = run_ci(ci)

    assert status == 0
    assert expected == [call.strip() for call in calls]


@pytest.mark.parametrize(
    "breaks", ["-m venv", "-r requirements", "pytest", "ruff check", "format", "mypy", "imports", "spectral"]
)
def test_ci_fails_when_any_step_fails(ci: Path, breaks: str) -> None:
    """`.ci/run` fails when any one of its steps fails, and still runs the checks after it."""
    status, calls = run_ci(ci, breaks)

    assert status == 1
    assert calls[-1].strip() == ".ci/spectral"


def test_image_is_lean_and_unprivileged() -> None:
    """The image is built in a stage of its own, runs as a user with a number, and gets signals itself."""
    final = instructions()

    assert (ROOT / "Dockerfile").read_text().count("\nFROM ") == 2
    assert "USER 10001:10001" in final
    assert 'ENTRYPOINT ["threadlab"]' in final
    assert 'CMD ["serve"]' in final
    assert 'VOLUME ["/data"]' in final
    assert "EXPOSE 8000" in final
    assert not [line for line in final if re.search(r"\b(pip|apt-get|curl|gcc)\b", line)]
    assert [line for line in final if line.startswith("HEALTHCHECK") and "/healthz" in line]
    assert re.search(r"THREADLAB_DATABASE_URL=sqlite:////data/", "\n".join(final))


def test_image_takes_what_is_committed_only() -> None:
    """What the image is built from is listed file by file, so that a database or a venv never gets in."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert "*" in ignored
    assert {name for line in copied for name in line.split()} == {line[1:] for line in ignored if line[:1] == "!"}


def test_compose_keeps_the_service_in() -> None:
    """Compose publishes on this machine only, keeps jobs in a volume, and gives the container no more than it needs."""
    text = re.sub(r" +# .*", "", (ROOT / "docker-compose.yml").read_text())
    lines = {line.strip() for line in text.splitlines()}

    assert re.findall(r"- \"?([\d.:]+)\"?$", text, re.MULTILINE) == ["127.0.0.1:8000:8000"]
    assert {"read_only: true", "cap_drop: [ALL]", 'security_opt: ["no-new-privileges:true"]'} <= lines
    assert {"- jobs:/data", "restart: unless-stopped", "healthcheck:"} <= lines
    assert re.search(r"pids_limit: \d+", text)
    assert re.search(r"stop_grace_period: \d+s", text)


def test_no_file_names_a_registry() -> None:
    """No committed file names the host of a package registry."""
    listed = subprocess.run(
        [need("git"), "ls-files", "-z"], check=False, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    if listed.returncode != 0:
        missing("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    found = [
        str(path.relative_to(ROOT))
        for path in files
        if path.is_file() and "vendor" not in path.parts and REGISTRIES.search(path.read_text(errors="replace"))
    ]

    assert found == []
