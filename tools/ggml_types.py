"""GGUF's types as ggml itself quantizes and dequantizes them, called in its shared library.

Also what ggml makes of the activations that meet such weights, and a check of both.
"""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class GgmlType:
    """A row of ggml's table of types."""

    name: str
    number: int  # in enum ggml_type
    block: int  # columns
    block_bytes: int
    symbol: str  # of its dequantizer, after dequantize_row_
    activation_group: int  # columns of an activation that share a scale: Q8_0 has 32, Q8_K 256
    takes_importance: bool = True

    @property
    def bits(self) -> float:
        """Of a weight."""
        return 8 * self.block_bytes / self.block

    @property
    def halves_activation_scale(self) -> bool:
        """Whether the activation's scale is rounded to float16, as that of Q8_0 is."""
        return self.activation_group == 32


TYPES = {
    type.name: type
    for type in (
        GgmlType("Q4_0", 2, 32, 18, "q4_0", 32),
        GgmlType("Q8_0", 8, 32, 34, "q8_0", 32, takes_importance=False),
        GgmlType("Q4_K", 12, 256, 144, "q4_K", 256),
        GgmlType("Q6_K", 14, 256, 210, "q6_K", 256),
        GgmlType("IQ4_NL", 20, 32, 18, "iq4_nl", 32),
        GgmlType("IQ4_XS", 23, 256, 136, "iq4_xs", 256),
    )
}


class GgmlError(Exception):
    """What is wrong with the library or with what it returned."""


def pointer(values: np.ndarray) -> ctypes.c_void_p:
    return values.ctypes.data_as(ctypes.c_void_p)


class Ggml:
    """The shared library ggml-base of a Python package that carries llama.cpp."""

    def __init__(self, library: Path, threads: int) -> None:
        self.library = ctypes.CDLL(str(library))
        self.threads = threads
        self.library.ggml_quantize_chunk.restype = ctypes.c_size_t
        for type in TYPES.values():
            self.library.ggml_quantize_init(ctypes.c_int(type.number))

    def round_trip(
        self, type: GgmlType, weights: np.ndarray, importance: np.ndarray | None
    ) -> np.ndarray:
        """What is left of `weights` [rows, columns] when they have been quantized.

        Rows are padded with zeros to whole blocks. `importance` has a factor for each column.
        """
        rows, columns = weights.shape
        padded = -(-columns // type.block) * type.block
        source = np.zeros((rows, padded), np.float32)
        source[:, :columns] = weights
        factors = None
        if importance is not None:
            # Padding is zero, which every type holds exactly, so its factor does not matter.
            factors = np.full(padded, importance.mean(), np.float32)
            factors[:columns] = importance
        out = np.empty_like(source)

        def part(span: range) -> None:
            self.quantize(
                type, source[span.start : span.stop], factors, out[span.start : span.stop]
            )

        step = max(16, rows // (4 * self.threads))
        spans = [range(start, min(start + step, rows)) for start in range(0, rows, step)]
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(part, spans))
        check_columns(type, weights, out)
        return np.ascontiguousarray(out[:, :columns])

    def quantize(
        self, type: GgmlType, source: np.ndarray, importance: np.ndarray | None, out: np.ndarray
    ) -> None:
        rows, columns = source.shape
        stored = np.zeros(rows * columns // type.block * type.block_bytes, np.uint8)
        written = self.library.ggml_quantize_chunk(
            ctypes.c_int(type.number),
            pointer(source),
            pointer(stored),
            ctypes.c_int64(0),
            ctypes.c_int64(rows),
            ctypes.c_int64(columns),
            None if importance is None else pointer(importance),
        )
        if written != stored.nbytes:
            raise GgmlError(f"{type.name}: {written} bytes for {rows} × {columns} weights")
        self.dequantize(type, stored, out)

    def dequantize(self, type: GgmlType, stored: np.ndarray, out: np.ndarray) -> None:
        function = getattr(self.library, f"dequantize_row_{type.symbol}")
        function(pointer(stored), pointer(out), ctypes.c_int64(out.size))

    def rounded_activations(self, values: np.ndarray, group: int) -> np.ndarray:
        """Activations as the library itself quantizes them to Q8_0 or Q8_K."""
        name, size = ("q8_0", 34) if group == 32 else ("q8_K", 4 + 256 + 2 * 16)
        stored, out = np.zeros(values.size // group * size, np.uint8), np.empty_like(values)
        count = ctypes.c_int64(values.size)
        getattr(self.library, f"quantize_row_{name}_ref")(pointer(values), pointer(stored), count)
        getattr(self.library, f"dequantize_row_{name}")(pointer(stored), pointer(out), count)
        return out


def check_columns(type: GgmlType, weights: np.ndarray, padded: np.ndarray) -> None:
    """Whether every column has been quantized, and padding stayed zero.

    A column that was left out would be zero or as it was.
    """
    columns = weights.shape[1]
    found = padded[:, :columns]
    if not np.isfinite(padded).all():
        raise GgmlError(f"{type.name}: weights that are not finite")
    if padded[:, columns:].any():
        raise GgmlError(f"{type.name}: padding is not zero")
    used = weights.any(axis=0)
    lost = used & ~found.any(axis=0)
    same = used & (found == weights).all(axis=0)
    # Weights that lie on the type's own grid come back as they were, then all of them.
    if lost.any() or (same.any() and not same[used].all()):
        columns_at_fault = np.flatnonzero(lost | same)
        raise GgmlError(f"{type.name}: columns {columns_at_fault[:8]} were not quantized")
    for start in range(0, columns, type.block):
        part = weights[:, start : start + type.block]
        error = np.square(part - found[:, start : start + type.block]).sum()
        if error > 0.2 * np.square(part).sum():
            raise GgmlError(f"{type.name}: columns from {start} on are lost")


def check_types(ggml: Ggml) -> None:
    """Whether the library does what the table of this file says, on rows of 576 normal weights."""
    random = np.random.Generator(np.random.PCG64(1))
    weights = random.standard_normal((32, 576)).astype(np.float32)
    importance = np.exp(random.standard_normal(576)).astype(np.float32)
    for type in TYPES.values():
        plain, weighted = (ggml.round_trip(type, weights, f) for f in (None, importance))
        limits = (3e-3, 0.012) if type.bits < 6 else (1e-6, 6e-4)
        if not limits[0] < np.square(plain - weights).mean() < limits[1]:
            raise GgmlError(f"{type.name}: an error that is not the type's")
        errors = [np.square(found - weights) @ importance for found in (plain, weighted)]
        if type.takes_importance and not errors[1].mean() < errors[0].mean():
            raise GgmlError(f"{type.name}: importance does not matter")
        if not type.takes_importance and not np.array_equal(plain, weighted):
            raise GgmlError(f"{type.name} takes importance")
