"""The errors a user can meet, each with a code that scripts may rely on."""

from __future__ import annotations


class SltError(Exception):
    """A refused input: what is wrong (`message`), a stable `code`, and `where` it is.

    Commands print it as ``{"error": {"code", "message", "where"}}`` and exit with 1.
    """

    def __init__(self, code: str, message: str, where: str = "") -> None:
        self.code, self.message, self.where = code, message, where
        super().__init__(f"{where}: {message}" if where else message)


class TicketError(SltError):
    """A file or ticket that is not whole, not valid or over a bound.

    `segment` names the part of the file, `offset` is the byte at which the fault was seen.
    """

    def __init__(self, code: str, message: str, segment: str = "", offset: int | None = None) -> None:
        self.segment, self.offset = segment, offset
        where = segment if offset is None else f"{segment} at byte {offset}"
        super().__init__(code, message, where)


class DataError(SltError):
    """A data set that is missing or malformed; the message says what to install or where to put it."""


class RatioError(SltError):
    """Sparsity, prune and lock ratios that no freeze pattern can satisfy."""
