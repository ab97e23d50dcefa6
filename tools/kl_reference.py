#!/usr/bin/env python3
"""Kullback-Leibler divergence between two sets of logits, and reference logits to compare with.

`logits` runs a checkpoint through transformers in float32 over windows of a text, each window by
itself; `compare` takes two safetensors files with a tensor `logits` (float32 [tokens, vocabulary]),
or two directories of such files, one for each window, the reference first, and says how far the second is from it, in nats. Everything is summed in
float64. The standard error treats tokens as independent; the one by window does not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

CHUNK = 64  # positions at a time, so that a large vocabulary does not need much memory


def open_logits(path: Path) -> np.ndarray:
    """The tensor `logits` of a safetensors file, mapped."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= path.stat().st_size - 8:
            raise SystemExit(f"{path} is not a safetensors file")
        header = json.loads(file.read(length))
    entry = header.get("logits")
    if entry is None or entry["dtype"] != "F32" or len(entry["shape"]) != 2:
        raise SystemExit(f"{path} has no float32 tensor `logits` of two dimensions")
    offset = 8 + length + entry["data_offsets"][0]
    return np.memmap(path, "<f4", "r", offset, tuple(entry["shape"]))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def divergences(
    reference: np.ndarray, other: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Per position: the divergence, and whether the best tokens are the same."""
    for start in range(0, len(reference), CHUNK):
        a = log_softmax(reference[start : start + CHUNK])
        b = log_softmax(other[start : start + CHUNK])
        yield (np.exp(a) * (a - b)).sum(axis=1), a.argmax(axis=1) == b.argmax(axis=1)


def open_windows(path: Path) -> list[np.ndarray]:
    """The logits of a file, or of all files of a directory in the order of their names."""
    paths = sorted(path.iterdir()) if path.is_dir() else [path]
    return [open_logits(path) for path in paths]


def compare(options: argparse.Namespace) -> None:
    references, others = open_windows(options.reference), open_windows(options.other)
    shapes = [[part.shape for part in parts] for parts in (references, others)]
    if shapes[0] != shapes[1]:
        raise SystemExit(f"the shapes differ: {shapes[0]} and {shapes[1]}")
    tokens = sum(len(part) for part in references)
    window = options.window or len(references[0])
    if tokens % window:
        raise SystemExit(f"{tokens} positions are not a whole number of windows of {window}")
    parts = [part for pair in zip(references, others) for part in divergences(*pair)]
    kl = np.concatenate([part[0] for part in parts])
    means = kl.reshape(-1, window).mean(axis=1)
    result = {
        "positions": tokens,
        "kl_mean": kl.mean(),
        "kl_standard_error": kl.std(ddof=1) / tokens**0.5,
        "kl_p99": np.quantile(kl, 0.99),
        "kl_max": kl.max(),
        "top1_agreement": np.concatenate([part[1] for part in parts]).mean(),
    }
    if len(means) > 1:
        result["kl_standard_error_by_window"] = means.std(ddof=1) / len(means) ** 0.5
    if options.json:
        print(json.dumps({key: float(value) for key, value in result.items()}))
    else:
        for key, value in result.items():
            print(f"{key:28} {value:.6g}")


def logits(options: argparse.Namespace) -> None:
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    text = options.text.read_text(encoding="utf-8")[options.skip :]
    tokenizer = Tokenizer.from_file(str(options.checkpoint / "tokenizer.json"))
    ids = tokenizer.encode(text).ids[: options.windows * options.window]
    if len(ids) < options.windows * options.window:
        raise SystemExit(
            f"{options.text} has only {len(ids)} tokens after character {options.skip}"
        )
    model = AutoModelForCausalLM.from_pretrained(
        options.checkpoint, dtype=torch.float32, local_files_only=True
    ).eval()
    windows = torch.tensor(ids).view(options.windows, options.window)
    with torch.no_grad():
        out = torch.cat([model(input_ids=window[None]).logits[0] for window in windows])
    save_file({"ids": windows.flatten(), "logits": out.contiguous()}, options.output)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  tools/kl_reference.py logits smollm2-dithered text.txt --skip 3000 -o a.safetensors\n"
        "  tools/kl_reference.py compare a.safetensors b.safetensors --window 512",
    )
    commands = parser.add_subparsers(required=True, metavar="logits|compare")
    make = commands.add_parser("logits", help="reference logits of a checkpoint over a text")
    make.add_argument("checkpoint", type=Path, help="directory with tokenizer.json")
    make.add_argument("text", type=Path, help="UTF-8 text")
    make.add_argument(
        "--skip", type=int, default=0, help="characters to leave out at the beginning"
    )
    make.add_argument("--windows", type=int, default=8, help="number of windows (default 8)")
    make.add_argument("--window", type=int, default=512, help="tokens of a window (default 512)")
    make.add_argument("-o", "--output", type=Path, required=True, help="safetensors file to write")
    make.set_defaults(run=logits)
    measure = commands.add_parser("compare", help="divergence of logits from reference logits")
    measure.add_argument("reference", type=Path)
    measure.add_argument("other", type=Path)
    measure.add_argument("--window", type=int, help="positions that depend on one another")
    measure.add_argument("--json", action="store_true", help="print one JSON object")
    measure.set_defaults(run=compare)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    sys.exit(main())
