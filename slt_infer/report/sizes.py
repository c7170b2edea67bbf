"""The size report: the file's bytes by part, next to every other way to store the same network.

All rows but the file's own count 8 bytes per channel that has an affine, as the frozen-networks paper does
for batch norm (its Tables 1 and 2), and nothing for the graph, names, seeds or ratios.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from slt_infer.codec import entropy_bits
from slt_infer.format import parts
from slt_infer.ticket import Layer, LayerShape, MaskCode, Quantisation, Ticket

AFFINE_CHANNEL_BYTES = 8  # two float32


def paper_bytes(free: int, shapes: Iterable[LayerShape]) -> float:
    """The frozen-networks paper's accounting: one bit per free weight, 64 bits per normalised channel."""
    return free / 8 + affine_bytes(shapes)


def affine_bytes(shapes: Iterable[LayerShape]) -> int:
    return sum(AFFINE_CHANNEL_BYTES * shape.out for shape in shapes if shape.affine)


def size_report(ticket: Ticket) -> dict[str, Any]:
    """Bytes of the file by part, and of the same network stored otherwise (design: keys of `slt-export
    --json`).
    """
    shapes = ticket.network.layers
    weights, affine = ticket.weights, affine_bytes(shapes)
    by_part = asdict(parts(ticket))
    total = sum(by_part.values())
    entropy = sum(entropy_bits(layer.free, layer.kept - layer.locked) for layer in ticket.distinct)
    return {
        "file_bytes": total,
        "parts": by_part,
        "weights": weights,
        "free_weights": ticket.free,
        "paper_bytes": paper_bytes(ticket.free, shapes),
        "entropy_bytes": entropy / 8 + affine,
        "fp32_bytes": 4 * weights + affine,
        "fp16_bytes": 2 * weights + affine,
        "int8_bytes": weights + affine,
        "binary_bytes": weights / 8 + affine,
        "bits_per_weight": 8 * total / weights,
        "bits_per_free_weight": 8 * total / ticket.free if ticket.free else None,
    }


def layer_report(ticket: Ticket) -> list[dict[str, Any]]:
    """One dictionary a layer: realised counts, work, and how its mask is coded."""
    return [_layer(layer, macs) for layer, macs in zip(ticket.layers, ticket.network.macs(), strict=True)]


def _layer(layer: Layer, macs: int) -> dict[str, Any]:
    shape = layer.shape
    free_kept = layer.kept - layer.locked
    return {
        "name": shape.name,
        "shape": [shape.out, shape.inputs, *shape.kernel],
        "groups": shape.groups,
        "weights": shape.weights,
        "pruned": layer.pruned,
        "locked": layer.locked,
        "free": layer.free,
        "kept": layer.kept,
        "density": layer.kept / shape.weights,
        "macs": macs,
        "mac_density": layer.kept / shape.weights,
        "mode": layer.code.mode,
        "score_planes": layer.code.planes + layer.code.sign,
        "intervals": len(layer.code.intervals),
        **_candidates(layer.code),
        "mask_bits": 8 * sum(len(code.payload) for code in layer.streams),
        "entropy_bits": entropy_bits(layer.free, free_kept),
        "affine_bits": layer.affine_bits,
        "freeze": {"bits": layer.freeze.bits, "prune": layer.freeze.prune, "lock": layer.freeze.lock},
    }


def _candidates(code: MaskCode) -> dict[str, Any]:
    """Bytes in every mode (MaskCode.candidates), and why the writer took the one it did; nothing for a mask
    that was read from a file, which does not tell.
    """
    sizes = code.candidates
    if not sizes:
        return {}
    if code.mode == "const":
        why = "all free weights agree"
    else:
        others = ", ".join(f"{mode} {size}" for mode, size in sizes.items() if mode != code.mode)
        why = f"{sizes[code.mode]} bytes; {others}"
        if "prior" not in sizes:
            why += "; no prior: no planes were allowed, or one density is as good as several"
    return {"candidates": dict(sizes), "why": why}


def _quantisation(given: Quantisation | None) -> dict[str, Any] | None:
    """type, pow2 and the number of scales; nothing for a ticket that runs in f32 alone."""
    return None if given is None else {"type": "int8", "pow2": given.pow2, "scales": len(given.codes)}


def ticket_report(ticket: Ticket) -> dict[str, Any]:
    """Everything that slt-inspect prints: what the ticket is, its sizes and its layers."""
    layers = layer_report(ticket)
    macs = sum(layer["macs"] for layer in layers)
    weights = ticket.weights
    return {
        "network": ticket.network.name,
        "input": list(ticket.network.input),
        "classes": ticket.network.classes,
        "source": {
            "generator": ticket.source.generator,
            "rounds": ticket.source.rounds,
            "seed": ticket.source.seed,
            "freeze": ticket.source.freeze,
        },
        "sparsity": 1 - ticket.density,
        "density": ticket.density,
        "kept": ticket.kept,
        "prune": sum(layer.pruned for layer in ticket.distinct) / weights,
        "lock": sum(layer.locked for layer in ticket.distinct) / weights,
        "macs": macs,
        "mac_density": sum(layer["macs"] * layer["mac_density"] for layer in layers) / macs,
        "quantisation": _quantisation(ticket.quantisation),
        "provenance": dict(ticket.provenance),
        **size_report(ticket),
        "layers": layers,
    }
