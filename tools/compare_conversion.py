"""What tools/compare-conversion does once programs, sources and environments are there."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from llama_cpp_models import SHAPES, Failure

QUANTIZE = Path(__file__).with_name("llama_cpp_quantize.py")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
# Quarry's conversion, the type that llama.cpp makes in two steps, how many times faster to be.
TARGETS = [("q4", "Q4_K_M", 3.0), ("q4 calibrated", "Q4_K_M", 1.3), ("q8", "Q8_0", 1.5)]
CALIBRATION_OFF = ["--calibration", "none"]
POLL_SECONDS = 0.02  # between looks at the memory of a process


def note(text: str) -> None:
    print(f"compare-conversion: {text}", file=sys.stderr, flush=True)


@dataclass
class Run:
    """What one process took, and left behind."""

    seconds: float
    peak_bytes: int  # resident, mapped files included
    peak_anonymous_bytes: int  # without them
    output_bytes: int


def anonymous_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError):
        pass  # it has ended
    return 0


def measured(command: list[str | Path], output: Path) -> Run:
    """Runs a command that writes `output`, whose name is free before."""
    output.unlink(missing_ok=True)
    with open(output.with_suffix(".log"), "w+") as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        peak, ended = 0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not ended.wait(POLL_SECONDS):
                peak = max(peak, anonymous_bytes(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        ended.set()
        watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            log.seek(0)
            raise Failure(f"{' '.join(map(str, command))} failed:\n{log.read()[-1000:]}")
    return Run(seconds, usage.ru_maxrss << 10, peak, output.stat().st_size)


def weight_count(config: dict[str, Any]) -> int:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    narrow = hidden * config["num_key_value_heads"] // config["num_attention_heads"]
    layer = 2 * hidden * (hidden + narrow) + 3 * hidden * inner
    embeddings = 1 if config.get("tie_word_embeddings") else 2
    return config["num_hidden_layers"] * layer + embeddings * hidden * config["vocab_size"]


class Comparison:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work
        self.checkpoint = self.work / "checkpoint"
        self.unquantized = self.work / "bf16.gguf"
        self.runs: dict[str, list[Run]] = {}

    def make_checkpoint(self, config: dict[str, Any]) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        needed = int(6 * weight_count(config)) + (1 << 30)
        free = shutil.disk_usage(self.work).free
        if free < needed:
            raise Failure(f"{self.work} has {free / 1e9:.1f} GB free, not {needed / 1e9:.1f}")
        path = self.work / "config.json"
        path.write_text(json.dumps(config))
        note("making a checkpoint of random weights")
        done = subprocess.run(
            [self.options.quarry, "synthesize", path, "-o", self.checkpoint],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise Failure(f"quarry synthesize failed: {done.stderr.strip()}")
        for name in TOKENIZER_FILES:
            shutil.copy(self.options.tokenizer / name, self.checkpoint / name)
        for path in self.checkpoint.glob("*.safetensors"):
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass

    def run(self, name: str, command: list[str | Path], output: Path) -> None:
        run = measured(command, output)
        self.runs.setdefault(name, []).append(run)
        note(f"{name}: {run.seconds:.1f} s, {run.peak_bytes / 2**30:.2f} GiB at most")

    def quarry(self, name: str, *chosen: str) -> None:
        output = self.work / "model.slab"
        threads = ["--threads", str(self.options.threads)]
        self.run(
            name,
            [self.options.quarry, "convert", self.checkpoint, "-o", output, *threads, *chosen],
            output,
        )
        output.unlink()

    def repeat(self) -> None:
        """Every conversion once: those of one pair of the targets next to each other."""
        python, script = self.options.converter
        self.run(
            "bf16 GGUF",
            [python, script, self.checkpoint, "--outtype", "bf16", "--outfile", self.unquantized],
            self.unquantized,
        )
        for quarry, type, _ in TARGETS:
            recipe, _, calibrated = quarry.partition(" ")
            self.quarry(quarry, "--recipe", recipe, *([] if calibrated else CALIBRATION_OFF))
            if type not in self.runs or len(self.runs[type]) < len(self.runs[quarry]):
                output = self.work / f"{type}.gguf"
                arguments = [self.unquantized, output, type, str(self.options.threads)]
                self.run(type, [sys.executable, QUANTIZE, *arguments], output)
                output.unlink()
        self.unquantized.unlink()

    def ratios(self, quarry: str, type: str) -> list[float]:
        return [
            (first.seconds + second.seconds) / own.seconds
            for first, second, own in zip(
                self.runs["bf16 GGUF"], self.runs[type], self.runs[quarry], strict=True
            )
        ]


def table(comparison: Comparison) -> str:
    lines = [
        "| conversion | seconds | peak RSS, GiB | without mapped files, GiB | output, GB |",
        "|---|---|---|---|---|",
    ]
    for name, runs in comparison.runs.items():
        seconds = [run.seconds for run in runs]
        lines.append(
            f"| {name} | {median(seconds):.1f} ({min(seconds):.1f}–{max(seconds):.1f})"
            f" | {max(run.peak_bytes for run in runs) / 2**30:.2f}"
            f" | {max(run.peak_anonymous_bytes for run in runs) / 2**30:.2f}"
            f" | {runs[0].output_bytes / 1e9:.2f} |"
        )
    lines += [
        "",
        "| Quarry | llama.cpp, both steps | times as fast | target |",
        "|---|---|---|---|",
    ]
    for quarry, type, target in TARGETS:
        ratios = comparison.ratios(quarry, type)
        reached = "reached" if median(ratios) >= target else "missed"
        lines.append(
            f"| {quarry} | {type} | {median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            f" | {target:.1f}, {reached} |"
        )
    return "\n".join(lines)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="compare-conversion", allow_abbrev=False)
    parser.add_argument("--quarry", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--converter", type=Path, nargs=2, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--tokenizer", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.shape and options.config:
        parser.error("give --shape or --config, not both")
    return options


def compare(options: argparse.Namespace) -> None:
    shape = options.shape or "2b"
    config = json.loads(options.config.read_text()) if options.config else dict(SHAPES[shape])
    if options.layers:
        config["num_hidden_layers"] = min(options.layers, config["num_hidden_layers"])
    comparison = Comparison(options)
    try:
        comparison.make_checkpoint(config)
        for repetition in range(options.repetitions):
            note(f"repetition {repetition + 1} of {options.repetitions}")
            comparison.repeat()
    finally:
        shutil.rmtree(options.work, ignore_errors=True)
    print(table(comparison))
    if options.json:
        runs = {name: [vars(run) for run in runs] for name, runs in comparison.runs.items()}
        ratios = {quarry: comparison.ratios(quarry, type) for quarry, type, _ in TARGETS}
        options.json.write_text(json.dumps({"runs": runs, "ratios": ratios}, indent=1) + "\n")


def main() -> None:
    try:
        compare(parse_options())
    except (Failure, OSError, KeyError, json.JSONDecodeError) as error:
        sys.exit(f"compare-conversion: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
