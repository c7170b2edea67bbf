"""Runs tickets: a plan of the graph, one arena for activations, one kernel per layer (docs/numerics.md)."""

from slt_infer.runtime.calibrate import calibrated
from slt_infer.runtime.plan import Plan
from slt_infer.runtime.walk import accumulations

__all__ = ["Plan", "accumulations", "calibrated"]
