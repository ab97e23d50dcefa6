"""The tiny models of `make_goldens.py`: their shapes, config.json and random weights.

A configuration has the keys, and a checkpoint the tensor names, that published ones have. Weights
come from numpy's PCG64 in a fixed order, so they depend on nothing but these files.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

ARCHITECTURES = {
    "granite": ("GraniteForCausalLM", "granite"),
    "hybrid": ("GraniteMoeHybridForCausalLM", "granitemoehybrid"),
    "llama": ("LlamaForCausalLM", "llama"),
    "moe": ("GraniteMoeForCausalLM", "granitemoe"),
    "shared": ("GraniteMoeSharedForCausalLM", "granitemoeshared"),
    "bigcode": ("GPTBigCodeForCausalLM", "gpt_bigcode"),
}


@dataclass(frozen=True)
class Mamba:
    """Shape of the Mamba2 layers; the inner width is twice the hidden size."""

    heads: int = 4
    groups: int = 1
    state: int = 16
    taps: int = 4
    conv_bias: bool = True
    chunk: int = 256  # of the algorithm of transformers; results do not depend on it
    dtype: str | None = None  # of A_log, D and dt_bias, where it is not the others'


@dataclass(frozen=True)
class Variation:
    """One checkpoint: the architecture, its shape and what is unusual about it."""

    name: str
    about: str
    family: str = "granite"  # a key of ARCHITECTURES
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
    experts: int = 0
    experts_per_token: int = 0
    shared: int = 0  # width of the MLP beside the experts
    kinds: str = ""  # of a hybrid's layers: m for Mamba, a for attention; empty: attention only
    positions: str = "rope"
    layer_types_key: str = "layer_types"
    mamba: Mamba = Mamba()
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def shared_width(self) -> int:
        """Width of the MLP that every token passes: all of the MLP where there are no experts."""
        return self.shared if self.experts else self.intermediate

    @property
    def layer_kinds(self) -> str:
        return self.kinds or "a" * self.layers


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
    Variation(
        "hybrid-mamba", "Mamba and attention layers without positions", family="hybrid",
        kinds="mam", layers=3, positions="nope", vocabulary=151, intermediate=64, embedding=12,
        residual=0.22, scaling=6, attention=0.03125, theta=10000),
    Variation(
        "hybrid-mamba-groups", "two groups, three taps without bias, rotary positions, untied",
        family="hybrid", dtype="float32", dialect=5, kinds="ma", hidden=54, intermediate=40,
        heads=3, head_size=18, vocabulary=149, tied=False, embedding=6.0, residual=0.5,
        scaling=3.0, attention=0.055, theta=500_000.0,
        mamba=Mamba(heads=6, groups=2, state=20, taps=3, conv_bias=False, chunk=16),
        extra={"time_step_limit": [0.0, {"__float__": "Infinity"}]}),
    Variation(
        "hybrid-experts", "Mamba layers, attention, experts and an MLP beside them; A_log, D and "
        "dt_bias in float32, layer types under their other key", family="hybrid", kinds="mam",
        layers=3, positions="nope", vocabulary=151, hidden=48, intermediate=16, heads=2,
        head_size=24, experts=6, experts_per_token=2, shared=40, embedding=12, residual=0.22,
        scaling=16, attention=0.04, mamba=Mamba(heads=6, dtype="float32"),
        layer_types_key="layers_block_type"),
    Variation(
        "moe", "experts, 8 of 32", family="moe", hidden=48, intermediate=24, layers=1,
        heads=3, head_size=16, epsilon=1e-6, vocabulary=137, experts=32, experts_per_token=8,
        residual=0.22, scaling=6.0, attention=0.015625, theta=1_500_000.0),
    Variation(
        "moe-dialect5", "experts, 2 of 6, config.json and tensor names of transformers 5, untied",
        family="moe", dtype="float32", dialect=5, hidden=44, intermediate=18, head_size=22,
        epsilon=1e-6, vocabulary=139, tied=False, experts=6, experts_per_token=2, embedding=8.0,
        residual=0.4, scaling=5.0, attention=0.05),
    Variation(
        "moe-shared", "experts, 3 of 10, and an MLP beside them", family="shared", hidden=48,
        intermediate=20, heads=4, kv_heads=2, head_size=12, epsilon=1e-6, vocabulary=163,
        experts=10, experts_per_token=3, shared=56, embedding=10.0, residual=0.25, scaling=7.0,
        attention=0.08),
    Variation(
        "bigcode", "GPTBigCode: learned positions, LayerNorm, one key head", family="bigcode",
        intermediate=256, heads=4, head_size=16, vocabulary=151, extra={"n_inner": 256}),
    Variation(
        "bigcode-odd", "GPTBigCode without n_inner, sizes that are no multiple of 16",
        family="bigcode", dtype="float32", hidden=36, intermediate=144, heads=3, head_size=12,
        epsilon=1e-6, vocabulary=149),
]
# fmt: on


def config(v: Variation) -> dict[str, object]:
    """config.json of a variation, keys sorted as published ones are."""
    architecture, model_type = ARCHITECTURES[v.family]
    values: dict[str, object] = {
        "architectures": [architecture],
        "bos_token_id": 0,
        "eos_token_id": 0,
        "initializer_range": 0.02,
        "model_type": model_type,
        "pad_token_id": 0,
        "use_cache": True,
        "vocab_size": v.vocabulary,
        **v.extra,
    }
    if v.dialect == 5:
        values |= {"dtype": v.dtype, "transformers_version": "5.23.0"}
    else:
        values |= {"torch_dtype": v.dtype, "transformers_version": "4.53.3"}
    values |= bigcode_config(v) if v.family == "bigcode" else granite_config(v)
    return dict(sorted(values.items()))


def granite_config(v: Variation) -> dict[str, object]:
    """What Llama and all Granite architectures have in common, and what sets each apart."""
    values: dict[str, object] = {
        "attention_bias": v.attention_bias,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": v.hidden,
        "intermediate_size": v.intermediate,
        "max_position_embeddings": 128,
        "num_attention_heads": v.heads,
        "num_hidden_layers": v.layers,
        "num_key_value_heads": v.kv_heads,
        "rms_norm_eps": v.epsilon,
        "tie_word_embeddings": v.tied,
    }
    if v.dialect == 5:
        values["rope_parameters"] = {"rope_theta": v.theta, "rope_type": "default"}
    else:
        values |= {"rope_theta": v.theta, "rope_scaling": None}
    if v.head_size * v.heads != v.hidden:
        values["head_dim"] = v.head_size
    if v.family in ("granite", "llama"):
        values["mlp_bias"] = v.mlp_bias
    if v.family != "llama":
        values |= {
            "embedding_multiplier": v.embedding,
            "attention_multiplier": v.attention,
            "residual_multiplier": v.residual,
            "logits_scaling": v.scaling,
        }
    if v.family in ("moe", "shared", "hybrid"):
        values |= {
            "num_local_experts": v.experts,
            "num_experts_per_tok": v.experts_per_token,
            "output_router_logits": False,
            "router_aux_loss_coef": 0.01 if v.family == "hybrid" else 0.001,
        }
    if v.family in ("shared", "hybrid"):
        values["shared_intermediate_size"] = v.shared_width
    if v.family == "hybrid":
        spelling = {
            4: {"m": "mamba", "a": "attention"},
            5: {"m": "linear_attention", "a": "full_attention"},
        }[v.dialect]
        values |= {
            v.layer_types_key: [spelling[kind] for kind in v.layer_kinds],
            "position_embedding_type": v.positions,
            "normalization_function": "rmsnorm",
            "init_method": "mup",
            "mamba_chunk_size": v.mamba.chunk,
            "mamba_conv_bias": v.mamba.conv_bias,
            "mamba_d_conv": v.mamba.taps,
            "mamba_d_head": 2 * v.hidden // v.mamba.heads,
            "mamba_d_state": v.mamba.state,
            "mamba_expand": 2,
            "mamba_n_groups": v.mamba.groups,
            "mamba_n_heads": v.mamba.heads,
            "mamba_proj_bias": False,
        }
    return values


def bigcode_config(v: Variation) -> dict[str, object]:
    """Keys of the Granite Code 20b and 34b; that the embedding is tied goes without saying."""
    return {
        "activation_function": "gelu_pytorch_tanh",
        "attention_softmax_in_fp32": True,
        "attn_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "layer_norm_epsilon": v.epsilon,
        "multi_query": True,
        "n_embd": v.hidden,
        "n_head": v.heads,
        "n_layer": v.layers,
        "n_positions": 128,
        "resid_pdrop": 0.1,
        "scale_attention_softmax_in_fp32": True,
        "scale_attn_weights": True,
    }


class Weights:
    """Random weights whose activations and logits have the size that trained ones have."""

    def __init__(self, v: Variation, seed: int) -> None:
        self.v = v
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.tensors: dict[str, torch.Tensor] = {}
        plain = v.family in ("llama", "bigcode")  # no multipliers
        multiplier = 1.0 if plain else v.embedding
        self.residual = 1.0 if plain else v.residual
        # Scores of deviation 1.5 or so, whatever the multiplier: queries and keys share the gain.
        attention = v.head_size**-0.5 if plain else v.attention
        self.sharpness = (1.5 / (attention * v.head_size**0.5)) ** 0.5
        self.head_gain = 2.5 * (1.0 if plain else v.scaling)
        tied_embedding = self.head_gain / v.hidden**0.5
        self.embedding = tied_embedding if v.tied else 1.0 / multiplier
        # Deep enough a contribution for a tied model not to repeat its last token.
        self.boost = 6.0 / v.layers * max(1.0, tied_embedding * multiplier if v.tied else 1.0)

    def put(self, name: str, values: np.ndarray, dtype: str | None = None) -> None:
        self.tensors[name] = torch.from_numpy(values).to(DTYPES[dtype or self.v.dtype])

    def add(self, name: str, shape: tuple[int, ...], deviation: float, mean: float = 0.0) -> None:
        self.put(name, self.random.standard_normal(shape) * deviation + mean)

    def linear(
        self, name: str, rows: int, columns: int, bias: bool = False, gain: float = 1.0
    ) -> None:
        self.add(f"{name}.weight", (rows, columns), gain / columns**0.5)
        if bias:
            self.add(f"{name}.bias", (rows,), 0.3)

    def attention(self, name: str) -> None:
        v = self.v
        queries, keys = v.heads * v.head_size, v.kv_heads * v.head_size
        self.linear(f"{name}.q_proj", queries, v.hidden, v.attention_bias, self.sharpness)
        self.linear(f"{name}.k_proj", keys, v.hidden, v.attention_bias, self.sharpness)
        self.linear(f"{name}.v_proj", keys, v.hidden, v.attention_bias)
        gain = self.boost / self.residual
        self.linear(f"{name}.o_proj", v.hidden, queries, v.attention_bias, gain)

    def mlp(self, name: str) -> None:
        v, gain = self.v, 2 * self.boost / self.residual
        self.linear(f"{name}.gate_proj", v.intermediate, v.hidden, v.mlp_bias)
        self.linear(f"{name}.up_proj", v.intermediate, v.hidden, v.mlp_bias)
        self.linear(f"{name}.down_proj", v.hidden, v.intermediate, v.mlp_bias, gain)

    def shared_mlp(self, name: str) -> None:
        v, gain = self.v, 2 * self.boost / self.residual
        self.linear(f"{name}.input_linear", 2 * v.shared_width, v.hidden)
        self.linear(f"{name}.output_linear", v.hidden, v.shared_width, gain=gain)

    def experts(self, name: str) -> None:
        """Router logits of deviation 2; the gate's rows before those that it multiplies."""
        v, modern = self.v, self.v.dialect == 5
        router, first, second = (
            ("router.weight", "experts.gate_up_proj", "experts.down_proj")
            if modern
            else ("router.layer.weight", "input_linear.weight", "output_linear.weight")
        )
        self.add(f"{name}.{router}", (v.experts, v.hidden), 2 / v.hidden**0.5)
        deviation = 1 / v.hidden**0.5
        self.add(f"{name}.{first}", (v.experts, 2 * v.intermediate, v.hidden), deviation)
        deviation = 4 * self.boost / self.residual / v.intermediate**0.5
        self.add(f"{name}.{second}", (v.experts, v.hidden, v.intermediate), deviation)

    def mamba(self, name: str) -> None:
        """Heads that forget within a token or two and heads that remember a hundred."""
        v, m = self.v, self.v.mamba
        inner, convolved = 2 * v.hidden, 2 * v.hidden + 2 * m.groups * m.state
        self.linear(f"{name}.in_proj", inner + convolved + m.heads, v.hidden)
        self.add(f"{name}.conv1d.weight", (convolved, 1, m.taps), 2 / m.taps**0.5)
        if m.conv_bias:
            self.add(f"{name}.conv1d.bias", (convolved,), 0.3)
        step = np.exp(self.random.uniform(np.log(0.005), np.log(0.5), m.heads))
        self.put(f"{name}.dt_bias", step + np.log(-np.expm1(-step)), m.dtype)
        self.put(f"{name}.A_log", self.random.uniform(0, np.log(16), m.heads), m.dtype)
        self.put(f"{name}.D", self.random.uniform(0.25, 1.0, m.heads), m.dtype)
        self.add(f"{name}.norm.weight", (inner,), 0.25, 1.0)
        self.linear(f"{name}.out_proj", v.hidden, inner, gain=self.boost / self.residual)

    def granite(self) -> None:
        v = self.v
        self.add("model.embed_tokens.weight", (v.vocabulary, v.hidden), self.embedding)
        for layer, kind in enumerate(v.layer_kinds):
            prefix = f"model.layers.{layer}"
            self.add(f"{prefix}.input_layernorm.weight", (v.hidden,), 0.25, 1.0)
            self.add(f"{prefix}.post_attention_layernorm.weight", (v.hidden,), 0.25, 1.0)
            if kind == "m":
                self.mamba(f"{prefix}.mamba")
            else:
                self.attention(f"{prefix}.self_attn")
            if v.family in ("granite", "llama"):
                self.mlp(f"{prefix}.mlp")
            if v.experts:
                self.experts(f"{prefix}.block_sparse_moe")
            if v.family == "hybrid" or v.shared:
                self.shared_mlp(f"{prefix}.shared_mlp")
        self.add("model.norm.weight", (v.hidden,), 0.25, 1.0)
        if not v.tied:
            self.linear("lm_head", v.vocabulary, v.hidden, gain=self.head_gain)


    def bigcode(self) -> None:
        v = self.v
        self.add("transformer.wte.weight", (v.vocabulary, v.hidden), self.embedding)
        self.add("transformer.wpe.weight", (128, v.hidden), self.embedding)
        for layer in range(v.layers):
            prefix = f"transformer.h.{layer}"
            self.layer_norm(f"{prefix}.ln_1")
            self.query_key_value(f"{prefix}.attn.c_attn")
            self.linear(f"{prefix}.attn.c_proj", v.hidden, v.hidden, True, self.boost)
            self.layer_norm(f"{prefix}.ln_2")
            self.linear(f"{prefix}.mlp.c_fc", v.intermediate, v.hidden, True)
            self.linear(f"{prefix}.mlp.c_proj", v.hidden, v.intermediate, True, self.boost)
        self.layer_norm("transformer.ln_f")

    def layer_norm(self, name: str) -> None:
        self.add(f"{name}.weight", (self.v.hidden,), 0.25, 1.0)
        self.add(f"{name}.bias", (self.v.hidden,), 0.25)

    def query_key_value(self, name: str) -> None:
        """All queries, the one key and the one value, in the rows of one matrix."""
        v = self.v
        rows = v.hidden + 2 * v.head_size
        deviations = np.full((rows, 1), v.hidden**-0.5)
        deviations[: v.hidden + v.head_size] *= self.sharpness
        self.put(f"{name}.weight", self.random.standard_normal((rows, v.hidden)) * deviations)
        self.add(f"{name}.bias", (rows,), 0.3)


def weights(v: Variation, seed: int) -> dict[str, torch.Tensor]:
    """The tensors of a variation, under the names that published checkpoints have."""
    out = Weights(v, seed)
    if v.family == "bigcode":
        out.bigcode()
    else:
        out.granite()
    return out.tensors
