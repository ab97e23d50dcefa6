"""Tables of what tools/compare-gguf-types measured, with bootstrap intervals over windows."""

from __future__ import annotations

from typing import Any

import numpy as np

DRAWS = 10_000
# What Quarry's 4 and 8 bits must reach: a ratio of divergences at most.
TARGETS = [
    # kind, ours, the best of theirs, ratio
    ("weights", "q4-calibrated", ("Q4_K", "IQ4_NL", "IQ4_XS"), 0.75),
    ("weights", "q4s-calibrated", ("IQ4_XS",), 0.80),
    ("recipe", "q4-calibrated", ("Q4_K",), 0.65),
    ("recipe", "q4s-calibrated", ("Q4_K",), 1.0),
    ("recipe", "q8-calibrated", ("Q8_0",), 0.5),
]


class Draws:
    """Windows drawn with replacement, the same ones for all that is compared, so that differences
    are paired."""

    def __init__(self, windows: int) -> None:
        random = np.random.Generator(np.random.PCG64(20))
        self.indices = random.integers(0, windows, (DRAWS, windows))

    def means(self, values: list[float]) -> np.ndarray:
        return np.array(values)[self.indices].mean(axis=1)


def interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def significant(value: float) -> str:
    """Three significant digits without exponent: .0524."""
    digits = max(2, 2 - int(np.floor(np.log10(max(value, 1e-9)))))
    return f"{value:.{digits}f}".removeprefix("0")


def measured(record: dict[str, Any], kind: str, draws: Draws) -> str:
    values = record[kind]["kl"]
    low, high = interval(draws.means(values))
    return f"{significant(np.mean(values))} ({significant(low)}–{significant(high)})"


def ratio(
    ours: dict[str, Any], theirs: dict[str, Any], kind: str, draws: Draws
) -> tuple[float, float, float]:
    """Quotient of mean divergences, and its interval."""
    a, b = ours[kind]["kl"], theirs[kind]["kl"]
    return float(np.mean(a) / np.mean(b)), *interval(draws.means(a) / draws.means(b))


def comparisons(records: dict[str, Any], draws: Draws) -> list[dict[str, Any]]:
    """Of every target whose parts have been measured, what came of it."""
    found = []
    for kind, label, names, limit in TARGETS:
        # Q8_0 has no calibrated form.
        labels = [
            candidate
            for name in names
            for candidate in (f"{name}-calibrated", f"{name}-plain")
            if candidate in records
        ]
        if label not in records or not labels:
            continue
        best = min(labels, key=lambda candidate: np.mean(records[candidate][kind]["kl"]))
        value, low, high = ratio(records[label], records[best], kind, draws)
        found.append(
            {
                "kind": kind,
                "ours": label,
                "theirs": best,
                "ratio": value,
                "low": low,
                "high": high,
                "target": limit,
                "reached": value <= limit,
            }
        )
    return found


def markdown(records: dict[str, Any]) -> str:
    """A table of all that was measured, and the ratios that count."""
    if not records:
        return "nothing has been measured"
    windows = len(next(iter(records.values()))["weights"]["kl"])
    draws = Draws(windows)
    lines = [
        "| type | bits per weight | calibrated | linear layers, float activations"
        " | whole recipe, int8 activations | same best token |",
        "|---|---|---|---|---|---|",
    ]
    for label, record in records.items():
        name, _, form = label.rpartition("-")
        mark = "yes" if form == "calibrated" else ""
        own = f"`{name}`" if name.startswith("q") else name
        same = np.mean(record["recipe"]["same_top1"])
        lines.append(
            f"| {own} | {record['bits']:.2f} | {mark} | {measured(record, 'weights', draws)}"
            f" | {measured(record, 'recipe', draws)} | {same:.1%} |"
        )
    lines += ["", "| ours | theirs | measured | ratio | target |", "|---|---|---|---|---|"]
    for row in comparisons(records, draws):
        lines.append(
            f"| `{row['ours']}` | {row['theirs']} | {row['kind']}"
            f" | {row['ratio']:.2f} ({row['low']:.2f}–{row['high']:.2f})"
            f" | {row['target']:.2f}, {'reached' if row['reached'] else 'missed'} |"
        )
    return "\n".join(lines)
