"""What tools/compare-gguf-types does once programs, checkpoints and environments are there.

Every candidate is the same checkpoint with quantized weights, decoded to float32. It is measured
twice against the original, over the same windows of a text: *weights*, linear layers quantized,
embedding and output projection as they were, float activations; and *recipe*, what people run:
embedding and output projection in 8 bits too, in ggml's Q8_0 for all of its types and in Quarry's
own for its recipes, and int8 activations as each runtime quantizes them.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ggml_types import TYPES, Ggml, GgmlError, GgmlType, check_types
from model_divergence import Candidate, DivergenceMeter, Rounding
from reference_blocks import ENCODINGS
from reference_slab import Slab
from safetensors.numpy import load_file
from type_tables import Draws, comparisons, markdown

LOGIT_TOLERANCE = 1e-3  # with float activations
KL_TOLERANCE = 0.25  # of the divergence of one window, with int8 activations
FORMAT = 1  # of the records of results


def note(text: str) -> None:
    print(f"compare-gguf-types: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Entry:
    """A row of the table: a type of ggml's or a recipe of Quarry's, calibrated or not."""

    runtime: str  # ggml, quarry
    name: str
    calibrated: bool

    @property
    def label(self) -> str:
        return f"{self.name}-{'calibrated' if self.calibrated else 'plain'}"


# Q8_0 takes no importance; check_types sees to it that this stays so.
ENTRIES = [
    *(
        Entry("ggml", name, calibrated)
        for name in ("Q4_0", "Q4_K", "IQ4_NL", "IQ4_XS", "Q8_0")
        for calibrated in (False, True)
        if TYPES[name].takes_importance or not calibrated
    ),
    *(
        Entry("quarry", name, calibrated)
        for name in ("q4", "q4s", "q8", "q8s")
        for calibrated in (False, True)
    ),
]
KINDS = ("weights", "recipe")


def input_name(matrix: str) -> str:
    """What a statistics file calls the input of a matrix."""
    layer, _, module = matrix.removesuffix(".weight").rpartition(".")
    if module in ("lm_head", "embed_tokens"):  # tied, where there is no other
        return "lm_head.input"
    if module in ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"):
        return f"{layer}.input"
    return f"{layer}.{module}.input"


def is_linear_layer(matrix: str) -> bool:
    return not matrix.endswith(("embed_tokens.weight", "lm_head.weight"))


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


class Comparison:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        options.work.mkdir(parents=True, exist_ok=True)
        self.ggml = Ggml(options.ggml, options.threads)
        check_types(self.ggml)
        check_roundings(self.ggml)
        text = options.text.read_text(encoding="utf-8")[options.skip :]
        note("loading the original")
        self.meter = DivergenceMeter(
            options.checkpoint, text, options.windows, options.window, options.threads
        )
        self.matrices = self.meter.matrices()
        self.statistics: dict[str, np.ndarray] | None = None
        weights = b"".join(
            hashlib.sha256(self.matrices[name].tobytes()).digest() for name in sorted(self.matrices)
        )
        self.setting = digest(
            str(FORMAT).encode(),
            weights,
            self.meter.ids.numpy().tobytes(),
            str(tuple(self.meter.ids.shape)).encode(),
        )

    def quarry(self, *arguments: str | Path) -> None:
        done = subprocess.run([self.options.quarry, *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"quarry {arguments[0]} failed: {done.stderr.strip()}")

    def importance(self) -> dict[str, np.ndarray]:
        """Second moments of the inputs, as Quarry's own calibration saw them."""
        if self.statistics is None:
            path = self.options.work / "statistics.safetensors"
            path.unlink(missing_ok=True)
            text = self.options.calibration
            chosen = [] if text is None else ["--calibration", text]
            self.quarry("calibrate", self.options.checkpoint, *chosen, "-o", path)
            self.statistics = load_file(path)
        return self.statistics

    # MARK: candidates

    def ggml_candidates(self, entry: Entry) -> tuple[str, float, Callable[[str], Candidate]]:
        """A key of what is measured, bits per weight of the linear layers, and the candidates."""
        type, output = TYPES[entry.name], TYPES["Q8_0"]
        key = digest(
            type.name.encode(),
            self.options.ggml.resolve().name.encode(),
            *(v.tobytes() for v in self.importance().values()) if entry.calibrated else (),
        )

        encoded: dict[str, np.ndarray] = {}

        def make(kind: str) -> Candidate:
            candidate = Candidate({})
            for name, weights in self.matrices.items():
                own = type if is_linear_layer(name) else output
                if kind == "weights" and own is not type:
                    continue
                if name not in encoded:
                    factors = self.importance()[input_name(name)] if entry.calibrated else None
                    encoded[name] = self.ggml.round_trip(own, weights, factors)
                candidate.weights[name] = encoded[name]
                if kind == "recipe":
                    candidate.roundings[self.module(name)] = ggml_rounding(own)
            return candidate

        return key, type.bits, make

    def quarry_candidates(self, entry: Entry) -> tuple[str, float, Callable[[str], Candidate]]:
        with tempfile.TemporaryDirectory(dir=self.options.work) as directory:
            path = Path(directory) / "model.slab"
            calibration = self.options.calibration if entry.calibrated else "none"
            chosen = [] if calibration is None else ["--calibration", calibration]
            self.quarry(
                "convert", self.options.checkpoint, "-o", path, "--recipe", entry.name, *chosen
            )
            slab = Slab(path)
            encoded = {name: slab.tensor(name) for name in self.matrices}
            recipe = Candidate(
                encoded, {self.module(name): slab_rounding(slab, name) for name in self.matrices}
            )
            self.check_logits(path, recipe)
        linear = [name for name in self.matrices if is_linear_layer(name)]

        def make(kind: str) -> Candidate:
            if kind == "recipe":
                return recipe
            return Candidate({name: encoded[name] for name in linear})

        return slab.root.hex(), slab_bits(slab, linear), make

    def module(self, matrix: str) -> str:
        """The linear layer that a matrix is the weight of."""
        tied = matrix.endswith("embed_tokens.weight") and "lm_head.weight" not in self.matrices
        return "lm_head" if tied else matrix.removesuffix(".weight")

    def check_logits(self, slab: Path, candidate: Candidate) -> None:
        """Whether what torch computes is what Quarry itself computes, on the first window.

        With float activations logits are the same but for rounding errors. With int8 activations
        such errors move codes from one step to the next, which moves more codes behind them, so
        that only the distance from the original can be compared.
        """
        ids = self.meter.ids[0].tolist()
        original = self.meter.logits(Candidate({}), ids)
        path = slab.with_suffix(".logits")
        tokens = ",".join(map(str, ids))

        def own(activations: str) -> np.ndarray:
            self.quarry(
                *("logits", slab, "--tokens", tokens, "-o", path),
                *("--activations", activations, "--kv", "f32"),
            )
            return load_file(path)["logits"]

        found = self.meter.logits(Candidate(candidate.weights), ids)
        difference = float(np.abs(own("f32") - found).max())
        kl = [
            self.meter.mean_divergence(original, logits)
            for logits in (own("int8"), self.meter.logits(candidate, ids))
        ]
        note(
            f"the first window: logits differ from Quarry's own by {difference:.2g} at most, with"
            f" int8 activations the KL divergence is {kl[1]:.5f}, by Quarry's own {kl[0]:.5f}"
        )
        if not difference < LOGIT_TOLERANCE or not abs(kl[1] / kl[0] - 1) < KL_TOLERANCE:
            raise SystemExit("this is not what Quarry computes")

    # MARK: measuring

    def measure(self, entry: Entry) -> None:
        path = self.options.work / f"{entry.label}.json"
        record = read_record(path)
        candidates = self.ggml_candidates if entry.runtime == "ggml" else self.quarry_candidates
        key, bits, make = candidates(entry)
        found = {"setting": self.setting, "key": key, "bits": bits}
        if any(record.get(name) != value for name, value in found.items()):
            record = found
        for kind in KINDS:
            if kind in record:
                note(f"{entry.label}, {kind}: measured before")
                continue
            start = time.monotonic()
            candidate = make(kind)
            made = time.monotonic()
            self.measure_reference()
            record[kind] = self.meter.measure(candidate, progress(f"{entry.label}, {kind}"))
            write_json(path, record)
            note(
                f"{entry.label}, {kind}: KL {np.mean(record[kind]['kl']):.5f}"
                f" ({made - start:.0f} s to make, {time.monotonic() - made:.0f} s to measure)"
            )

    def measure_reference(self) -> None:
        if self.meter.reference is not None:
            return
        path = self.options.work / f"reference-{self.setting}.npy"
        if path.exists():
            self.meter.set_reference(np.load(path))
            return
        self.meter.measure_reference(progress("the original"))
        partial = path.with_suffix(".partial.npy")
        np.save(partial, self.meter.reference.numpy())
        partial.rename(path)

    def records(self) -> dict[str, dict]:
        """Of all entries that were measured in this setting, by label."""
        found = {}
        for entry in ENTRIES:
            record = read_record(self.options.work / f"{entry.label}.json")
            if record.get("setting") == self.setting and all(kind in record for kind in KINDS):
                found[entry.label] = record
        return found


