"""A run folder: its settings, its metrics, its lock, and the table of all runs beside it. No torch here."""

from __future__ import annotations

import csv
import fcntl
import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec

from slt_infer.errors import SltError
from slt_infer.files import write_atomically
from slt_infer.search.result import Summary, write_json
from slt_infer.search.settings import Settings

COLUMNS = (
    "run",
    "finished",
    "network",
    "data",
    "method",
    "sparsity",
    "density",
    "prune",
    "lock",
    "rate",
    "pull",
    "rule",
    "seed",
    "val_accuracy",
    "test_accuracy",
    "epochs",
    "best_epoch",
    "seconds",
)


@contextmanager
def locked(path: Path, wait: bool) -> Iterator[IO[str]]:
    """An exclusive lock on a file, which is created if missing; it ends with the process however that ends.

    Raises SltError (`busy`) if another process holds it and `wait` is false.
    """
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise SltError("busy", "another process is at work on this run", str(path.parent)) from error
        yield file


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """config.json, once: a run that was begun with another configuration is refused (SltError `other-run`).

    `settings` and `data` are compared, all else is a record.
    """
    path = folder / "config.json"
    if path.exists():
        try:
            begun = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except msgspec.DecodeError as error:
            message = f"config.json is damaged ({error}): delete the run folder to start again"
            raise SltError("other-run", message, str(folder)) from error
        # a setting that did not exist when the run was begun had the value that is now its default
        begun["settings"] = {**msgspec.to_builtins(Settings()), **begun.get("settings", {})}
        for key in ("settings", "data"):
            if begun.get(key) != config[key]:
                message = f"was begun with other {key}{_first_difference(begun.get(key), config[key])}"
                raise SltError("other-run", f"{message}; give another --out", str(folder))
        return
    write_json(path, config)


def _first_difference(begun: Any, now: Any) -> str:
    if not isinstance(begun, dict):
        return ""
    different = next((key for key in now if begun.get(key) != now[key]), None)
    return f": {different} {begun.get(different)} then, {now[different]} now" if different else ""


def write_metrics(folder: Path, rows: list[dict[str, Any]]) -> None:
    """metrics.jsonl anew, as the checkpoint knows it: rows written after the checkpoint come again."""
    text = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    write_atomically(folder / "metrics.jsonl", lambda file: file.write(text))


def append_metrics(folder: Path, row: dict[str, Any]) -> None:
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(msgspec.json.encode(row) + b"\n")


def add_to_table(folder: Path, summary: Summary) -> None:
    """One row for the run in results.csv of the folder above, unless it has one."""
    path = folder.parent / "results.csv"
    values = {**summary.settings, **msgspec.to_builtins(summary), "run": folder.name}
    values["finished"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with locked(path.with_name(".results.lock"), wait=True):
        old = path.read_text() if path.exists() else ""
        rows = list(csv.DictReader(io.StringIO(old)))
        if any(row.get("run") == folder.name for row in rows):
            return
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows([*rows, values])
        write_atomically(path, lambda file: file.write(text.getvalue().encode()))
