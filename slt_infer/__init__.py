"""Strong lottery tickets from search to a file to a run.

import slt_infer as slt
ticket = slt.load("net.slt")                                  # whole and verified, or TicketError
net = slt.Plan(ticket, backend="cpu", mode="auto", threads=1)
logits = net(images)                                          # NumPy or torch, NCHW
slt.save(ticket, "copy.slt")
"""

from importlib.metadata import version

from slt_infer.errors import DataError, RatioError, SltError, TicketError
from slt_infer.format import load, save
from slt_infer.runtime import Plan
from slt_infer.ticket import Ticket

__version__ = version("slt-infer")

__all__ = ["DataError", "Plan", "RatioError", "SltError", "Ticket", "TicketError", "load", "save"]
