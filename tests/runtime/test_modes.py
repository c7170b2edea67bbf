"""Which mode a plan takes by itself, and what it then is and reports."""

from __future__ import annotations

import numpy as np
import pytest

from slt_infer.errors import SltError
from slt_infer.runtime import Plan
from slt_infer.runtime.layers import resident_bound
from slt_infer.runtime.schedule import schedule
from slt_infer.ticket import Network, Ticket

from .quantised import quantised
from .tickets import images, one_conv, one_linear, random_ticket

SMALL, LARGE = one_conv(64, 200, (3, 3), (6, 6)), one_conv(256, 512, (3, 3), (4, 4))


def test_resident_is_the_default_where_there_is_memory() -> None:
    ticket = random_ticket(SMALL)
    assert Plan(ticket).mode == "resident"
    assert Plan(ticket, mode="auto").layers == Plan(ticket, mode="resident").layers
    assert "resident" in repr(Plan(ticket))
    assert Plan(ticket, backend="reference").mode == "stream"


@pytest.mark.parametrize("network", [SMALL, LARGE])
@pytest.mark.parametrize("dtype", ["f32", "int8"])
def test_stream_is_taken_where_resident_weights_may_not_fit(dtype: str, network: Network) -> None:
    ticket, x = quantised(random_ticket(network, density=0.1), images(network, 1)), images(network, 3)
    wanted = Plan(ticket, dtype=dtype)(x)  # type: ignore[arg-type]
    stream, resident = (least_memory(ticket, mode=mode, dtype=dtype) for mode in ("stream", "resident"))
    assert stream < resident
    bound = (4 if dtype == "f32" else 1) * schedule(network).arena + resident_bound(ticket)
    for limit, mode in ((stream, "stream"), (max(resident, bound) + 64, "resident")):
        net = Plan(ticket, dtype=dtype, max_memory=limit)  # type: ignore[arg-type]
        assert net.mode == mode
        np.testing.assert_array_equal(net(x), wanted)
        assert net.peak_weight_bytes is not None
        assert net.peak_weight_bytes < limit  # the row groups of the first call are counted
    with pytest.raises(SltError) as caught:
        Plan(ticket, dtype=dtype, max_memory=stream - 1)  # type: ignore[arg-type]
    assert caught.value.code == "memory"


def test_what_is_kept_is_made_within_the_limit() -> None:
    """Making it takes more than keeping it, and here more than all that a call takes."""
    ticket = random_ticket(one_linear(4096, 1024), density=0.5)
    limit = least_memory(ticket, mode="resident")
    peak = Plan(ticket, mode="resident", max_memory=limit).peak_weight_bytes
    assert peak is not None
    assert peak <= limit


def least_memory(ticket: Ticket, **options: str) -> int:
    """The least max_memory that a plan is made with."""
    low, high = 0, 2**30
    while low < high:
        middle = (low + high) // 2
        try:
            Plan(ticket, max_memory=middle, **options)  # type: ignore[arg-type]
            high = middle
        except SltError:
            low = middle + 1
    return low
