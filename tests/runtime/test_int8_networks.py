"""int8 logits of whole networks, kernels chosen as for users, bit for bit on every instruction set.
csrc/emulate.py runs this file and test_int8_plan.py in an emulator.
"""

from __future__ import annotations

import pytest

from slt_infer import _core, models
from slt_infer.runtime.int8 import DOT
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.ticket import Source

from .quantised import quantised
from .test_int8_plan import assert_all_vary, assert_like_the_reference
from .tickets import images


@pytest.mark.parametrize("pow2", [False, True])
@pytest.mark.parametrize("name", ["resnet18-cifar@0.25", "conv6@0.25", "mlp-784-300-100-10"])
def test_logits_of_every_instruction_set_kind_of_plan_and_number_of_threads(name: str, pow2: bool) -> None:
    network = models.network(name)
    source = Source.named("threefry4x32-12", seed=5)
    ticket = synthetic_ticket(network, source, sparsity=0.8, prune=0.2, lock=0.05)
    ticket = quantised(ticket, images(network, 4, seed=1), pow2)
    x = images(network, 2)
    assert_all_vary(ticket, x)
    ran, isas = assert_like_the_reference(ticket, x), set(_core.machine()["isas"])
    assert {isa for isa, _ in ran} == isas
    dot_products = {isa for isa, kernel in ran if kernel == DOT}
    assert dot_products == (set() if name.startswith("mlp") else isas - {"scalar"})
