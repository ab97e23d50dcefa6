"""Opens slabs and checks all that formats/slab.md says a reader must check, written from that page
alone. Section numbers in comments are that page's."""

from __future__ import annotations

import hashlib
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import reference_blocks as blocks
import zstandard

SUPERBLOCK = 4096
SEGMENT = 16384
ALIGNMENT = 64
FRAME = 1 << 20
RAW, ZSTD, ZSTD_PLANES = range(3)
CODEC_NAMES = ("raw", "zstd", "zstd-planes")
PROFILE_NAMES = ("run", "ship")
SOURCE_NAMES = ("f32", "f16", "bf16")


class SlabError(Exception):
    """What is wrong with a file, in one sentence."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise SlabError(message)


def align(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def tag(text: str) -> bytes:
    return text.encode().ljust(16, b"\0")


def u8(value: int) -> bytes:
    return struct.pack("<B", value)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def packed_name(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<H", len(data)) + data


class Cursor:
    """Takes records from the index, front to back."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def bytes(self, count: int) -> bytes:
        require(count <= len(self.data) - self.at, f"the index ends inside a record at {self.at}")
        self.at += count
        return self.data[self.at - count : self.at]

    def u8(self) -> int:
        return self.bytes(1)[0]

    def u32(self, limit: int = 2**32 - 1) -> int:
        value = struct.unpack("<I", self.bytes(4))[0]
        require(value <= limit, f"the index has a count of {value}, more than {limit}")
        return value

    def u64(self) -> int:
        return struct.unpack("<Q", self.bytes(8))[0]

    def one_of(self, names: tuple, what: str) -> int:
        value = self.u8()
        require(value < len(names), f"unknown {what} {value}")
        return value

    def flag(self) -> bool:
        return bool(self.one_of((False, True), "flag"))

    def text(self, count: int) -> str:
        try:
            return self.bytes(count).decode("utf-8")
        except UnicodeDecodeError:
            raise SlabError("the index has a text that is not UTF-8") from None

    def name(self) -> str:
        text = self.text(struct.unpack("<H", self.bytes(2))[0])
        require(1 <= len(text.encode()) <= 255, "a name is empty or longer than 255 bytes")
        require(
            not any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in text),
            f"the name {text!r} has control characters",
        )
        return text


@dataclass
class Frame:
    digest: bytes
    logical: int
    stored: int
    stored_sha256: bytes | None


@dataclass
class Stored:
    """A record `stored bytes`: where a stream or an asset lies, in which codec."""

    codec: int
    offset: int
    stored: int
    logical: int
    frames: list[Frame]


@dataclass
class Tensor:
    source: int
    encoding: int
    layout: int
    shape: tuple[int, ...]
    column_scale: str | None
    statistics: tuple[float, float, float] | None
    streams: dict[int, Stored]


def read_stored(cursor: Cursor, codecs: int) -> Stored:
    codec = cursor.one_of(CODEC_NAMES[:codecs], "codec")
    offset, stored, logical = cursor.u64(), cursor.u64(), cursor.u64()
    require(logical <= 1 << 46, f"a stream of {logical} bytes")
    frames: list[Frame] = []
    for start in range(0, logical, FRAME):
        size = min(FRAME, logical - start)
        digest, length, check = cursor.bytes(32), size, None
        if codec != RAW:
            length = cursor.u32()
            require(1 <= length <= size + 8192, f"a frame of {length} stored bytes")
            check = cursor.bytes(32)
        frames.append(Frame(digest, size, length, check))
    require(stored == sum(f.stored for f in frames), "stored bytes are not the sum of the frames")
    return Stored(codec, offset, stored, logical, frames)


def read_tensor(cursor: Cursor, name: str, profile: int) -> Tensor:
    source = cursor.one_of(SOURCE_NAMES, "source type")
    encoding_id = cursor.one_of(blocks.ENCODINGS, "encoding")
    layout = cursor.one_of(blocks.LAYOUT_NAMES, "layout")
    encoding = blocks.ENCODINGS[encoding_id]
    shape = tuple(cursor.u64() for _ in range(cursor.u8()))
    if layout == blocks.PLAIN:
        require(encoding.name == "f32", f"{name}: {encoding.name} in layout plain")
        require(1 <= len(shape) <= 8, f"{name}: {len(shape)} dimensions")
        require(min(shape) >= 1, f"{name}: shape {shape}")
    else:
        require(len(shape) in (2, 3), f"{name}: {len(shape)} dimensions in layout panel16")
        require(1 <= shape[-2] <= 1 << 31 and 1 <= shape[-1] <= 1 << 24, f"{name}: shape {shape}")
        require(len(shape) == 2 or 1 <= shape[0] <= 1 << 12, f"{name}: shape {shape}")
    column_scale = cursor.name() if cursor.flag() else None
    statistics = struct.unpack("<3d", cursor.bytes(24)) if cursor.flag() else None
    require(statistics is None or bool(np.isfinite(statistics).all()), f"{name}: statistics")
    require(cursor.u8() == len(encoding.streams), f"{name}: number of streams")
    streams: dict[int, Stored] = {}
    for kind in encoding.streams:
        require(cursor.u8() == kind, f"{name}: streams of another kind or order")
        # Planes need elements of several bytes; section 6.
        wide = kind in (blocks.ELEMENTS, blocks.ROW_SCALES)
        stream = read_stored(cursor, 3 if wide else 2)
        expected = blocks.stream_bytes(kind, encoding, layout, shape)
        label = f"{name}, {blocks.STREAM_NAMES[kind]}"
        require(stream.logical == expected, f"{label}: {stream.logical} bytes, not {expected}")
        if profile == 0 and layout == blocks.PANEL16:
            require(stream.codec == RAW, f"{label}: compressed in profile run")
        streams[kind] = stream
    return Tensor(source, encoding_id, layout, shape, column_scale, statistics, streams)