def check_roundings(ggml: Ggml) -> None:
    """Whether activations are rounded as the library itself rounds them."""
    random = np.random.Generator(np.random.PCG64(2))
    values = (random.standard_normal((64, 768)) ** 3).astype(np.float32)
    for type in TYPES.values():
        found = ggml_rounding(type)(torch.from_numpy(values)).numpy()
        expected = ggml.rounded_activations(values, type.activation_group)
        # Ties and the last bit of a scale may differ.
        if np.mean(np.abs(found - expected) > 1e-3 * np.abs(values) + 1e-6) > 1e-4:
            raise GgmlError(f"{type.name}: activations are rounded otherwise")


def ggml_rounding(type: GgmlType) -> Rounding:
    return Rounding(type.activation_group, half_scale=type.halves_activation_scale)


def slab_rounding(slab: Slab, name: str) -> Rounding:
    tensor = slab.tensors[name]
    scale = None if tensor.column_scale is None else slab.tensor(tensor.column_scale)
    block = ENCODINGS[tensor.encoding].block
    assert block is not None
    return Rounding(block, column_scale=None if scale is None else scale.copy())


def slab_bits(slab: Slab, names: list[str]) -> float:
    """Bits per weight with all that decoding needs."""
    scales = {slab.tensors[name].column_scale for name in names} - {None}
    stored = sum(
        stream.logical
        for name in [*names, *scales]
        for stream in slab.tensors[name].streams.values()
    )
    return 8 * stored / sum(int(np.prod(slab.tensors[name].shape)) for name in names)


def read_record(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def write_json(path: Path, value: object) -> None:
    """The file is whole or the one before."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value) + "\n")
    partial.rename(path)


def progress(what: str) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\r{what}: {done} of {total} windows ", end=end, file=sys.stderr, flush=True)

    return show


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="compare-gguf-types", allow_abbrev=False)
    for name in ("quarry", "ggml", "checkpoint", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--skip", type=int, default=3000)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--only", default="*")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    try:
        comparison = Comparison(options)
        chosen = [e for e in ENTRIES if fnmatch.fnmatchcase(e.label, options.only)]
        for index, entry in enumerate(chosen):
            note(f"{index + 1} of {len(chosen)}: {entry.label}")
            comparison.measure(entry)
    except (GgmlError, OSError) as error:
        sys.exit(f"compare-gguf-types: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    records = comparison.records()
    print(markdown(records))
    if options.json:
        draws = Draws(options.windows)
        write_json(options.json, {"types": records, "ratios": comparisons(records, draws)})


if __name__ == "__main__":
    main()
