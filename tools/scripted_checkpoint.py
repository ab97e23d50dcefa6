"""A checkpoint of a model that answers every chat with the same pieces, each a token, and then ends.

Embeddings are unit vectors, the layer adds nothing, and the output projection wants after every token
the next. Written without other packages.
"""

import json
import struct
from pathlib import Path

END, START = 256, 257  # ids below are bytes

TEMPLATE = (
    "{%- if tools %}{{ tools | tojson }}{% endif %}"
    "{%- for message in messages %}{{ message.role + ': ' + message.content }}"
    "{%- if message.tool_calls %}{{ message.tool_calls | tojson }}{% endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}<|start|>{% endif %}"
)


def byte_alphabet():
    """The characters that byte-level tokenizers write bytes as."""
    beyond = iter(range(256, 512))
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte if byte in plain else next(beyond)) for byte in range(256)]


def bf16(values):
    return b"".join(struct.pack("<f", value)[2:] for value in values)


def write(directory, pieces):
    """Writes the checkpoint of a model that says `pieces`."""
    directory = Path(directory)
    directory.mkdir(parents=True)
    words = ["<|end|>", "<|start|>", *pieces]
    size = END + len(words)
    size += -size % 32
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": size,
        "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "vocab_size": size,
        "max_position_embeddings": 4096, "tie_word_embeddings": False, "hidden_act": "silu",
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "eos_token_id": END, "torch_dtype": "bfloat16",
    }
    layer = "model.layers.0."
    zeros = {
        layer + "self_attn.q_proj": (32, size), layer + "self_attn.k_proj": (16, size),
        layer + "self_attn.v_proj": (16, size), layer + "self_attn.o_proj": (size, 32),
        layer + "mlp.gate_proj": (32, size), layer + "mlp.up_proj": (32, size),
        layer + "mlp.down_proj": (size, 32),
    }
    ones = [layer + "input_layernorm", layer + "post_attention_layernorm", "model.norm"]
    tensors = {name: (shape, bytes(2 * shape[0] * shape[1])) for name, shape in zeros.items()}
    tensors |= {name: ((size,), bf16([1.0] * size)) for name in ones}
    last = END + len(words) - 1
    follower = [END if token == last else (token + 1) % size for token in range(size)]
    tensors["model.embed_tokens"] = ((size, size), bf16(
        1.0 if row == column else 0.0 for row in range(size) for column in range(size)))
    tensors["lm_head"] = ((size, size), bf16(
        4.0 if follower[column] == row else 0.0 for row in range(size) for column in range(size)))

    header, offset = {}, 0
    for name, (shape, data) in tensors.items():
        header[name + ".weight"] = {
            "dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    with open(directory / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, data in tensors.values():
            file.write(data)

    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [
            {"id": END + index, "content": word, "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": index < 2}
            for index, word in enumerate(words)],
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False,
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "byte_fallback": False,
            "vocab": {word: index for index, word in enumerate(byte_alphabet())}, "merges": []},
    }
    for name, value in {
        "config.json": config, "tokenizer.json": tokenizer,
        "tokenizer_config.json": {"chat_template": TEMPLATE, "eos_token": "<|end|>"},
    }.items():
        (directory / name).write_text(json.dumps(value), encoding="utf-8")
