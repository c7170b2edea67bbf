"""The one error of the independent decoder."""

from __future__ import annotations


class Refused(ValueError):
    """A file that breaks a rule of docs/format.md."""


def need(holds: bool, rule: str) -> None:
    if not holds:
        raise Refused(rule)
