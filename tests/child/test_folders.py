"""Whatever stands in a folder, it is removed, and nothing beyond it is touched."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.child import folders

DEPTH = 3_000  # twice what a stack of calls could follow, and more than a path can name


def dig(folder: Path, depth: int) -> None:
    """Make folders in folders, each with a file, without a path that names them."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


@contextmanager
def few_descriptors(more: int) -> Iterator[None]:
    """Allow some descriptors beyond those that are open."""
    highest = max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208  a path would be opened for each
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_deep_folder(tmp_path: Path) -> None:
    """Folders in folders are removed, however deep, with as many descriptors as for flat ones."""
    folder = tmp_path / "deep"
    folder.mkdir()
    dig(folder, DEPTH)
    with few_descriptors(8):
        assert folders.remove(str(folder))
    assert [] == list(tmp_path.iterdir())


def test_a_wide_folder(tmp_path: Path) -> None:
    """Many files and folders beside each other are removed, those with the names in use for the deeper ones, too."""
    folder = tmp_path / "wide"
    for number in range(30):
        (folder / f"up-{number}" / "inner" / "most").mkdir(parents=True)
        (folder / f"up-{number}" / "inner" / "file").touch()
        (folder / f"file-{number}").touch()
    (folder / "up-30").touch()
    (folder / "up-31").mkdir()
    assert folders.remove(str(folder))
    assert [] == list(tmp_path.iterdir())


def test_links(tmp_path: Path) -> None:
    """A link is removed, and what it leads to is left as it is: within the folder, and in its place."""
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o755)
    (precious / "file").touch()
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    for link in (folder / "link", folder / "inner" / "link", tmp_path / "instead"):
        link.symlink_to(precious)
    (folder / "dangling").symlink_to("nowhere")
    assert folders.remove(str(folder))
    assert folders.remove(str(tmp_path / "instead"))
    assert [precious] == list(tmp_path.iterdir())
    assert [precious / "file"] == list(precious.iterdir())
    assert 0o755 == precious.stat().st_mode & 0o777


def test_what_is_no_folder(tmp_path: Path) -> None:
    """A file in its place is removed; nothing in its place is as good."""
    (tmp_path / "file").touch()
    assert folders.remove(str(tmp_path / "file"))
    assert folders.remove(str(tmp_path / "file"))
    assert folders.remove(str(tmp_path / "no" / "where"))


def test_a_time_limit(tmp_path: Path) -> None:
    """When its time is over it says that there is more, and another call goes on."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(2_000):
        (folder / str(number)).touch()
    begun = time.monotonic()
    assert not folders.remove(str(folder), within_s=0.0)
    assert time.monotonic() - begun < 1
    assert 1_000 < sum(1 for _ in folder.iterdir()) < 2_000
    assert folders.remove(str(folder))


@pytest.mark.parametrize("call", ["unlink", "rmdir", "open", "scandir", "rename", "chmod"])
def test_what_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """What the system does not let go stays, which is said, and comes to an end."""
    folder = tmp_path / "folder"
    (folder / "inner" / "most").mkdir(parents=True)
    (folder / "file").touch()

    def refuse(*_: object, **__: object) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(folders.os, call, refuse)
        assert (call == "chmod") == folders.remove(str(folder))
    assert folders.remove(str(folder))
