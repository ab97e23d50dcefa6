#!/usr/bin/env python3
"""The checks of tools/check-exports, once program and checkpoints are there.

Exits with 1 if transformers does not load an exported directory, or its logits differ from Quarry's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from quarry_program import logits, run

TEXT = (
    "The quarry lies behind the village. Granite has been cut there for two hundred years, and the\n"
    "blocks went down to the river on carts: 1,250 of them in 1874 alone. What is left is a lake."
)
# Recipe, exported type, and whether both compute with the same values: those of f32 are, bf16 rounds
# them, which is only shown.
CASES = [("q4", "f32", True), ("q8", "f32", True), ("bf16", "bf16", True), ("q4", "bf16", False)]
TOLERANCE = 2e-5  # of the largest logit: both add in float32, in orders of their own


def check(program: Path, checkpoint: Path, work: Path) -> bool:
    good = True
    ids = None
    for recipe, kind, same_values in CASES:
        slab, directory = work / f"{recipe}.slab", work / f"{recipe}-{kind}"
        if not slab.exists():
            run(program, "convert", checkpoint, "-o", slab, "--recipe", recipe)
        run(program, "export", slab, "-o", directory, "--type", kind, "--shard-size", "50MB")
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(directory)
        ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            theirs = model(torch.tensor([ids])).logits[0]
        ours = torch.from_numpy(logits(program, slab, ids, work).copy())
        difference = (ours - theirs).abs().max().item()
        same = (ours.argmax(1) == theirs.argmax(1)).float().mean().item()
        shards = len(list(directory.glob("*.safetensors")))
        print(
            f"{checkpoint.name}, {recipe} as {kind}: {shards} files, {len(ids)} tokens, largest difference of"
            f" a logit {difference:.2g}, same best token {same:.2%}",
            flush=True,
        )
        limit = TOLERANCE * theirs.abs().max().item()
        if same_values and not difference <= limit:
            print(f"that is more than {limit:.2g}")
            good = False
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    arguments = parser.parse_args()
    good = True
    for checkpoint in arguments.checkpoints:
        with tempfile.TemporaryDirectory() as work:
            good = check(arguments.program.resolve(), checkpoint, Path(work)) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
