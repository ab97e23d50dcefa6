"""Makes the models that tools/compare-llama-cpp measures: of the same random weights, slabs for Quarry
and GGUFs for llama.cpp, quantized by llama.cpp itself."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import llama_cpp

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
    for recipe in recipes:
        if not slab(directory, recipe).exists():
            note(f"making a slab of random weights, recipe {recipe}")
            synthesize(quarry, directory, recipe)
    missing = [t for t in types if not (directory / f"{t}.gguf").exists()]
    if not missing:
        return
    check_space(directory, parameter_count(quarry, slab(directory, recipes[0])), missing)
    note("writing the same weights as an unquantized GGUF")
    unquantized = directory / "bf16.gguf"
    synthesize(quarry, directory, "bf16")
    unquantized.unlink(missing_ok=True)
    run([quarry, "export", str(slab(directory, "bf16")), "--to", "gguf", "--type", "bf16",
         "-o", str(unquantized)])
    slab(directory, "bf16").unlink()
    for name in missing:
        note(f"quantizing it to {name}")
        quantize(unquantized, directory / f"{name}.gguf", FILE_TYPES[name])
    unquantized.unlink()


def synthesize(quarry: str, directory: Path, recipe: str) -> None:
    run([quarry, "synthesize", str(directory / "config.json"), "--slab", "--recipe", recipe,
         "--force", "-o", str(slab(directory, recipe))])


def slab(directory: Path, recipe: str) -> Path:
    return directory / f"{recipe}.slab"


def run(command: list[str]) -> str:
    outcome = subprocess.run(command, capture_output=True, text=True)
    if outcome.returncode != 0:
        raise Failure(f"quarry {command[1]} failed: {outcome.stderr.strip()}")
    return outcome.stdout


def parameter_count(quarry: str, path: Path) -> int:
    return json.loads(run([quarry, "inspect", str(path), "--json"]))["summary"]["total"]["parameters"]


def check_space(directory: Path, parameters: int, types: list[str]) -> None:
    kept = sum(1.1 if name == "Q8_0" else 0.65 for name in types)
    # The unquantized slab and GGUF together, then the GGUF and what is made of it.
    needed = int(max(4, 2 + kept) * parameters) + (1 << 28)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise Failure(f"{directory} has {free / 1e9:.1f} GB free; the models need "
                      f"{needed / 1e9:.1f} GB while they are made")


def quantize(source: Path, target: Path, file_type: int, threads: int = 0) -> None:
    """Shows llama.cpp's count of tensors, and the end of its log if it fails. With 0 threads it takes
    one for each processor."""
    log: list[str] = []

    def keep(_level: int, text: bytes, _data: ctypes.c_void_p) -> None:
        log.append(text.decode(errors="replace"))
        count = re.match(r"\[ *(\d+)/ *(\d+)\]", log[-1])
        if count and sys.stderr.isatty():
            print(f"\r{target.stem}: tensor {count[1]} of {count[2]} ", end="", file=sys.stderr)

    callback = llama_cpp.llama_log_callback(keep)
    llama_cpp.llama_log_set(callback, None)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = file_type
    parameters.nthread = threads
    partial = target.with_suffix(".partial")
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(partial).encode(), ctypes.byref(parameters))
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if status != 0:
        raise Failure(f"llama.cpp could not quantize {source} to {target.stem}:\n"
                      + "".join(log[-10:]))
    partial.rename(target)