def read_sorted(cursor: Cursor, limit: int, what: str, read) -> dict:
    out: dict = {}
    last = b""
    for _ in range(cursor.u32(limit)):
        name = cursor.name()
        require(name.encode() > last, f"{what} {name!r} is out of order or twice there")
        last = name.encode()
        out[name] = read(name)
    return out


class Slab:
    """An opened slab: everything but weights is checked."""

    def __init__(self, path: Path) -> None:
        require(path.stat().st_size >= SUPERBLOCK, "shorter than a superblock: not a slab")
        with path.open("rb") as file:
            self.file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        index_offset, index = self.read_superblock()
        cursor = Cursor(index)
        self.profile = cursor.one_of(PROFILE_NAMES, "profile")
        self.metadata: dict[str, str] = read_sorted(
            cursor, 4096, "metadata", lambda _: cursor.text(cursor.u32(65535))
        )
        self.assets: dict[str, Stored] = read_sorted(
            cursor, 256, "asset", lambda _: read_stored(cursor, 2)
        )
        self.tensors: dict[str, Tensor] = read_sorted(
            cursor, 65536, "tensor", lambda name: read_tensor(cursor, name, self.profile)
        )
        require(cursor.at == len(index), f"{len(index) - cursor.at} bytes behind the last record")
        self.check_names()
        self.check_places(index_offset)
        require(self.computed_root() == self.root, "the root digest is not that of the index")
        for name in self.assets:
            self.asset(name)

    def read_superblock(self) -> tuple[int, bytes]:
        """Section 3, in the order that it prescribes."""
        block = self.file[:SUPERBLOCK]
        require(any(block), "the superblock is zero: the file was never finished")
        require(block[:8] == bytes.fromhex("8A534C420D0A1A0A"), "not a slab")
        require(sha256(block[:4064]) == block[4064:], "the superblock is damaged")
        version, order, must, _, offset, count = struct.unpack_from("<IIQQQQ", block, 8)
        require(version == 1, f"version {version}, not 1")
        require(order == 0x01020304, f"byte order mark {order:#x}")
        require(must == 0, f"must-understand feature bits {must:#x} are unknown")
        require(offset % ALIGNMENT == 0 and offset >= SUPERBLOCK, f"index at {offset}")
        require(count <= 1 << 26, f"an index of {count} bytes")
        require(offset + count == len(self.file), f"the file has {len(self.file)} bytes")
        require(not any(block[112:4064]), "reserved bytes of the superblock are not zero")
        index = self.file[offset : offset + count]
        require(sha256(index) == block[48:80], "the index is damaged")
        self.root = block[80:112]
        return offset, index

    def check_names(self) -> None:
        for name in self.assets:
            require("/" not in name and name not in (".", ".."), f"asset name {name!r}")
        require(sum(a.logical for a in self.assets.values()) <= 1 << 28, "too large assets")
        for name, tensor in self.tensors.items():
            if tensor.column_scale is None:
                continue
            require(blocks.ENCODINGS[tensor.encoding].block is not None, f"{name}: column scales")
            scale = self.tensors.get(tensor.column_scale)
            require(
                scale is not None
                and scale.layout == blocks.PLAIN
                and scale.shape == tensor.shape[-1:],
                f"{name}: column scales {tensor.column_scale!r} are missing or of another shape",
            )

    def check_places(self, index_offset: int) -> None:
        """Section 4: every place follows from order and lengths, and gaps are zero."""
        end, before = SUPERBLOCK, None

        def place(offset: int, length: int, alignment: int, what: str) -> None:
            nonlocal end
            expected = align(end, alignment)
            require(offset == expected, f"{what} is at {offset}, not {expected}")
            require(not any(self.file[end:offset]), f"padding before {what} is not zero")
            end = offset + length

        first = {n: t.streams[min(t.streams)].offset for n, t in self.tensors.items()}
        for name in sorted(self.tensors, key=lambda n: first[n]):
            tensor = self.tensors[name]
            joins = tensor.layout == blocks.PLAIN and before == blocks.PLAIN
            alignment = ALIGNMENT if joins else SEGMENT
            for kind, stream in tensor.streams.items():
                label = f"{name}, {blocks.STREAM_NAMES[kind]}"
                place(stream.offset, stream.stored, alignment, label)
                alignment = ALIGNMENT
            before = tensor.layout
        alignment = SEGMENT
        for name, asset in self.assets.items():
            place(asset.offset, asset.stored, alignment, f"asset {name}")
            alignment = ALIGNMENT
        place(index_offset, 0, ALIGNMENT, "the index")

    def tensor_digest(self, name: str) -> bytes:
        """Section 7."""
        tensor = self.tensors[name]
        scale = tensor.column_scale
        return sha256(
            tag("slab1 tensor"),
            u8(tensor.encoding),
            u8(tensor.layout),
            u8(len(tensor.shape)),
            *map(u64, tensor.shape),
            u8(0) if scale is None else u8(1) + self.tensor_digest(scale),
            u8(len(tensor.streams)),
            *(
                sha256(
                    tag("slab1 stream"),
                    u8(kind),
                    u64(stream.logical),
                    u32(len(stream.frames)),
                    *(frame.digest for frame in stream.frames),
                )
                for kind, stream in tensor.streams.items()
            ),
        )

    def computed_root(self) -> bytes:
        parts = [tag("slab1 root"), u32(len(self.tensors))]
        for name in self.tensors:
            parts += [packed_name(name), self.tensor_digest(name)]
        parts.append(u32(len(self.assets)))
        for name, asset in self.assets.items():
            digests = (frame.digest for frame in asset.frames)
            counts = u64(asset.logical) + u32(len(asset.frames))
            parts += [packed_name(name), sha256(tag("slab1 asset"), counts, *digests)]
        return sha256(*parts)

    def load(self, stored: Stored, width: int, what: str) -> bytes:
        """Logical bytes, every frame checked against its digest. `width`: bytes of an element."""
        out, offset = [], stored.offset
        for number, frame in enumerate(stored.frames):
            label = f"{what}, frame {number} at {offset} ..< {offset + frame.stored}"
            data = self.file[offset : offset + frame.stored]
            if stored.codec != RAW:
                require(sha256(data) == frame.stored_sha256, f"{label}: stored bytes are damaged")
                data = decompress(data, frame.logical, label)
                if stored.codec == ZSTD_PLANES:
                    data = np.frombuffer(data, "u1").reshape(width, -1).T.tobytes()
            digest = sha256(tag("slab1 frame"), u64(frame.logical), data)
            require(digest == frame.digest, f"{label}: the digest differs")
            out.append(data)
            offset += frame.stored
        return b"".join(out)

    def asset(self, name: str) -> bytes:
        return self.load(self.assets[name], 1, f"asset {name}")

    def streams(self, name: str) -> dict[int, bytes]:
        """The logical bytes of a tensor's streams, by kind."""
        tensor = self.tensors[name]
        element = blocks.ENCODINGS[tensor.encoding].bits // 8
        widths = {blocks.ELEMENTS: element, blocks.ROW_SCALES: 4}
        return {
            kind: self.load(stream, widths.get(kind, 1), f"{name}, {blocks.STREAM_NAMES[kind]}")
            for kind, stream in tensor.streams.items()
        }

    def tensor(self, name: str, verify: bool = False) -> np.ndarray:
        """A tensor as float32; with `verify` also the padding inside its streams is checked."""
        tensor, streams = self.tensors[name], self.streams(name)
        encoding = blocks.ENCODINGS[tensor.encoding]
        if verify:
            zero = blocks.padding_is_zero(streams, encoding, tensor.layout, tensor.shape)
            require(zero, f"{name}: padding inside its streams is not zero")
        scale = None if tensor.column_scale is None else self.tensor(tensor.column_scale)
        return blocks.decode(streams, encoding, tensor.layout, tensor.shape, scale)


def decompress(data: bytes, logical: int, label: str) -> bytes:
    """One zstd frame as section 6 demands it."""
    try:
        require(len(data) > 4 and data[4] & 0x3F == 0x20, f"{label}: zstd frame header")
        content = zstandard.get_frame_parameters(data).content_size
        require(content == logical, f"{label}: content of {content} bytes, not {logical}")
        decoder = zstandard.ZstdDecompressor().decompressobj()
        out = decoder.decompress(data)
    except zstandard.ZstdError as error:
        raise SlabError(f"{label}: {error}") from None
    require(decoder.eof and not decoder.unused_data, f"{label}: more or less than one zstd frame")
    require(len(out) == logical, f"{label}: {len(out)} bytes, not {logical}")
    return out
