"""The `.slt` file: `load` gives a whole, verified ticket or raises TicketError, `save` is atomic
(docs/format.md, section 4).
"""

from slt_infer.format.reader import load, loads
from slt_infer.format.sizes import Parts, parts
from slt_infer.format.writer import dumps, save

__all__ = ["Parts", "dumps", "load", "loads", "parts", "save"]
