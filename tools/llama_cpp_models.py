"""Makes the models that tools/compare-llama-cpp measures: of one synthetic checkpoint, slabs for
Quarry and GGUFs for llama.cpp, quantized by llama.cpp itself."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np

GRANITE_3_3: dict[str, Any] = {
    "architectures": ["GraniteForCausalLM"], "model_type": "granite", "num_hidden_layers": 40,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072,
    "rope_theta": 10000000.0, "rms_norm_eps": 1e-05, "hidden_act": "silu",
    "tie_word_embeddings": True, "embedding_multiplier": 12.0, "residual_multiplier": 0.22,
    "logits_scaling": 8.0, "eos_token_id": 0, "bos_token_id": 0, "pad_token_id": 0,
}
SHAPES: dict[str, dict[str, Any]] = {
    "2b": GRANITE_3_3 | {"hidden_size": 2048, "intermediate_size": 8192, "vocab_size": 49155,
                         "attention_multiplier": 0.015625},
    "8b": GRANITE_3_3 | {"hidden_size": 4096, "intermediate_size": 12800, "vocab_size": 49159,
                         "attention_multiplier": 0.0078125},
}
FILE_TYPES = {
    "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "IQ4_NL": llama_cpp.LLAMA_FTYPE_MOSTLY_IQ4_NL, "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
}
LAYER_TENSORS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OTHER_TENSORS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm",
                 "lm_head": "output"}


class Failure(Exception):
    """What went wrong, in one sentence."""


def note(text: str) -> None:
    print(f"compare-llama-cpp: {text}", file=sys.stderr, flush=True)


def prepare(directory: Path, config: dict[str, Any], quarry: str, recipes: list[str],
            types: list[str]) -> None:
    """Makes what of `directory`/RECIPE.slab and `directory`/TYPE.gguf is missing."""
    configuration = directory / "config.json"
    text = json.dumps(config, indent=1)
    if configuration.exists() and configuration.read_text() != text:
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    configuration.write_text(text)
    missing = [t for t in types if not (directory / f"{t}.gguf").exists()]
    check_space(directory, config, [r for r in recipes if not slab(directory, r).exists()], missing)
    if missing:
        checkpoint, unquantized = directory / "checkpoint", directory / "bf16.gguf"
        shutil.rmtree(checkpoint, ignore_errors=True)
        note("making a checkpoint of random weights")
        run([quarry, "synthesize", str(configuration), "-o", str(checkpoint)])
        note("writing it as an unquantized GGUF")
        write_gguf(checkpoint, config, unquantized)
        shutil.rmtree(checkpoint)
        for name in missing:
            note(f"quantizing it to {name}")
            quantize(unquantized, directory / f"{name}.gguf", FILE_TYPES[name])
        unquantized.unlink()
    for recipe in recipes:
        if not slab(directory, recipe).exists():
            note(f"making a slab of the same weights, recipe {recipe}")
            run([quarry, "synthesize", str(configuration), "--slab", "--recipe", recipe,
                 "-o", str(slab(directory, recipe))])


def slab(directory: Path, recipe: str) -> Path:
    return directory / f"{recipe}.slab"


def run(command: list[str]) -> None:
    outcome = subprocess.run(command, capture_output=True, text=True)
    if outcome.returncode != 0:
        raise Failure(f"quarry {command[1]} failed: {outcome.stderr.strip()}")


def weight_count(config: dict[str, Any]) -> int:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    narrow = hidden * config["num_key_value_heads"] // config["num_attention_heads"]
    layer = 2 * hidden * (hidden + narrow) + 3 * hidden * inner
    embeddings = 1 if config.get("tie_word_embeddings") else 2
    return config["num_hidden_layers"] * layer + embeddings * hidden * config["vocab_size"]


def check_space(directory: Path, config: dict[str, Any], recipes: list[str],
                types: list[str]) -> None:
    bytes_per_weight = {"q4": 0.62, "q4s": 0.6, "q8": 1.1, "Q8_0": 1.1}
    kept = sum(bytes_per_weight.get(name, 0.65) for name in [*recipes, *types])
    # The checkpoint and its GGUF together, then the GGUF and what is made of it.
    peak = max(4, 2 + kept) if types else kept
    needed = int(peak * weight_count(config)) + (1 << 28)
    free = shutil.disk_usage(directory).free
    if recipes + types and free < needed:
        raise Failure(f"{directory} has {free / 1e9:.1f} GB free; the models need "
                      f"{needed / 1e9:.1f} GB while they are made")


def checkpoint_tensors(checkpoint: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Names and values of all tensors, bfloat16 as 16-bit integers, mapped."""
    for path in sorted(checkpoint.glob("*.safetensors")):
        data = np.memmap(path, np.uint8, "r")
        start = 8 + int(data[:8].view(np.uint64)[0])
        for name, tensor in json.loads(data[8:start].tobytes()).items():
            if name == "__metadata__":
                continue
            if tensor["dtype"] != "BF16":
                raise Failure(f"{name} is {tensor['dtype']}, not BF16")
            first, last = tensor["data_offsets"]
            yield name, data[start + first:start + last].view(np.uint16).reshape(tensor["shape"])


