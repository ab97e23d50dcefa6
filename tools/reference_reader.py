#!/usr/bin/env python3
"""A second reader of slabs, written from formats/slab.md and formats/blocks.md alone, with nothing
but numpy and zstandard. It is slow, checks everything, and proves that the specification is enough.

Without options it opens a slab and lists what is inside.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import reference_blocks as blocks
from reference_slab import CODEC_NAMES, PROFILE_NAMES, Slab, SlabError


def little_endian(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()


def differences(slab: Slab, expected: dict) -> list[str]:
    """What the expected values of a conformance vector say otherwise."""
    found: list[str] = []

    def compare(what: str, got: object, want: object) -> None:
        if got != want:
            found.append(f"{what}: {got}, expected {want}")

    compare("root", slab.root.hex(), expected["root"])
    compare("tensors", list(slab.tensors), sorted(expected["tensors"], key=str.encode))
    compare("assets", list(slab.assets), sorted(expected["assets"], key=str.encode))
    if found:
        return found
    for name, want in expected["tensors"].items():
        tensor, values = slab.tensors[name], slab.tensor(name, verify=True)
        data = little_endian(values)
        compare(f"{name}, shape", list(tensor.shape), want["shape"])
        compare(f"{name}, encoding", blocks.ENCODINGS[tensor.encoding].name, want["encoding"])
        compare(f"{name}, SHA-256", hashlib.sha256(data).hexdigest(), want["sha256_f32"])
        first = np.array([float.fromhex(text) for text in want["first"]], "<f4").tobytes()
        compare(f"{name}, first values", data[:32].hex(), first.hex())
    for name, want in expected["assets"].items():
        compare(f"asset {name}", hashlib.sha256(slab.asset(name)).hexdigest(), want)
    return found


def check(folder: Path) -> int:
    """Compares every vector of a folder with the file of expected values beside it."""
    slabs = sorted(folder.glob("*.slab"))
    if not slabs:
        print(f"{folder} has no vectors", file=sys.stderr)
        return 1
    failures = 0
    for path in slabs:
        try:
            slab = Slab(path)
            found = differences(slab, json.loads(path.with_suffix(".json").read_text()))
        except (SlabError, OSError, ValueError, KeyError) as error:
            found = [str(error)]
        if found:
            failures += 1
            print(f"{path.name}: FAILED", *found, sep="\n  ")
        else:
            print(f"{path.name}: {len(slab.tensors)} tensors, {len(slab.assets)} assets agree")
    print(f"{len(slabs) - failures} of {len(slabs)} vectors agree")
    return 1 if failures else 0


def show(slab: Slab) -> None:
    print(f"profile {PROFILE_NAMES[slab.profile]}, root {slab.root.hex()}")
    for key, value in slab.metadata.items():
        print(f"metadata {key}: {value}")
    for name, asset in slab.assets.items():
        print(f"asset {name}: {asset.logical} bytes, {CODEC_NAMES[asset.codec]}")
    for name, tensor in slab.tensors.items():
        codecs = ", ".join(
            f"{blocks.STREAM_NAMES[kind]} {CODEC_NAMES[stream.codec]} {stream.stored}"
            for kind, stream in tensor.streams.items()
        )
        encoding = blocks.ENCODINGS[tensor.encoding].name
        layout = blocks.LAYOUT_NAMES[tensor.layout]
        print(f"{name} {list(tensor.shape)} {encoding} {layout}: {codecs}")


def export(slab: Slab, pattern: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in fnmatch.filter(slab.tensors, pattern):
        # A name may hold what a file name may not.
        path = folder / (name.replace("/", "_") + ".npy")
        np.save(path, slab.tensor(name))
        print(path)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  tools/reference_reader.py model.slab                       list what is inside\n"
        "  tools/reference_reader.py model.slab --verify              check every byte\n"
        "  tools/reference_reader.py model.slab --export out --tensors '*.layers.0.*'\n"
        "  tools/reference_reader.py --check formats/vectors          conformance vectors",
    )
    parser.add_argument("slab", type=Path, nargs="?", help="the slab to read")
    parser.add_argument("--verify", action="store_true", help="check every digest and padding")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write tensors as float32 .npy")
    parser.add_argument("--tensors", default="*", metavar="GLOB", help="which tensors to export")
    parser.add_argument(
        "--check", type=Path, metavar="DIR", help="compare vectors with their expected values"
    )
    options = parser.parse_args()
    if options.check:
        return check(options.check)
    if not options.slab:
        parser.error("a slab or --check is needed")
    try:
        slab = Slab(options.slab)
        if options.verify:
            for name in slab.tensors:
                slab.tensor(name, verify=True)
            print(f"{len(slab.tensors)} tensors and {len(slab.assets)} assets are whole")
        elif options.export:
            export(slab, options.tensors, options.export)
        else:
            show(slab)
    except (SlabError, OSError) as error:
        print(f"{options.slab}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
