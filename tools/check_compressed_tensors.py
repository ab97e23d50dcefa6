#!/usr/bin/env python3
"""What tools/check-exports checks of checkpoints of compressed-tensors, once program and checkpoints are
there.

transformers loads the directory with the package compressed-tensors, and the KL divergence of its
predictions from those of `quarry logits` on the slab, activations unquantized, is small. Exits with 1 if
not.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"  # bars of compressed-tensors

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from quarry_program import logits, run

LIMIT = 0.003  # nats, mean over tokens
RANDOM_LIMIT = 0.03  # of random weights, which send tokens to experts that are hardly the better ones
CHUNK, CHUNKS = 256, 8  # tokens


def check_dtypes(directory: Path) -> bool:
    """Packed layers are there, and all that is not packed is bfloat16."""
    kinds: dict[str, set[str]] = {}
    for path in directory.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                kinds.setdefault(name.rsplit(".", 1)[1], set()).add(file.get_slice(name).get_dtype())
    expected = dict.fromkeys(kinds, {"BF16"}) | {
        "weight_packed": {"I32"}, "weight_scale": {"BF16"}, "weight_shape": {"I64"}}
    if kinds != expected:
        print(f"tensors are {kinds}")
    return kinds == expected


def check(program: Path, checkpoint: Path, recipe: str, work: Path, text: str, limit: float) -> bool:
    slab, directory = work / "a.slab", work / "exported"
    run(program, "convert", checkpoint, "-o", slab, "--recipe", recipe)
    said = run(program, "export", slab, "--to", "compressed-tensors", "-o", directory,
               "--shard-size", "50MB")
    good = check_dtypes(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained(directory)(text, add_special_tokens=False)["input_ids"]
    divergence, same, total = 0.0, 0, 0
    for start in range(0, min(len(ids) - CHUNK, CHUNK * CHUNKS), CHUNK):
        chunk = ids[start : start + CHUNK]
        ours = torch.from_numpy(logits(program, slab, chunk, work).astype(float)).log_softmax(1)
        with torch.no_grad():
            theirs = model(torch.tensor([chunk])).logits[0].double().log_softmax(1)
        divergence += (ours.exp() * (ours - theirs)).sum().item()
        same += (ours.argmax(1) == theirs.argmax(1)).sum().item()
        total += len(chunk)
    divergence /= total
    good = good and divergence <= limit
    print(f"{checkpoint.name}, {recipe}: {said.strip().splitlines()[-1]}")
    print(
        f"  transformers' predictions: KL divergence from the slab's {divergence:.2g}, same best token"
        f" {same / total:.2%} of {total}{'' if good else ' TOO FAR'}",
        flush=True,
    )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", action="store_true", help="the checkpoints' weights are random")
    parser.add_argument("program", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    text = arguments.text.read_text()[:12000]
    good = True
    for checkpoint in arguments.checkpoints:
        for recipe in ["q8", "q8s"]:
            with tempfile.TemporaryDirectory() as work:
                good = check(arguments.program.resolve(), checkpoint, recipe, Path(work), text,
                             RANDOM_LIMIT if arguments.random else LIMIT) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