def gguf_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in OTHER_TENSORS:
        return f"{OTHER_TENSORS[stem]}.{kind}"
    _, _, layer, *rest = stem.split(".")
    if ".".join(rest) not in LAYER_TENSORS:
        raise Failure(f"no name in a GGUF is known for the tensor {name}")
    return f"blk.{layer}.{LAYER_TENSORS['.'.join(rest)]}.{kind}"


def rotary_pairs_adjacent(rows: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp rotates rows 2 j and 2 j + 1 of a head together, the checkpoint j and j + half."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def write_gguf(checkpoint: Path, config: dict[str, Any], path: Path) -> None:
    """Streams the checkpoint's tensors, matrices in bfloat16, into a GGUF without a tokenizer."""
    architectures = {"GraniteForCausalLM": "granite", "LlamaForCausalLM": "llama"}
    architecture = architectures.get(config["architectures"][0])
    if architecture is None:
        raise Failure(f"{config['architectures'][0]} is none of {', '.join(architectures)}")
    writer = gguf.GGUFWriter(path, architecture)
    heads = config["num_attention_heads"]
    key_value_heads = config["num_key_value_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_value_heads)
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    if architecture == "granite":
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])

    tensors = list(checkpoint_tensors(checkpoint))
    for name, values in tensors:
        if values.ndim == 1:
            writer.add_tensor_info(gguf_name(name), values.shape, np.dtype(np.float32),
                                   4 * values.size)
        else:
            # Of raw data the shape is told in bytes.
            shape = (*values.shape[:-1], 2 * values.shape[-1])
            writer.add_tensor_info(gguf_name(name), shape, np.dtype(np.uint8), values.nbytes,
                                   gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, values in tensors:
        if values.ndim == 1:
            writer.write_tensor_data((values.astype(np.uint32) << 16).view(np.float32))
            continue
        if ".q_proj." in name:
            values = rotary_pairs_adjacent(values, heads)
        elif ".k_proj." in name:
            values = rotary_pairs_adjacent(values, key_value_heads)
        writer.write_tensor_data(np.ascontiguousarray(values).view(np.uint8))
    writer.close()


def quantize(source: Path, target: Path, file_type: int, threads: int = 0) -> None:
    """Shows llama.cpp's count of tensors, and the end of its log if it fails. With 0 threads it takes
    one for each processor."""
    log: list[str] = []

    def keep(_level: int, text: bytes, _data: ctypes.c_void_p) -> None:
        log.append(text.decode(errors="replace"))
        if count := re.match(r"\[ *(\d+)/ *(\d+)\]", log[-1]):
            print(f"\r{target.stem}: tensor {count[1]} of {count[2]} ", end="", file=sys.stderr)

    callback = llama_cpp.llama_log_callback(keep)
    llama_cpp.llama_log_set(callback, None)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = file_type
    parameters.nthread = threads
    partial = target.with_suffix(".partial")
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(partial).encode(), ctypes.byref(parameters))
    print(file=sys.stderr)
    if status != 0:
        raise Failure(f"llama.cpp could not quantize {source} to {target.stem}:\n"
                      + "".join(log[-10:]))
    partial.rename(target)
