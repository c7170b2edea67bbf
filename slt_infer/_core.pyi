"""The compiled module (csrc/bind*.cpp). ValueError where sizes do not agree.

`isa` is "" (chosen at run time), "scalar", "avx2", "avx512" or "neon". docs/format.md gives every rule.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

_I8 = NDArray[np.int8]
_Integers = NDArray[np.signedinteger[Any]]
_I32 = NDArray[np.int32]
_F32 = NDArray[np.float32]
_U32 = NDArray[np.uint32]
_U64 = NDArray[np.uint64]

def machine() -> dict[str, Any]: ...
def crc32c(buffer: Buffer, value: int = 0) -> int: ...
def random_words(generator: str, rounds: int, counters: _U32, keys: _U32, isa: str = "") -> _U32: ...
def plane(
    generator: str,
    rounds: int,
    seed: int,
    stream: int,
    layer: int,
    generation: int,
    plane: int,
    block0: int,
    blocks: int,
    isa: str = "",
) -> _U32: ...
def signs(
    generator: str, rounds: int, seed: int, id: int, fan_in: int, first: int, count: int, isa: str = ""
) -> _U64: ...
def freeze_rows(
    generator: str,
    rounds: int,
    seed: int,
    law: str,
    id: int,
    fan_in: int,
    bits: int,
    prune: int,
    lock: int,
    first: int,
    count: int,
    isa: str = "",
) -> tuple[_U64, _U64]: ...
def lanes_of(bits: int) -> int: ...
def encode_static(mask: _U32, first: int, last: int, lanes: int, density: int) -> bytes: ...
def encode_raw(mask: _U32, first: int, last: int) -> bytes: ...
def decode_static(
    payload: Buffer, first: int, last: int, lanes: int, density: int, isa: str = ""
) -> _U32: ...
def encode_prior(
    mask: _U32,
    first: int,
    last: int,
    lanes: int,
    generator: str,
    rounds: int,
    seed: int,
    id: int,
    planes: int,
    sign: bool,
    intervals: Sequence[tuple[int, int]],
    isa: str = "",
) -> bytes: ...
def deposit(free: _U64, mask: _U32, isa: str = "") -> _U64: ...
def count_cells(
    mask: _U32, free: int, generator: str, rounds: int, seed: int, id: int, planes: int
) -> _U64: ...
def cut_cells(counts: _U64) -> tuple[list[tuple[int, int]], float]: ...
def decode_prior(
    payload: Buffer,
    first: int,
    last: int,
    lanes: int,
    generator: str,
    rounds: int,
    seed: int,
    id: int,
    planes: int,
    sign: bool,
    intervals: Sequence[tuple[int, int]],
    isa: str = "",
) -> _U32: ...

class WeightMemory:
    def __init__(self) -> None: ...
    @property
    def current(self) -> int: ...
    @property
    def peak(self) -> int: ...
    def reset_peak(self) -> None: ...

class LayerCode:
    def __init__(
        self,
        *,
        generator: str,
        rounds: int,
        seed: int,
        law: str,
        id: int,
        out: int,
        fan_in: int,
        bits: int,
        prune: int,
        lock: int,
        mode: str,
        density: int,
        planes: int,
        sign: bool,
        intervals: Sequence[tuple[int, int]],
        tile_rows: int,
        free: _U32,
        words: _U32,
        payload: Buffer,
        memory: WeightMemory,
    ) -> None: ...
    @property
    def out(self) -> int: ...
    @property
    def fan_in(self) -> int: ...
    @property
    def row_words(self) -> int: ...
    def group_bytes(self, threads: int) -> int: ...
    def counts(self, isa: str = "", tile_rows: int = 0) -> tuple[int, int, int, _U64]: ...
    def mask(self, work: Workspace | None = None) -> _U32: ...
    def tile_ones(self, isa: str = "") -> NDArray[np.uint32]: ...
    def rows(self, first: int, count: int, isa: str = "") -> tuple[_U64, _U64]: ...

class Workspace:
    def __init__(self, memory: WeightMemory, threads: int = 1, isa: str = "") -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...

class LayerWeights:
    def __init__(
        self,
        code: LayerCode,
        keep: str,
        image: tuple[int, int, int],
        kernel: tuple[int, int],
        groups: int,
        stride: int,
        padding: int,
        work: Workspace,
    ) -> None: ...
    @property
    def kept(self) -> str: ...
    @property
    def resident_bytes(self) -> int: ...
    def scratch_bytes(self, work: Workspace) -> float: ...
    def conv2d(
        self,
        work: Workspace,
        x: _F32,
        out: _F32,
        scale: _F32 | None = None,
        shift: _F32 | None = None,
        relu: bool = False,
    ) -> None: ...
    def linear(
        self,
        work: Workspace,
        x: _F32,
        out: _F32,
        scale: _F32 | None = None,
        shift: _F32 | None = None,
        relu: bool = False,
    ) -> None: ...

def max_pool2d(work: Workspace, x: _F32, out: _F32, kernel: int, stride: int, padding: int) -> None: ...
def avg_pool2d(work: Workspace, x: _F32, out: _F32, kernel: int, stride: int, padding: int) -> None: ...
def global_avg_pool2d(x: _F32, out: _F32) -> None: ...
def add(work: Workspace, a: _F32, b: _F32, out: _F32, relu: bool = False) -> None: ...
def relu(work: Workspace, x: _F32, out: _F32) -> None: ...
def scale_shift(work: Workspace, x: _F32, scale: _F32, shift: _F32 | None, out: _F32) -> None: ...
def peaks(isa: str = "", seconds: float = 0.01) -> dict[str, Any]: ...

class Requantiser:
    def __init__(self, m: _Integers, b: _Integers, s: int, m_r: int = 0, low: int = -127) -> None: ...
    @property
    def channels(self) -> int: ...

class Int8Layer:
    def __init__(
        self,
        code: LayerCode,
        keep: str,
        kernel: str,
        image: tuple[int, int, int],
        kernel_size: tuple[int, int],
        groups: int,
        stride: int,
        padding: int,
        work: Workspace,
    ) -> None: ...
    @property
    def kept(self) -> str: ...
    @property
    def resident_bytes(self) -> int: ...
    def scratch_bytes(self, work: Workspace) -> float: ...
    def conv2d(
        self,
        work: Workspace,
        x: _I8,
        out: _I8 | _I32,
        requantiser: Requantiser,
        residual: _I8 | None = None,
    ) -> None: ...
    def linear(
        self,
        work: Workspace,
        x: _I8,
        out: _I8 | _I32,
        requantiser: Requantiser,
        residual: _I8 | None = None,
    ) -> None: ...

def quantise(work: Workspace, x: _F32, scale: float, out: _I8) -> None: ...
def max_pool2d_int8(work: Workspace, x: _I8, out: _I8, kernel: int, stride: int, padding: int) -> None: ...
def sum_pool2d_int8(
    work: Workspace,
    x: _I8,
    out: _I8 | _I32,
    kernel: int,
    stride: int,
    padding: int,
    requantiser: Requantiser,
) -> None: ...
def global_sum_int8(x: _I8, out: _I8 | _I32, requantiser: Requantiser) -> None: ...
def add_int8(work: Workspace, a: _I8, b: _I8, out: _I8 | _I32, requantiser: Requantiser) -> None: ...
def relu_int8(work: Workspace, x: _I8, out: _I8) -> None: ...
