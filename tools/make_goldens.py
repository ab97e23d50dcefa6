#!/usr/bin/env python3
"""Makes the reference logits that the tests compare with, using transformers in float32.

Two sets, both committed under Tests/Goldens:

checkpoints   One tiny random checkpoint directory for every supported variation of the
              architecture, written as published checkpoints are, with golden.safetensors:
              `tokens` (int64, 48 ids), `logits` (float32 [48, vocabulary]) and `greedy` (int64,
              the 64 ids that follow the first 16 tokens when the best logit is always taken,
              whatever the end-of-text id is). The two best logits of every greedy step, and at
              every position the logits of the last expert taken and the first one not, are at
              least 1e-3 apart, so that neither ids nor experts depend on rounding. A new one is
              made in `upcoming`, which no test reads: it moves to `checkpoints`, where tests
              find whatever is there, together with the code that runs it.
pebble        The bundled model: reference-logits.safetensors must be reproduced, and
              evaluation.safetensors holds `ids` (the first 512 tokens of
              text/quarry-handbook.txt) and `logits`, those of positions 384 to 511;
              perplexity.json holds the mean loss of 8 windows of 512 tokens of that text, and the
              perplexity, over all predictions and over those after the first 256 of each window.

The models are those of `golden_models.py`. Logits may differ in their last bits between machines.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel

from golden_models import VARIATIONS, Variation, config, weights

ROOT = Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "Tests" / "Goldens"
PEBBLE = ROOT / "Sources" / "Pebble" / "Checkpoint"

TOKENS = 48
PROMPT = 16
GREEDY = 64
MARGIN = 1e-3
DISTINCT = 12  # different ids that a greedy continuation must have to be worth comparing
TOLERANCE = 1e-4  # between this run's logits and the committed ones


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
    """The model in float32 with plain attention and experts; every tensor must have its place."""
    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
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


def router_margin(model: PreTrainedModel, ids: torch.Tensor) -> float:
    """Smallest distance between the router logits of the last expert taken and the next."""
    margins = [float("inf")]

    def note(router: torch.nn.Module, _: object, outputs: tuple[torch.Tensor, ...]) -> None:
        best = outputs[0].topk(router.top_k + 1).values
        margins.append(float((best[:, -2] - best[:, -1]).min()))

    routers = [m for name, m in model.named_modules() if name.endswith(".router")]
    hooks = [router.register_forward_hook(note) for router in routers]
    logits(model, ids)
    for hook in hooks:
        hook.remove()
    return min(margins)


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
        routing = min(
            router_margin(model, ids), router_margin(model, torch.cat([ids[:PROMPT], after]))
        )
        if min(margin, routing) > MARGIN and len(after.unique()) >= DISTINCT:
            out = logits(model, ids)
            save_file(
                {"tokens": ids, "logits": out, "greedy": after}, folder / "golden.safetensors"
            )
            return (
                f"seed {seed}, logit deviation {out.std():.2f}, margin {margin:.4f}, "
                f"of routers {routing:.4f}, "
                f"{len(after.unique())} ids, {out.argmax(-1).eq(ids).float().mean():.0%} copies"
            )
    raise SystemExit(f"{v.name}: no seed gives robust greedy ids; change the variation")


def place(name: str) -> Path:
    """Where a checkpoint is, or where a new one is made."""
    supported = GOLDENS / "checkpoints" / name
    return supported if supported.exists() else GOLDENS / "upcoming" / name


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
        folder = place(v.name)
        result = check_checkpoint(folder) if options.check else make_checkpoint(v, folder)
        print(f"{v.name}: {v.about}: {result}", flush=True)
    if not options.only or "pebble" in options.only:
        print(f"pebble: {make_pebble(options.check)}")


if __name__ == "__main__":
    sys.exit(main())
