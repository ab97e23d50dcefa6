"""What tools/checkpoint-table does once the program is there."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT.parent / "shared/granite/configs/dinoml_v2"
BEGIN, END = "<!-- checkpoints: tools/checkpoint-table -->\n", "<!-- end of checkpoints -->\n"
RECIPES = ["q4s", "q4", "balanced", "q8s", "q8", "bf16"]
CONTEXT = 4096
BANDWIDTH = 30e9  # bytes that are read in a second
PEAK = 1e12  # int8 operations in a second

Config = dict[str, Any]


def published(name: str) -> Config:
    return json.loads((CONFIGS / f"{name}.json").read_text())


def checkpoints() -> list[tuple[str, Config]]:
    """Names, and configurations as they are published or, where those are not at hand, as published
    facts say that they differ from one that is."""
    eight = published("granite--ibm-granite__granite-3.3-8b-instruct.config")
    two = published("granite--ibm-granite__granite-3.0-2b-base.config") | {
        "vocab_size": 49159, "max_position_embeddings": 131072, "rope_theta": 1e7}
    # 4.1 and, with another class name and the same arithmetic, the 4.0 models without Mamba2 layers.
    wide = {"vocab_size": 100352, "max_position_embeddings": 131072, "rope_theta": 1e7}
    three = eight | wide | {"hidden_size": 2560, "num_attention_heads": 40,
                            "intermediate_size": 8192, "attention_multiplier": 0.015625}
    thirty = eight | wide | {"num_hidden_layers": 64, "intermediate_size": 32768}
    untied = {"tie_word_embeddings": False}
    one = eight | wide | {"hidden_size": 2048, "num_attention_heads": 16,
                          "num_key_value_heads": 4, "intermediate_size": 4096}
    small = eight | wide | {"hidden_size": 1024, "num_hidden_layers": 28,
                            "num_attention_heads": 16, "num_key_value_heads": 4,
                            "intermediate_size": 2048, "max_position_embeddings": 32768,
                            "attention_multiplier": 0.015625}
    instruct = {"vocab_size": 49155}
    experts = "granitemoe--ibm-granite_granite-3.1-{}-base_config"
    hybrid = "granitemoehybrid--ibm-granite__granite-4.0-{}.config"
    h_one = published(hybrid.format("h-1b"))
    tiny = h_one | {"num_local_experts": 64, "num_experts_per_tok": 6, "intermediate_size": 512,
                    "shared_intermediate_size": 1024}
    code = {"architectures": ["GPTBigCodeForCausalLM"], "model_type": "gpt_bigcode",
            "n_embd": 6144, "n_head": 48, "n_inner": 24576, "n_positions": 8192,
            "vocab_size": 49152, "multi_query": True, "tie_word_embeddings": True,
            "activation_function": "gelu_pytorch_tanh", "layer_norm_epsilon": 1e-5,
            "scale_attn_weights": True, "bos_token_id": 0, "eos_token_id": 0}
    seven = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
             "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
             "intermediate_size": 11008, "vocab_size": 32000, "max_position_embeddings": 2048,
             "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
             "bos_token_id": 1, "eos_token_id": 2}
    return [
        ("4.0-h-350m", published(hybrid.format("h-350m"))),
        ("4.0-350m", small),
        ("3.0, 3.1 1b-a400m", published(experts.format("1b-a400m")) | instruct),
        ("4.0-h-1b", h_one),
        ("4.0-1b", one),
        ("3.0–3.3 2b; Guardian 3.0, 3.1 2b", two),
        ("4.0-h-micro", published(hybrid.format("h-micro-base"))),
        ("3.0, 3.1 3b-a800m; Guardian 3.2 3b-a800m; PowerMoE-3b",
         published(experts.format("3b-a800m")) | instruct),
        ("4.0-micro, 4.1-3b", three),
        ("4.2-3b", three | untied),
        ("Code 3b", published("granite--ibm-granite__granite-3b-code-base.config")),
        ("granite-7b", seven),
        ("4.0-h-tiny", tiny),
        ("Code 8b", published("granite--ibm-granite__granite-8b-code-base.config")),
        ("3.0–3.3 8b; Guardian 3.0–3.3 8b", eight),
        ("4.1-8b, Guardian 4.1-8b", eight | wide),
        ("Code 20b", code | {"n_layer": 52}),
        ("4.1-30b", thirty),
        ("4.2-30b", thirty | untied),
        ("4.0-h-small", published(hybrid.format("h-small"))),
        ("Code 34b", code | {"n_layer": 88}),
    ]


def run(program: str, *arguments: str | Path) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    # A dry run that the disk has no room for fails when it has said everything.
    if done.returncode != 0 and not done.stdout.startswith('{"event":"dry run"'):
        sys.exit(f"checkpoint-table: quarry {arguments[0]} failed: {done.stderr}")
    return done.stdout


def dry_runs(program: str, config: Config, work: Path) -> dict[str, Config]:
    """What a conversion by each recipe would make of a checkpoint of this configuration."""
    path, checkpoint = work / "config.json", work / "checkpoint"
    path.write_text(json.dumps(config))
    run(program, "synthesize", path, "-o", checkpoint, "--headers")
    longest = config.get("max_position_embeddings") or config["n_positions"]
    contexts = ",".join(map(str, sorted({min(CONTEXT, longest), longest})))
    return {
        recipe: json.loads(run(program, "convert", checkpoint, "--dry-run", "--json",
                               "--recipe", recipe, "--context", contexts))
        for recipe in RECIPES}


def digits(value: float) -> str:
    """Two or three that count."""
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 0.995 else f"{value:.2f}"


def weights(count: int) -> str:
    return f"{digits(count / 1e9)} B" if count >= 995e6 else f"{count / 1e6:.0f} M"


def row(name: str, config: Config, runs: dict[str, Config]) -> list[str]:
    def gigabytes(value: int) -> str:
        return digits(value / 1e9)

    def memory(recipe: str, index: int) -> Config:
        return [entry for entry in runs[recipe]["memory"] if entry["kv"] == "f16"][index]

    def decode(recipe: str) -> str:
        state = memory(recipe, 0)["state_bytes"]  # read and written
        return digits(BANDWIDTH / (runs[recipe]["decoded_bytes_per_token"] + 2 * state))

    q4 = runs["q4"]
    count = weights(q4["weights"])
    if config.get("num_local_experts"):
        output = config["vocab_size"] * config["hidden_size"]
        count += f" ({weights(q4['linear_weights'] + output)})"
    longest = memory("q4", -1)
    return [
        name, count, *(gigabytes(runs[recipe]["slab_bytes_at_most"]) for recipe in RECIPES),
        gigabytes(memory("q4", 0)["total_bytes"]),
        f"{gigabytes(longest['total_bytes'])} ({longest['context'] // 1024}K)",
        decode("q4"), decode("q8"), digits(PEAK / (2 * q4["linear_weights"])),
    ]


def table(program: str) -> str:
    head = ["Granite", "weights", *(f"`{recipe}`" for recipe in RECIPES),
            f"memory, `q4`, {CONTEXT:,} tokens", "longest context",
            "decode `q4`", "decode `q8`", "prefill"]
    rows = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for name, config in checkpoints():
        with tempfile.TemporaryDirectory() as work:
            rows.append(row(name, config, dry_runs(program, config, Path(work))))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="checkpoint-table")
    parser.add_argument("--quarry", required=True, help=argparse.SUPPRESS)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="put the table into README.md")
    action.add_argument("--print", action="store_true", help="print the table")
    options = parser.parse_args()
    if not CONFIGS.exists():
        print("checkpoint-table: skipped: the published configurations are not beside the checkout")
        sys.exit(77)
    made = table(options.quarry)
    if options.print:
        print(made, end="")
        return
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    found, after = rest.split(END)
    if options.write:
        readme.write_text(before + BEGIN + made + END + after)
    elif found != made:
        sys.exit("checkpoint-table: README.md has another table; tools/checkpoint-table --write makes it")
    else:
        print("checkpoint-table: README.md has the table that the program makes")


if __name__ == "__main__":
    main()
