"""Reads files as `slt_infer.load` does, each in a process of its own, and says what that took.

    python measure.py FOLDER

prints a JSON object for each FOLDER/*.slt: name, code (of the TicketError, or "accepted") and peak, the bytes
by which the process grew while it read the file, the file's own included. Needs Linux (/proc).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from slt_infer import TicketError, load


def memory(field: str) -> int:
    """Bytes of a line of /proc/self/status: VmRSS (now) or VmHWM (the most so far)."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def outcome(path: Path) -> dict[str, object]:
    before = memory("VmRSS")
    try:
        load(path)
        code = "accepted"
    except TicketError as error:
        code = error.code
    return {"name": path.stem, "code": code, "peak": max(memory("VmHWM") - before, 0)}


def main() -> None:
    for path in sorted(Path(sys.argv[1]).glob("*.slt")):
        # a child starts from this process's size, so its highest mark is of this file alone
        child = os.fork()
        if child == 0:
            print(json.dumps(outcome(path)), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps({"name": path.stem, "code": f"killed: {status}", "peak": 0}), flush=True)


if __name__ == "__main__":
    main()
