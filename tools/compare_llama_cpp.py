"""Measures Quarry and llama.cpp in turns and prints ratios. tools/compare-llama-cpp prepares what
this needs and explains its options."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import llama_cpp

from llama_cpp_models import FILE_TYPES, SHAPES, Failure, note, prepare, slab

PHASES = ("prefill", "decode")
Rates = dict[str, float]  # tokens per second of each phase


@dataclass(frozen=True)
class Variant:
    """One way to run a type of llama.cpp's."""

    type: str
    repacked: bool
    flash: bool

    def __str__(self) -> str:
        words = [self.type, "repacked" if self.repacked else "as stored"]
        return ", ".join([*words, "flash attention"] if self.flash else words)

    @property
    def recipes(self) -> tuple[str, ...]:
        """What it is compared with."""
        return ("q8",) if self.type == "Q8_0" else ("q4", "q4s")


@dataclass
class Comparison:
    """Runs of a variant, and of the recipes before and after each of them."""

    variant: Variant
    phases: set[str] = field(default_factory=set)
    runs: list[Rates] = field(default_factory=list)
    around: dict[str, list[tuple[Rates, Rates]]] = field(default_factory=dict)

    def ratios(self, recipe: str, phase: str) -> list[float]:
        return [(before[phase] + after[phase]) / 2 / run[phase]
                for run, (before, after) in zip(self.runs, self.around[recipe])]

    def rate(self, phase: str) -> float:
        return median(run[phase] for run in self.runs)


class Bench:
    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self.options, self.directory = options, directory
        self.system = self.instruction_set = ""

    def quarry(self, recipe: str) -> Rates:
        report = self.run(
            [self.options.quarry, "bench", str(slab(self.directory, recipe)), "--json",
             "--prefill", str(self.options.prefill), "--depths", "0", "--repetitions", "2",
             "--threads", str(self.options.threads)])
        self.instruction_set = report["machine"]["instruction_set"]
        return {row["phase"]: row["tokens_per_second"] for row in report["results"]}

    def llama_cpp(self, variant: Variant) -> Rates:
        report = self.run(
            [sys.executable, str(Path(__file__).with_name("llama_cpp_bench.py")),
             str(self.directory / f"{variant.type}.gguf"), str(self.options.threads),
             str(self.options.prefill), str(self.options.decode),
             "repacked" if variant.repacked else "plain", "flash" if variant.flash else "plain"])
        self.system = report["system"]
        return {phase: report[phase] for phase in PHASES}

    @staticmethod
    def run(command: list[str]) -> dict[str, Any]:
        outcome = subprocess.run(command, capture_output=True, text=True)
        if outcome.returncode != 0:
            what = Path(command[1] if command[0] == sys.executable else command[0]).name
            raise Failure(f"{what} failed: {outcome.stderr.strip() or outcome.returncode}")
        return json.loads(outcome.stdout)

    def best_variants(self, type: str) -> list[Comparison]:
        """One or two: the best for prefill and the best for decode, of one run each."""
        tried: dict[Variant, Rates] = {}
        for repacked in (True, False):
            for flash in (True, False):
                variant = Variant(type, repacked, flash)
                tried[variant] = self.llama_cpp(variant)
                note(f"{variant}: prefill {tried[variant]['prefill']:.1f}, decode"
                     f" {tried[variant]['decode']:.2f} tokens/s")
        best: dict[Variant, Comparison] = {}
        for phase in PHASES:
            variant = max(tried, key=lambda v: tried[v][phase])
            best.setdefault(variant, Comparison(variant)).phases.add(phase)
        return list(best.values())

    def measure(self, comparisons: list[Comparison]) -> None:
        """Every comparison once: Quarry, the variants of a type, Quarry, those of the next type."""
        latest: dict[str, Rates] = {}
        for _, group in groupby(comparisons, key=lambda c: c.variant.type):
            of_type = list(group)
            recipes = of_type[0].variant.recipes
            before = {r: latest[r] if r in latest else self.quarry(r) for r in recipes}
            for comparison in of_type:
                comparison.runs.append(self.llama_cpp(comparison.variant))
            latest = {r: self.quarry(r) for r in recipes}
            for comparison in of_type:
                for recipe in recipes:
                    pair = (before[recipe], latest[recipe])
                    comparison.around.setdefault(recipe, []).append(pair)


