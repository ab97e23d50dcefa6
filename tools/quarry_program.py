"""The program `quarry` as the checks in this folder use it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np


def run(program: Path, *arguments: str | Path, text: str | None = None) -> str:
    """What it prints, given `text` on standard input; ends this process if it fails."""
    done = subprocess.run([program, *arguments], input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"quarry {arguments[0]} failed: {done.stderr}")
    return done.stdout


def float_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file of float32 values."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    result = {}
    for name, tensor in json.loads(data[8:start]).items():
        if name != "__metadata__":
            first, last = tensor["data_offsets"]
            values = np.frombuffer(data[start + first:start + last], np.float32)
            result[name] = values.reshape(tensor["shape"])
    return result


def logits(program: Path, slab: Path, ids: list[int], work: Path) -> np.ndarray:
    """The logits after each token, activations and cache unquantized."""
    output = work / "logits"
    run(program, "logits", slab, "--tokens", ",".join(map(str, ids)), "-o", output,
        "--activations", "f32", "--kv", "f32")
    return float_tensors(output)["logits"]
