#!/usr/bin/env python3
"""Writes config.json of small models for tools/check-exports, one of each architecture that neither Pebble
nor SmolLM2 has, as DIRECTORY/NAME.json. Pebble's tokenizer fits them all.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

EVERY = {
    "torch_dtype": "bfloat16", "vocab_size": 4099, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
    "tie_word_embeddings": True,
}
# Small divisors of logits make predictions that are as sure as those of a trained model.
GRANITE = EVERY | {
    "hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "embedding_multiplier": 12,
    "residual_multiplier": 0.5, "attention_multiplier": 0.0625, "logits_scaling": 0.25,
}
HYBRID = GRANITE | {
    "architectures": ["GraniteMoeHybridForCausalLM"], "model_type": "granitemoehybrid", "num_hidden_layers": 6,
    "layer_types": ["mamba", "mamba", "attention", "mamba", "mamba", "attention"],
    "position_embedding_type": "nope", "mamba_n_heads": 8, "mamba_d_head": 64, "mamba_n_groups": 1,
    "mamba_d_state": 64, "mamba_d_conv": 4, "mamba_expand": 2,
}
EXPERTS = {"num_local_experts": 16, "num_experts_per_tok": 4, "intermediate_size": 128}
MODELS = {
    "moe": GRANITE | EXPERTS | {
        "architectures": ["GraniteMoeForCausalLM"], "model_type": "granitemoe", "num_hidden_layers": 4,
    },
    "moe-shared": GRANITE | EXPERTS | {
        "architectures": ["GraniteMoeSharedForCausalLM"], "model_type": "granitemoeshared",
        "num_hidden_layers": 4, "shared_intermediate_size": 192, "tie_word_embeddings": False,
    },
    "hybrid": HYBRID | {
        "num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 512,
    },
    "hybrid-experts": HYBRID | EXPERTS | {"shared_intermediate_size": 192},
    # llama.cpp knows these as "granite", whose attention may be without positions.
    "nope-experts": HYBRID | EXPERTS | {
        "num_hidden_layers": 3, "layer_types": ["attention"] * 3, "shared_intermediate_size": 192,
    },
    "bigcode": EVERY | {
        "architectures": ["GPTBigCodeForCausalLM"], "model_type": "gpt_bigcode", "n_embd": 256, "n_head": 4,
        "n_layer": 4, "n_inner": 1024, "n_positions": 1024, "layer_norm_epsilon": 1e-5, "multi_query": True,
        "activation_function": "gelu_pytorch_tanh",
    },
}


def main() -> None:
    for name, configuration in MODELS.items():
        Path(sys.argv[1], name + ".json").write_text(json.dumps(configuration, indent=1))


if __name__ == "__main__":
    main()
