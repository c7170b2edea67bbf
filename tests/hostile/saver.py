"""Saves tickets in processes that are killed: `python saver.py FOLDER ONE TWO WHAT`.

ONE and TWO are sound files. WHAT is `random`: 150 times a process that saves both in turn, again and
again, is killed after a random time; or `bytes`: a process is killed at each byte of the write, and behind
it; or `limit`: the system takes no byte more, for each byte. Each time FOLDER/net.slt must then be one of
the two, whole, or absent where it was.
"""

from __future__ import annotations

import builtins
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slt_infer import Ticket, files, load, save


def in_a_child(work: Callable[[], None], kill_after: float | None = None) -> int:
    """What ended the child: its signal, or minus its exit status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)


class DyingFile:
    """Takes `left` bytes, each to the disk before the next, then kills its process."""

    def __init__(self, file: Any, left: int) -> None:
        self.file, self.left = file, left

    def __enter__(self) -> DyingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, data: bytes) -> int:
        self.file.write(data[: self.left])
        self.file.flush()
        if self.left < len(data):
            os.kill(os.getpid(), signal.SIGKILL)
        return len(data)


def dying(ticket: Ticket, path: Path, left: int) -> Callable[[], None]:
    def dying_open(*how: Any) -> DyingFile:
        return DyingFile(builtins.open(*how), left)

    def work() -> None:
        files.open = dying_open  # type: ignore[attr-defined]
        save(ticket, path)
        os.kill(os.getpid(), signal.SIGKILL)

    return work


def limited(ticket: Ticket, path: Path, size: int) -> Callable[[], None]:
    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            save(ticket, path)
        except OSError:
            os._exit(3)
        os._exit(0)

    return work


def saving_forever(tickets: list[Ticket], path: Path) -> Callable[[], None]:
    def work() -> None:
        while True:
            for ticket in tickets:
                save(ticket, path)

    return work


def main() -> None:
    folder, sound, what = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:4]], sys.argv[4]
    tickets, contents = [load(path) for path in sound], [path.read_bytes() for path in sound]
    path, numbers, checked = folder / "net.slt", random.Random(1), 0

    def check(old: bytes | None, allowed: list[bytes]) -> None:
        nonlocal checked
        now = path.read_bytes() if path.exists() else None
        if now not in allowed and now != old:
            raise SystemExit(f"after {checked} interruptions the file is neither of the two")
        for left in folder.glob(".net.slt.*.tmp"):
            if what == "limit":
                raise SystemExit(f"a refused write left {left.name}")
            left.unlink()
        checked += 1

    if what == "random":
        for _ in range(150):
            old = path.read_bytes() if path.exists() else None
            in_a_child(saving_forever(tickets, path), numbers.uniform(0, 0.01))
            check(old, contents)
    else:
        for old in (None, contents[0]):
            for size in range(len(contents[1]) + 1):
                path.unlink(missing_ok=True)
                if old is not None:
                    path.write_bytes(old)
                ended = in_a_child((dying if what == "bytes" else limited)(tickets[1], path, size))
                whole = size == len(contents[1])
                expected = signal.SIGKILL if what == "bytes" else 0 if whole else -3
                if ended != expected:
                    raise SystemExit(f"ended by {ended}, not {expected}, at byte {size}")
                check(contents[1] if whole else old, [])
    print(f"{checked} interruptions")


if __name__ == "__main__":
    main()