def processor() -> str:
    fields = dict(line.replace("\t", "").split(":", 1)
                  for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    if "model name" not in fields:
        return platform.machine()
    numbers = ", ".join(f"{name}{fields[name]}" for name in ("cpu family", "model"))
    return f"{fields['model name'].strip()} ({numbers})"


def busy_share() -> float:
    """How much of all processors' time others take, over two seconds."""
    def times() -> list[int]:
        return [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]

    first = times()
    time.sleep(2)
    spent = [after - before for before, after in zip(first, times())]
    return 1 - (spent[3] + spent[4]) / max(1, sum(spent))  # idle, and waiting for disks


def rows(comparisons: list[Comparison], directory: Path) -> list[dict[str, Any]]:
    return [
        {
            "phase": phase, "type": c.variant.type, "repacked": c.variant.repacked,
            "flash_attention": c.variant.flash, "recipe": recipe,
            "gguf_bytes": (directory / f"{c.variant.type}.gguf").stat().st_size,
            "slab_bytes": slab(directory, recipe).stat().st_size,
            "llama_cpp_tokens_per_second": c.rate(phase),
            "quarry_tokens_per_second": median(
                rates[phase] for pair in c.around[recipe] for rates in pair),
            "ratio": median(c.ratios(recipe, phase)), "ratios": c.ratios(recipe, phase),
            "variant": str(c.variant),
        }
        for phase in PHASES for c in comparisons if phase in c.phases for recipe in c.around
    ]


def table(report: dict[str, Any]) -> str:
    lines = [
        f"{report['processor']}, {report['threads']} threads, {report['model']},"
        f" prefill of {report['prefill']}",
        f"processors kept busy by others, before: {report['busy_before']:.0%}",
        f"Quarry: {report['quarry_instruction_set']}",
        f"llama.cpp of llama-cpp-python {report['llama_cpp_python']}: {report['llama_cpp_system']}",
        "",
        f"{'':8} {'llama.cpp':42} {'GB':>5} {'tokens/s':>9}  {'Quarry':6} {'GB':>5} {'tokens/s':>9}"
        f"  {'ratio':>5}  range",
    ]
    for row in report["results"]:
        lines.append(
            f"{row['phase']:8} {row['variant']:42} {row['gguf_bytes'] / 1e9:5.2f}"
            f" {row['llama_cpp_tokens_per_second']:9.2f}  {row['recipe']:6}"
            f" {row['slab_bytes'] / 1e9:5.2f} {row['quarry_tokens_per_second']:9.2f}"
            f"  {row['ratio']:5.2f}  {min(row['ratios']):.2f}-{max(row['ratios']):.2f}")
    lines.append("")
    for phase in PHASES:
        for recipe in ("q4", "q4s", "q8"):
            own = [r for r in report["results"] if r["phase"] == phase and r["recipe"] == recipe]
            if own:
                best = max(own, key=lambda r: r["llama_cpp_tokens_per_second"])
                lines.append(f"{phase}: {recipe} is {best['ratio']:.2f} times as fast as the best"
                             f" ({best['variant']})")
    return "\n".join(lines)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="compare-llama-cpp", allow_abbrev=False)
    parser.add_argument("--quarry", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--models", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--layers", type=positive)
    parser.add_argument("--threads", type=positive, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prefill", type=positive, default=512)
    parser.add_argument("--decode", type=positive, default=64)
    parser.add_argument("--types", default=",".join(FILE_TYPES))
    parser.add_argument("--repetitions", type=positive, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.shape and options.config:
        parser.error("give --shape or --config, not both")
    options.types = options.types.split(",")
    for name in options.types:
        if name not in FILE_TYPES:
            parser.error(f"--types: '{name}' is none of {', '.join(FILE_TYPES)}")
    return options


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def compare(options: argparse.Namespace) -> None:
    name = options.config.stem if options.config else options.shape or "2b"
    config = json.loads(options.config.read_text()) if options.config else dict(SHAPES[name])
    if options.layers and options.layers < config["num_hidden_layers"]:
        config["num_hidden_layers"] = options.layers
        for kinds in ("layer_types", "layers_block_type"):
            if kinds in config:
                config[kinds] = config[kinds][: options.layers]
        name += f"-{options.layers}-layers"
    directory = options.models / name
    recipes = [r for r in ("q4", "q4s", "q8")
               if any(r in Variant(t, True, True).recipes for t in options.types)]
    prepare(directory, config, options.quarry, recipes, options.types)

    busy = busy_share()
    if busy > 0.05:
        note(f"others keep {busy:.0%} of the processors busy: do not trust the ratios")
    bench = Bench(options, directory)
    comparisons = [c for type in options.types for c in bench.best_variants(type)]
    for repetition in range(options.repetitions):
        note(f"repetition {repetition + 1} of {options.repetitions}")
        bench.measure(comparisons)
    report = {
        "processor": processor(), "threads": options.threads, "model": name,
        "prefill": options.prefill, "quarry_instruction_set": bench.instruction_set,
        "llama_cpp_python": llama_cpp.__version__, "llama_cpp_system": bench.system.strip(" |"),
        "busy_before": busy, "results": rows(comparisons, directory),
    }
    print(table(report))
    note(f"the models stay in {directory}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def main() -> None:
    try:
        compare(parse_options())
    except Failure as failure:
        sys.exit(f"compare-llama-cpp: {failure}")
    except (OSError, KeyError, json.JSONDecodeError) as error:
        sys.exit(f"compare-llama-cpp: {type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


main()
