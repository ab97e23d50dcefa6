#!/usr/bin/env python3
"""Makes the reference logits that the tests compare with, using transformers in float32.

Two sets, both committed under Tests/Goldens:

checkpoints   One tiny random checkpoint directory for every supported variation of the
              architecture, written as published checkpoints are, with golden.safetensors:
              `tokens` (int64, 48 ids), `logits` (float32 [48, vocabulary]) and `greedy` (int64,
              the 64 ids that follow the first 16 tokens when the best logit is always taken,
              whatever the end-of-text id is). The two best logits of every greedy step are at
              least 1e-3 apart, so that the ids do not depend on rounding.
pebble        The bundled model: reference-logits.safetensors must be reproduced, and
              evaluation.safetensors holds `ids` (the first 512 tokens of
              text/quarry-handbook.txt) and `logits`, those of positions 384 to 511;
              perplexity.json holds the mean loss of 8 windows of 512 tokens of that text, and the
              perplexity, over all predictions and over those after the first 256 of each window.

Weights come from numpy's PCG64, so a checkpoint depends on nothing but this file; logits may
differ in their last bits between machines.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel

ROOT = Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "Tests" / "Goldens"
PEBBLE = ROOT / "Sources" / "Pebble" / "Checkpoint"

TOKENS = 48
PROMPT = 16
GREEDY = 64
MARGIN = 1e-3
DISTINCT = 12  # different ids that a greedy continuation must have to be worth comparing
TOLERANCE = 1e-4  # between this run's logits and the committed ones

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Variation:
    """One checkpoint: the architecture, its shape and what is unusual about it."""

    name: str
    about: str
    family: str = "granite"  # granite, hybrid or llama
    dtype: str = "bfloat16"
    vocabulary: int = 131
    hidden: int = 64
    intermediate: int = 96
    layers: int = 2
    heads: int = 2
    kv_heads: int = 1
    head_size: int = 32
    tied: bool = True
    attention_bias: bool = False
    mlp_bias: bool = False
    theta: float = 10000.0
    epsilon: float = 1e-5
    shards: int = 1
    dialect: int = 4  # major version of transformers whose config.json is written
    embedding: float = 12.0
    attention: float = 0.03125
    residual: float = 0.22
    scaling: float = 4.0
    extra: dict[str, object] = field(default_factory=dict)


# fmt: off
VARIATIONS = [
    Variation("granite-tied", "float32, tied, two query heads per key head", dtype="float32"),
    Variation(
        "granite-untied", "untied, one query head per key head, integers for multipliers",
        vocabulary=259, kv_heads=2, tied=False, theta=5_000_000, embedding=6, residual=1,
        scaling=1, attention=0.0625),
    Variation(
        "granite-biases", "biases in attention and MLP", dtype="float32", hidden=48,
        intermediate=80, heads=4, kv_heads=2, attention_bias=True, mlp_bias=True, embedding=8.0,
        residual=0.4, scaling=3.0, attention=0.05),
    Variation(
        "granite-gqa8", "eight query heads on one key head", heads=8, intermediate=72,
        embedding=10.0, residual=0.3, scaling=5.0, theta=10_000_000.0, attention=0.04),
    Variation(
        "granite-head64", "head size 64, float16, sizes that are no multiple of 16",
        dtype="float16", head_size=64, hidden=72, intermediate=90, vocabulary=133, embedding=7.5,
        residual=0.35, scaling=3.5, attention=0.015625),
    Variation(
        "granite-head80", "head size 80 without head_dim", hidden=160, intermediate=64,
        layers=1, head_size=80, kv_heads=2, vocabulary=137, embedding=9.0, residual=0.5,
        scaling=6.0, attention=0.0125),
    Variation(
        "granite-head128", "head size 128, larger than the hidden size", head_size=128,
        vocabulary=139, intermediate=64, embedding=11.0, residual=0.246, scaling=2.5,
        attention=0.0078125),
    Variation(
        "granite-sharded", "three shards and an index, float16", dtype="float16", layers=3,
        vocabulary=259, shards=3, embedding=5.0, residual=0.25, scaling=2.0, attention=0.02),
    Variation(
        "granite-dialect5", "config.json as transformers 5 writes it, untied", dialect=5,
        tied=False, kv_heads=2, vocabulary=149, embedding=1.0, residual=1.0, scaling=1.0,
        theta=50_000_000.0, attention=0.03, epsilon=1e-6),
    Variation(
        "hybrid-attention", "GraniteMoeHybrid of attention layers only", family="hybrid",
        vocabulary=151, embedding=12, residual=0.263, scaling=4, attention=0.015625,
        theta=10_000_000),
    Variation(
        "hybrid-dialect5", "the same as transformers 5 writes it", family="hybrid", dialect=5,
        vocabulary=157, heads=4, hidden=128, intermediate=64, layers=1, embedding=4.0,
        residual=0.6, scaling=8.0, attention=0.025, theta=1_500_000.0),
    Variation(
        "llama", "Llama, untied, four query heads per key head", family="llama", dtype="float32",
        vocabulary=131, heads=4, hidden=128, intermediate=40, layers=1, tied=False,
        theta=100_000.0),
    Variation(
        "llama-biases", "Llama with biases and head_dim, tied", family="llama", hidden=80,
        heads=2, kv_heads=2, head_size=80, vocabulary=259, attention_bias=True, mlp_bias=True,
        extra={"pretraining_tp": 1}),
]
# fmt: on


def config(v: Variation) -> dict[str, object]:
    """config.json of a variation, keys sorted as published ones are."""
    architecture, model_type = {
        "granite": ("GraniteForCausalLM", "granite"),
        "hybrid": ("GraniteMoeHybridForCausalLM", "granitemoehybrid"),
        "llama": ("LlamaForCausalLM", "llama"),
    }[v.family]
    values: dict[str, object] = {
        "architectures": [architecture],
        "attention_bias": v.attention_bias,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "hidden_act": "silu",
        "hidden_size": v.hidden,
        "initializer_range": 0.02,
        "intermediate_size": v.intermediate,
        "max_position_embeddings": 128,
        "model_type": model_type,
        "num_attention_heads": v.heads,
        "num_hidden_layers": v.layers,
        "num_key_value_heads": v.kv_heads,
        "pad_token_id": 0,
        "rms_norm_eps": v.epsilon,
        "tie_word_embeddings": v.tied,
        "use_cache": True,
        "vocab_size": v.vocabulary,
        **v.extra,
    }
    if v.dialect == 5:
        values["dtype"] = v.dtype
        values["rope_parameters"] = {"rope_theta": v.theta, "rope_type": "default"}
        values["transformers_version"] = "5.23.0"
    else:
        values["torch_dtype"] = v.dtype
        values["rope_theta"] = v.theta
        values["rope_scaling"] = None
        values["transformers_version"] = "4.53.3"
    if v.family != "llama":
        values["embedding_multiplier"] = v.embedding
        values["attention_multiplier"] = v.attention
        values["residual_multiplier"] = v.residual
        values["logits_scaling"] = v.scaling
    if v.family == "hybrid":
        kind = "full_attention" if v.dialect == 5 else "attention"
        values |= {
            "layer_types": [kind] * v.layers,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "shared_intermediate_size": v.intermediate,
            "position_embedding_type": "rope",
            "normalization_function": "rmsnorm",
            "init_method": "mup",
            "output_router_logits": False,
            "router_aux_loss_coef": 0.01,
            "mamba_chunk_size": 256,
            "mamba_conv_bias": True,
            "mamba_d_conv": 4,
            "mamba_d_head": 2 * v.hidden // 4,
            "mamba_d_state": 16,
            "mamba_expand": 2,
            "mamba_n_groups": 1,
            "mamba_n_heads": 4,
            "mamba_proj_bias": False,
        }
    else:
        values["mlp_bias"] = v.mlp_bias
    if v.head_size * v.heads != v.hidden:
        values["head_dim"] = v.head_size
    return dict(sorted(values.items()))


def weights(v: Variation, seed: int) -> dict[str, torch.Tensor]:
    """Random weights whose activations and logits have the size that trained ones have."""
    random = np.random.Generator(np.random.PCG64(seed))
    out: dict[str, torch.Tensor] = {}

    def add(name: str, shape: tuple[int, ...], deviation: float, mean: float = 0.0) -> None:
        values = random.standard_normal(shape) * deviation + mean
        out[name] = torch.from_numpy(values).to(DTYPES[v.dtype])

    def linear(name: str, rows: int, columns: int, bias: bool, gain: float = 1.0) -> None:
        add(f"{name}.weight", (rows, columns), gain / columns**0.5)
        if bias:
            add(f"{name}.bias", (rows,), 0.3)

    multiplier = 1.0 if v.family == "llama" else v.embedding
    scaling = 1.0 if v.family == "llama" else v.scaling
    # Scores of deviation 1.5 or so, whatever the multiplier: queries and keys share the gain.
    attention = v.head_size**-0.5 if v.family == "llama" else v.attention
    sharpness = (1.5 / (attention * v.head_size**0.5)) ** 0.5
    head_gain = 2.5 * scaling
    add(
        "model.embed_tokens.weight",
        (v.vocabulary, v.hidden),
        head_gain / v.hidden**0.5 if v.tied else 1.0 / multiplier,
    )
    for layer in range(v.layers):
        prefix = f"model.layers.{layer}"
        add(f"{prefix}.input_layernorm.weight", (v.hidden,), 0.25, 1.0)
        add(f"{prefix}.post_attention_layernorm.weight", (v.hidden,), 0.25, 1.0)
        queries, keys = v.heads * v.head_size, v.kv_heads * v.head_size
        attend = f"{prefix}.self_attn"
        # Deep enough a contribution for a tied model not to repeat its last token.
        boost = 6.0 / v.layers * max(1.0, head_gain / v.hidden**0.5 * multiplier if v.tied else 1.0)
        residual = 1.0 if v.family == "llama" else v.residual
        linear(f"{attend}.q_proj", queries, v.hidden, v.attention_bias, sharpness)
        linear(f"{attend}.k_proj", keys, v.hidden, v.attention_bias, sharpness)
        linear(f"{attend}.v_proj", keys, v.hidden, v.attention_bias)
        linear(f"{attend}.o_proj", v.hidden, queries, v.attention_bias, boost / residual)
        if v.family == "hybrid":
            linear(f"{prefix}.shared_mlp.input_linear", 2 * v.intermediate, v.hidden, False)
            linear(
                f"{prefix}.shared_mlp.output_linear",
                v.hidden,
                v.intermediate,
                False,
                2 * boost / residual,
            )
        else:
            linear(f"{prefix}.mlp.gate_proj", v.intermediate, v.hidden, v.mlp_bias)
            linear(f"{prefix}.mlp.up_proj", v.intermediate, v.hidden, v.mlp_bias)
            linear(
                f"{prefix}.mlp.down_proj",
                v.hidden,
                v.intermediate,
                v.mlp_bias,
                2 * boost / residual,
            )
    add("model.norm.weight", (v.hidden,), 0.25, 1.0)
    if not v.tied:
        linear("lm_head", v.vocabulary, v.hidden, False, head_gain)
    return out


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_checkpoint(v: Variation, tensors: dict[str, torch.Tensor], folder: Path) -> None:
    """Writes a published-style directory; shards take runs of tensors in alphabetical order."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config(v))
    write_json(
        folder / "generation_config.json",
        {
            "_from_model_config": True,
            "bos_token_id": 0,
            "eos_token_id": [0, v.vocabulary - 1],
            "pad_token_id": 0,
            "transformers_version": "4.53.3",
        },
    )
    names = sorted(tensors)
    if v.shards == 1:
        save_file({n: tensors[n] for n in names}, folder / "model.safetensors", {"format": "pt"})
        return
    size = -(-len(names) // v.shards)
    place: dict[str, str] = {}
    for shard in range(v.shards):
        file = f"model-{shard + 1:05}-of-{v.shards:05}.safetensors"
        part = names[shard * size : (shard + 1) * size]
        save_file({n: tensors[n] for n in part}, folder / file, {"format": "pt"})
        place |= dict.fromkeys(part, file)
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": place},
    )


