#!/usr/bin/env python3
"""What tools/check-exports checks of GGUF files, once program and slabs' checkpoints are there.

llama.cpp loads the file, has Quarry's token ids, and its logits agree with those of `quarry logits` on
unquantized activations; blocks of q8_0 are those of ggml. Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

from quarry_program import float_tensors, logits, run

# Least shares of tokens that both would choose. llama.cpp rounds activations with weights of 8 bits, and
# bf16 rounds weights that need more digits: on SmolLM2, 95.7 and 99.0 % are left.
AGREEMENT = {"f16": 0.995, "bf16": 0.98, "q8_0": 0.94}
# Random weights make no such sure predictions, and send tokens to experts that are hardly the better ones:
# 99.3, 96.3 and 87 % are left where layers are Mamba2's with experts.
RANDOM_AGREEMENT = {"f16": 0.985, "bf16": 0.94, "q8_0": 0.84}
CLOSE = 0.05  # two best logits that are closer may change places
CHUNK, CHUNKS = 256, 6  # tokens
# Some matrices of every architecture.
LAYER = "model.layers.1."
ORIGINALS = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("token_embd.weight", "transformer.wte.weight"),
    ("blk.1.ffn_down.weight", LAYER + "mlp.down_proj.weight"),
    ("blk.1.attn_output.weight", LAYER + "self_attn.o_proj.weight"),
    ("blk.1.attn_qkv.weight", "transformer.h.1.attn.c_attn.weight"),
    ("blk.1.ssm_in.weight", LAYER + "mamba.in_proj.weight"),
    ("blk.1.ffn_gate_exps.weight", LAYER + "block_sparse_moe.input_linear.weight"),
    ("blk.1.ffn_down_exps.weight", LAYER + "block_sparse_moe.output_linear.weight"),
]


def check_blocks(quantized: Path, f32: Path) -> bool:
    """The q8_0 file holds what ggml makes of the float32 checkpoint's matrices."""
    library = Path(llama_cpp.__file__).parent / "lib/libggml-base.so"
    quantize = ctypes.CDLL(str(library)).quantize_row_q8_0_ref
    quantize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    source = {}
    for path in f32.glob("*.safetensors"):
        source |= float_tensors(path)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(quantized).tensors}
    for name, original in ORIGINALS:
        if original not in source:
            continue
        values = source[original]
        if name.endswith("gate_exps.weight"):
            values = values[:, :values.shape[1] // 2]
        values = np.ascontiguousarray(values)
        blocks = np.empty(values.size // 32 * 34, np.uint8)
        quantize(values.ctypes.data, blocks.ctypes.data, values.size)
        if not np.array_equal(blocks, np.asarray(tensors[name].data).ravel()):
            print(f"{name}: the blocks are not those of ggml")
            return False
    print("q8_0: blocks are those of ggml, bit for bit")
    return True


def check(program: Path, checkpoint: Path, recipe: str, work: Path, text: str,
          agreements: dict[str, float]) -> bool:
    good = True
    slab = work / f"{recipe}.slab"
    run(program, "convert", checkpoint, "-o", slab, "--recipe", recipe)
    chunks = None
    for kind, limit in agreements.items():
        path = work / f"{recipe}-{kind}.gguf"
        run(program, "export", slab, "--to", "gguf", "--type", kind, "-o", path)
        model = llama_cpp.Llama(str(path), n_ctx=2 * CHUNK, n_batch=CHUNK, n_ubatch=CHUNK,
                                logits_all=True, verbose=False, type_k=0, type_v=0)
        ids = model.tokenize(text.encode(), add_bos=False, special=True)
        if chunks is None:
            same = ids == tokens(program, slab, text)
            print(f"{checkpoint.name}, {recipe}: {len(ids)} token ids of a text, the same: {same}")
            good = good and same
            starts = range(0, min(len(ids) - CHUNK, CHUNK * CHUNKS), CHUNK)
            chunks = [(ids[i:i + CHUNK], logits(program, slab, ids[i:i + CHUNK], work))
                      for i in starts]
        equal = total = 0
        for chunk, ours in chunks:
            model.reset()
            model.eval(chunk)
            theirs = np.array(model.scores[:len(chunk)])
            equal += int((ours.argmax(1) == theirs.argmax(1)).sum())
            total += len(chunk)
        agreement = equal / total
        passed = agreement >= limit
        if kind == "f16":
            passed = greedy(program, slab, model, ids[:32], work) and passed
        print(f"{checkpoint.name}, {recipe} as {kind}: same best token {agreement:.2%} of {total}",
              "" if passed else "TOO FEW", flush=True)
        good = good and passed
        del model
    run(program, "export", slab, "--type", "f32", "-o", work / f"{recipe}-f32")
    return check_blocks(work / f"{recipe}-q8_0.gguf", work / f"{recipe}-f32") and good


def tokens(program: Path, slab: Path, text: str) -> list[int]:
    return [int(id) for id in run(program, "tokenize", slab, text=text).split()]


def greedy(program: Path, slab: Path, model: llama_cpp.Llama, prompt: list[int], work: Path) -> bool:
    """Both go on alike until their two best logits are close."""
    ids = list(prompt)
    model.reset()
    model.eval(ids)
    for step in range(48):
        theirs = np.array(model.scores[len(ids) - 1])
        best = np.sort(theirs)[-2:]
        if best[1] - best[0] < CLOSE:
            print(f"  greedy text is equal for {step} tokens, until two are close")
            return True
        ours = logits(program, slab, ids, work)[-1]
        if ours.argmax() != theirs.argmax():
            print(f"  greedy text differs after {step} tokens")
            return False
        ids.append(int(theirs.argmax()))
        model.eval(ids[-1:])
    print("  greedy text is equal for 48 tokens")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", action="store_true", help="the checkpoints' weights are random")
    parser.add_argument("program", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    arguments = parser.parse_args()
    text = arguments.text.read_text()[:12000]
    good = True
    for checkpoint in arguments.checkpoints:
        for recipe in ["q4"]:
            with tempfile.TemporaryDirectory() as work:
                good = check(arguments.program.resolve(), checkpoint, recipe, Path(work), text,
                             RANDOM_AGREEMENT if arguments.random else AGREEMENT) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
