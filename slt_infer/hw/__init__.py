"""The accelerator model: cycles, off-chip bytes and energy of a network on a described machine.

docs/accelerator.md has each formula, its units and what is not modelled. A workload is what a network asks
for (`workload_of` a ticket; `load_topology` of SCALE-Sim's CSV and `load_onnx` for dense baselines);
`closed_form` and `simulate` (tile by tile) answer for one way to store its weights, a name of SCHEMES;
`compare` for all of them.
"""

from slt_infer.hw.area import area
from slt_infer.hw.closed_form import closed_form
from slt_infer.hw.compare import compare, side_by_side
from slt_infer.hw.description import (
    Hardware,
    HardwareError,
    described,
    hardware_text,
    load_hardware,
    preset_names,
)
from slt_infer.hw.events import simulate
from slt_infer.hw.onnx_file import load_onnx
from slt_infer.hw.result import Cycles, LayerResult, Result, answer
from slt_infer.hw.schemes import SCHEMES, best_scheme, why_not
from slt_infer.hw.topology import load_topology
from slt_infer.hw.workload import Work, Workload, workload_of, workload_of_network

__all__ = [
    "SCHEMES",
    "Cycles",
    "Hardware",
    "HardwareError",
    "LayerResult",
    "Result",
    "Work",
    "Workload",
    "answer",
    "area",
    "best_scheme",
    "closed_form",
    "compare",
    "described",
    "hardware_text",
    "load_hardware",
    "load_onnx",
    "load_topology",
    "preset_names",
    "side_by_side",
    "simulate",
    "why_not",
    "workload_of",
    "workload_of_network",
]