def load(folder: Path) -> PreTrainedModel:
    """The model in float32 with the plain attention, refused unless every tensor has its place."""
    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        output_loading_info=True,
        local_files_only=True,
    )
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[key]:
            raise SystemExit(f"{folder}: {key}: {report[key]}")
    return model.eval()


@torch.no_grad()
def logits(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids[None], use_cache=False).logits[0].float().contiguous()


def greedy(model: PreTrainedModel, prompt: torch.Tensor) -> tuple[torch.Tensor, float]:
    """GREEDY ids that follow `prompt`, and the smallest margin between the two best logits."""
    ids, margin = prompt, float("inf")
    for _ in range(GREEDY):
        best = logits(model, ids)[-1].topk(2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        ids = torch.cat([ids, best.indices[:1]])
    return ids[len(prompt) :], margin


def tokens(v: Variation, seed: int) -> torch.Tensor:
    """TOKENS ids, the first and the last of the vocabulary among them."""
    random = np.random.Generator(np.random.PCG64([seed, 1]))
    ids = random.integers(0, v.vocabulary, TOKENS)
    ids[[3, 5]] = 0, v.vocabulary - 1
    return torch.from_numpy(ids)


def make_checkpoint(v: Variation, folder: Path) -> str:
    """Writes the checkpoint and its golden; tries seeds until the greedy ids are robust."""
    for seed in range(1, 100):
        write_checkpoint(v, weights(v, seed), folder)
        model, ids = load(folder), tokens(v, seed)
        after, margin = greedy(model, ids[:PROMPT])
        if margin > MARGIN and len(after.unique()) >= DISTINCT:
            out = logits(model, ids)
            save_file(
                {"tokens": ids, "logits": out, "greedy": after}, folder / "golden.safetensors"
            )
            return (
                f"seed {seed}, logit deviation {out.std():.2f}, margin {margin:.4f}, "
                f"{len(after.unique())} ids, {out.argmax(-1).eq(ids).float().mean():.0%} copies"
            )
    raise SystemExit(f"{v.name}: no seed gives robust greedy ids; change the variation")


def check_checkpoint(folder: Path) -> str:
    """Recomputes the committed golden of a committed checkpoint."""
    golden, model = load_file(folder / "golden.safetensors"), load(folder)
    error = float((logits(model, golden["tokens"]) - golden["logits"]).abs().max())
    after, _ = greedy(model, golden["tokens"][:PROMPT])
    if error > TOLERANCE or not torch.equal(after, golden["greedy"]):
        raise SystemExit(f"{folder}: differs from its golden by {error:.2e}")
    return f"reproduced, largest difference {error:.1e}"


def perplexity(model: PreTrainedModel, windows: torch.Tensor) -> dict[str, object]:
    """Losses and perplexity of `windows` ([windows, tokens]), each from position 0."""
    losses = torch.stack(
        [
            torch.nn.functional.cross_entropy(
                logits(model, ids)[:-1].double(), ids[1:], reduction="none"
            )
            for ids in windows
        ]
    )
    return {
        f"skip_{skip}": {
            "loss_by_window": losses[:, skip:].mean(dim=1).tolist(),
            "perplexity": float(losses[:, skip:].mean().exp()),
        }
        for skip in (0, windows.shape[1] // 2)
    }


def make_pebble(check: bool) -> str:
    """Checks the reference logits and makes (or checks) those of the evaluation text."""
    model, folder = load(PEBBLE), GOLDENS / "pebble"
    reference = load_file(folder / "reference-logits.safetensors")
    error = float((logits(model, reference["ids"]) - reference["logits"]).abs().max())
    if error > 1e-3:
        raise SystemExit(f"reference-logits.safetensors is not reproduced: {error:.2e}")
    text = (GOLDENS / "text" / "quarry-handbook.txt").read_bytes().decode()
    tokens = torch.tensor(Tokenizer.from_file(str(PEBBLE / "tokenizer.json")).encode(text).ids)
    ids = tokens[:512]
    losses = perplexity(model, tokens[: 8 * 512].view(8, 512))
    out, file = logits(model, ids)[384:].clone(), folder / "evaluation.safetensors"
    if check:
        golden = load_file(file)
        difference = float((out - golden["logits"]).abs().max())
        if not torch.equal(ids, golden["ids"]) or difference > 1e-3:
            raise SystemExit(f"{file}: differs from its golden by {difference:.2e}")
        golden_losses = json.loads((folder / "perplexity.json").read_text())
        for part, values in losses.items():
            ratio = values["perplexity"] / golden_losses[part]["perplexity"]
            if abs(ratio - 1) > 1e-5:
                raise SystemExit(f"perplexity.json: {part} differs by the factor {ratio}")
    else:
        write_json(folder / "perplexity.json", losses)
        save_file({"ids": ids, "logits": out}, file)
    return (
        f"reference logits reproduced, largest difference {error:.1e}; evaluation of 128 positions"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  python3 -m venv .venv && .venv/bin/pip install -r tools/requirements.txt\n"
        "  .venv/bin/python tools/make_goldens.py                make everything\n"
        "  .venv/bin/python tools/make_goldens.py --check        compare, write nothing\n"
        "  .venv/bin/python tools/make_goldens.py --only llama granite-tied",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="recompute and compare with the committed files; write nothing",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        choices=[v.name for v in VARIATIONS] + ["pebble"],
        help="only these variations (or `pebble`)",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)  # one order of summation
    for v in VARIATIONS:
        if options.only and v.name not in options.only:
            continue
        folder = GOLDENS / "checkpoints" / v.name
        result = check_checkpoint(folder) if options.check else make_checkpoint(v, folder)
        print(f"{v.name}: {v.about}: {result}", flush=True)
    if not options.only or "pebble" in options.only:
        print(f"pebble: {make_pebble(options.check)}")


if __name__ == "__main__":
    sys.exit(main())
