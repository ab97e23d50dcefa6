"""Decodes the streams of one stored tensor to float32, written from formats/blocks.md alone.

Ids, sizes and arithmetic are that page's; section numbers in comments too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ELEMENTS, CODES, BLOCK_SCALES, ROW_SCALES, CODEBOOK = range(5)
STREAM_NAMES = ("elements", "codes", "block scales", "row scales", "codebook")
PLAIN, PANEL16 = range(2)
LAYOUT_NAMES = ("plain", "panel16")


@dataclass(frozen=True)
class Encoding:
    """A row of the table of section 1."""

    name: str
    bits: int  # of a code or an element
    block: int | None  # columns that share a block scale
    streams: tuple[int, ...]


Q4_STREAMS = (CODES, BLOCK_SCALES, ROW_SCALES, CODEBOOK)
Q8_STREAMS = (CODES, BLOCK_SCALES, ROW_SCALES)
ENCODINGS = (
    Encoding("f32", 32, None, (ELEMENTS,)),
    Encoding("bf16", 16, None, (ELEMENTS,)),
    Encoding("q4b16", 4, 16, Q4_STREAMS),
    Encoding("q4b32", 4, 32, Q4_STREAMS),
    Encoding("q8b16", 8, 16, Q8_STREAMS),
    Encoding("q8b32", 8, 32, Q8_STREAMS),
)


def padded(rows: int, columns: int) -> tuple[int, int]:
    return -(-rows // 16) * 16, -(-columns // 32) * 32


def stream_bytes(stream: int, encoding: Encoding, layout: int, shape: tuple[int, ...]) -> int:
    """Size of one stream of one or more matrices (panel16), or of a whole plain tensor: sections 3 and 4."""
    if layout == PLAIN:
        return 4 * int(np.prod(shape, dtype=object))
    if len(shape) == 3:
        return shape[0] * stream_bytes(stream, encoding, layout, shape[1:])
    rows, columns = padded(*shape)
    if stream in (ELEMENTS, CODES):
        return rows * columns * encoding.bits // 8
    if stream == BLOCK_SCALES:
        return rows * (columns // encoding.block)
    return rows * 4 if stream == ROW_SCALES else 16


def by_row(data: bytes, dtype: str, rows: int) -> np.ndarray:
    """[panel, line, 16 rows, columns of a line] to [padded rows, columns]."""
    values = np.frombuffer(data, dtype)
    per_line = 4 // values.itemsize  # columns of one row in a line of 64 bytes
    lines = values.reshape(rows // 16, -1, 16, per_line)
    return lines.swapaxes(1, 2).reshape(rows, -1)


def codes(data: bytes, encoding: Encoding, rows: int) -> np.ndarray:
    """Codes as they are stored, [padded rows, padded columns]: indices for q4, values for q8."""
    if encoding.bits == 8:
        return by_row(data, "i1", rows)
    stored = by_row(data, "u1", rows).reshape(rows, -1, 4)
    return np.concatenate([stored & 15, stored >> 4], axis=2).reshape(rows, -1)


def block_scales(data: bytes, rows: int) -> np.ndarray:
    """[padded rows, blocks]."""
    return np.frombuffer(data, "i1").reshape(rows // 16, -1, 16).swapaxes(1, 2).reshape(rows, -1)


def elements(data: bytes, encoding: Encoding, rows: int) -> np.ndarray:
    """Bit patterns of unquantized elements, [padded rows, padded columns]."""
    return by_row(data, "<u4" if encoding.bits == 32 else "<u2", rows)


def matrices(streams: dict[int, bytes], count: int) -> list[dict[int, bytes]]:
    """The streams of each expert's matrix: those of one after those of another, section 3."""
    sizes = {kind: len(data) // count for kind, data in streams.items()}
    return [
        {kind: data[i * sizes[kind] : (i + 1) * sizes[kind]] for kind, data in streams.items()}
        for i in range(count)
    ]


def decode(
    streams: dict[int, bytes],
    encoding: Encoding,
    layout: int,
    shape: tuple[int, ...],
    column_scale: np.ndarray | None = None,
) -> np.ndarray:
    """The logical elements of a tensor as float32."""
    if layout == PLAIN:
        return np.frombuffer(streams[ELEMENTS], "<f4").reshape(shape)
    if len(shape) == 3:
        parts = matrices(streams, shape[0])
        return np.stack([decode(p, encoding, layout, shape[1:], column_scale) for p in parts])
    rows, columns = shape
    height, _ = padded(rows, columns)
    if encoding.block is None:
        bits = elements(streams[ELEMENTS], encoding, height)[:rows, :columns].astype("<u4")
        return (bits if encoding.bits == 32 else bits << 16).view("<f4")
    values = codes(streams[CODES], encoding, height)
    if encoding.bits == 4:
        values = np.frombuffer(streams[CODEBOOK], "i1")[values]
    scales = block_scales(streams[BLOCK_SCALES], height).astype(np.int32)
    quadratic = np.repeat(scales * np.abs(scales), encoding.block, axis=1)
    integers = quadratic[:rows, :columns] * values[:rows, :columns].astype(np.int32)
    row_scales = np.frombuffer(streams[ROW_SCALES], "<f4")[:rows, None]
    # The order of the two float multiplications is part of the format: section 2.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scaled = integers.astype(np.float32) * row_scales
        return scaled if column_scale is None else scaled * column_scale[None, :]


def padding_is_zero(
    streams: dict[int, bytes], encoding: Encoding, layout: int, shape: tuple[int, ...]
) -> bool:
    """Whether everything that the last table of section 3 lists is zero."""
    if layout == PLAIN:
        return True
    if len(shape) == 3:
        parts = matrices(streams, shape[0])
        return all(padding_is_zero(p, encoding, layout, shape[1:]) for p in parts)
    rows, columns = shape
    height, _ = padded(rows, columns)
    if encoding.block is None:
        grids = [(elements(streams[ELEMENTS], encoding, height), columns)]
    else:
        blocks = -(-columns // encoding.block)
        grids = [
            (codes(streams[CODES], encoding, height), columns),
            (block_scales(streams[BLOCK_SCALES], height), blocks),
        ]
        if any(streams[ROW_SCALES][4 * rows :]):
            return False
    return not any(grid[rows:].any() or grid[:, used:].any() for grid, used in grids)
