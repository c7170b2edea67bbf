"""An interrupted save leaves the old file, or none where there was none; never a part of the new one."""

from __future__ import annotations

import builtins
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slt_infer import TicketError, files, save
from slt_infer.format import loads

from .make_corpus import BASE
from .sound import prior

ONE = BASE.build()
TWO = prior(0, True, 2, ["philox4x32", 10, 3]).build()
STEPS = ["open", "write", "half", "flush", "close", "fsync", "replace", "open folder", "fsync folder"]


@pytest.mark.parametrize("what", ["random", "bytes", "limit"])
def test_killed_or_refused_at_any_moment(tmp_path, what):
    """By SIGKILL at random moments and at each byte, and by a system that takes no more bytes."""
    for name, data in {"one.slt": ONE, "two.slt": TWO}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "at").mkdir()
    command = [sys.executable, str(Path(__file__).with_name("saver.py"))]
    arguments = [str(tmp_path / name) for name in ("at", "one.slt", "two.slt")]
    done = subprocess.run([*command, *arguments, what], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count = 150 if what == "random" else 2 * (len(TWO) + 1)
    assert done.stdout.startswith(f"{count} interruptions")


class FailingFile:
    def __init__(self, file: Any, step: str, error: BaseException) -> None:
        self.file, self.step, self.error = file, step, error

    def __enter__(self) -> FailingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.fail("close")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def fail(self, step: str) -> None:
        if self.step == step:
            raise self.error

    def write(self, data: bytes) -> int:
        self.fail("write")
        if self.step == "half":
            self.file.write(data[: len(data) // 2])
            self.file.flush()
        self.fail("half")
        return self.file.write(data)

    def flush(self) -> None:
        self.fail("flush")
        self.file.flush()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("old", [None, ONE])
@pytest.mark.parametrize("step", STEPS)
def test_an_error_at_any_step(tmp_path, monkeypatch, step, old, error):
    """The error is passed on and nothing is left beside the file. Once renamed, the new file stands whole."""
    path = tmp_path / "net.slt"
    if old is not None:
        path.write_bytes(old)
    synced = []

    def failing_open(*how: Any) -> FailingFile:
        if step == "open":
            raise error
        return FailingFile(builtins.open(*how), step, error)

    def failing_fsync(descriptor: int, fsync: Any = os.fsync) -> None:
        synced.append(descriptor)
        if step == ("fsync", "fsync folder")[len(synced) - 1]:
            raise error
        fsync(descriptor)

    def failing_replace(*paths: Any, replace: Any = os.replace) -> None:
        if step == "replace":
            raise error
        replace(*paths)

    def failing_folder(*how: Any, **more: Any) -> int:
        if step == "open folder":
            raise error
        return opened(*how, **more)

    opened = os.open
    monkeypatch.setattr(files, "open", failing_open, raising=False)
    monkeypatch.setattr(os, "fsync", failing_fsync)
    monkeypatch.setattr(os, "replace", failing_replace)
    monkeypatch.setattr(os, "open", failing_folder)
    with pytest.raises(type(error)):
        save(loads(TWO), path)
    monkeypatch.undo()
    renamed = step in ("open folder", "fsync folder")
    assert (path.read_bytes() if path.exists() else None) == (TWO if renamed else old)
    assert [name for name in os.listdir(tmp_path) if name != "net.slt"] == []


def test_what_a_reader_would_refuse_is_not_written(tmp_path):
    path = tmp_path / "net.slt"
    path.write_bytes(TWO)
    ticket = loads(ONE)
    affine = ticket.layers[2].affine
    assert affine is not None
    affine[0, 0] = float("nan")
    with pytest.raises(TicketError, match="finite"):
        save(ticket, path)
    assert path.read_bytes() == TWO
