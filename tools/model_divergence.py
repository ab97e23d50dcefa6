"""How far a model with other weights is from the original: logits of torch and transformers in float32,
window by window, activations of linear layers rounded to int8 or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM
from transformers.utils import logging

POSITIONS = 256  # whose logits are in memory at a time
SEQUENCES = 4  # windows that run through the layers at a time


@dataclass(frozen=True)
class Rounding:
    """How a linear layer's activations become int8: groups of columns, each with its scale."""

    group: int
    half_scale: bool = False  # the scale is rounded to float16
    column_scale: np.ndarray | None = None  # activations are multiplied by it first

    def __call__(self, activations: torch.Tensor) -> torch.Tensor:
        """The values that the int8 codes stand for. The last group may be shorter."""
        columns = activations.shape[-1]
        values = activations
        if self.column_scale is not None:
            scale = torch.from_numpy(self.column_scale)
            values = values * scale
        values = torch.nn.functional.pad(values, (0, -columns % self.group))
        groups = values.unflatten(-1, (-1, self.group))
        largest = groups.abs().amax(-1, keepdim=True)
        inverse = torch.where(largest >= 2.0**-100, 127 / largest, 0)
        step = largest / 127
        if self.half_scale:
            step = step.half().float()
        rounded = ((groups * inverse).round_() * step).flatten(-2)[..., :columns]
        return rounded if self.column_scale is None else rounded / scale


@dataclass
class Candidate:
    """Weights by the names of a checkpoint, and roundings by the names of its linear layers."""

    weights: dict[str, np.ndarray]
    roundings: dict[str, Rounding] = field(default_factory=dict)


class DivergenceMeter:
    """A checkpoint and the windows of a text on which others are compared with it."""

    def __init__(
        self, checkpoint: Path, text: str, windows: int, window: int, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        logging.disable_progress_bar()
        tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        ids = tokenizer.encode(text, add_special_tokens=False).ids[: windows * window]
        if len(ids) < windows * window:
            raise SystemExit(f"the text has {len(ids)} tokens, not {windows * window}")
        self.ids = torch.tensor(ids).view(windows, window)
        self.model = AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=torch.float32, local_files_only=True
        ).eval()
        self.logits_scaling = getattr(self.model.config, "logits_scaling", 1.0)
        self.output = self.model.get_output_embeddings()
        self.original = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.reference_output = self.output.weight.detach().clone()
        self.reference: torch.Tensor | None = None  # hidden states before the output projection

    def matrices(self) -> dict[str, np.ndarray]:
        """The original's matrices by name: embeddings and weights of linear layers."""
        return {name: p.numpy() for name, p in self.original.items() if p.dim() == 2}

    @torch.no_grad()
    def hidden_states(self, note: Callable[[int, int], None]) -> torch.Tensor:
        """What enters the output projection, [windows, window, hidden size]."""
        parts = []
        for start in range(0, len(self.ids), SEQUENCES):
            note(start, len(self.ids))
            ids = self.ids[start : start + SEQUENCES]
            parts.append(self.model.model(input_ids=ids, use_cache=False)[0])
        note(len(self.ids), len(self.ids))
        return torch.cat(parts)

    def measure_reference(self, note: Callable[[int, int], None]) -> None:
        self.reference = self.hidden_states(note)

    def set_reference(self, states: np.ndarray) -> None:
        """What an earlier ``measure_reference`` found."""
        self.reference = torch.from_numpy(states)

    @torch.no_grad()
    def logits(self, candidate: Candidate, ids: list[int]) -> np.ndarray:
        """Logits of the candidate for one sequence, [tokens, vocabulary]."""
        with Installed(self, candidate):
            return self.model(input_ids=torch.tensor(ids)[None]).logits[0].numpy()

    @torch.no_grad()
    def measure(
        self, candidate: Candidate, note: Callable[[int, int], None]
    ) -> dict[str, list[float]]:
        """Lists with a value for each window: mean KL divergence in nats from the original, rate
        of the same best token, mean negative log likelihood of the text; and of all positions the
        99th percentile and the maximum of the divergence."""
        assert self.reference is not None
        count, window = self.ids.shape
        kl, same, loss = (torch.empty(count, window) for _ in range(3))
        with Installed(self, candidate):
            states = self.hidden_states(note)
            rounding = candidate.roundings.get("lm_head")
            for index in range(count):
                targets = self.ids[index].roll(-1)
                for start in range(0, window, POSITIONS):
                    part = slice(start, start + POSITIONS)
                    state = states[index, part]
                    if rounding is not None:
                        state = rounding(state)
                    expected = self.reference[index, part] @ self.reference_output.T
                    found = state @ self.output.weight.T
                    kl[index, part], same[index, part], loss[index, part] = self.compare(
                        expected, found, targets[part]
                    )
        return {
            "kl": kl.mean(1).tolist(),
            "same_top1": same.mean(1).tolist(),
            # What follows the last token of a window is in no window.
            "loss": loss[:, :-1].mean(1).tolist(),
            "kl_p99": [float(np.quantile(kl.numpy(), 0.99))],
            "kl_max": [float(kl.max())],
        }

    @staticmethod
    def mean_divergence(expected: np.ndarray, found: np.ndarray) -> float:
        """Mean KL divergence, in nats, of logits [tokens, vocabulary] as the model returns them."""
        p, q = (torch.from_numpy(logits).log_softmax(1) for logits in (expected, found))
        return float((p.exp() * (p - q)).sum(1).mean())

    def compare(
        self, expected: torch.Tensor, found: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Per position: divergence, same best token, negative log likelihood. Overwrites logits."""
        if self.logits_scaling != 1:
            expected /= self.logits_scaling
            found /= self.logits_scaling
        same = (expected.argmax(1) == found.argmax(1)).float()
        loss = -found.gather(1, targets[:, None])[:, 0]
        totals = expected.logsumexp(1), found.logsumexp(1)
        loss += totals[1]
        found.sub_(expected)
        expected.sub_(totals[0][:, None]).exp_()
        # Σ p (log p − log q), with the logarithms of the sums taken out.
        return totals[1] - totals[0] - found.mul_(expected).sum(1), same, loss


class Installed:
    """Within it the meter's model is the candidate."""

    def __init__(self, meter: DivergenceMeter, candidate: Candidate) -> None:
        self.meter, self.candidate = meter, candidate

    def __enter__(self) -> None:
        parameters = dict(self.meter.model.named_parameters())
        for name, values in self.candidate.weights.items():
            parameters[name].data = torch.from_numpy(values)
        modules = dict(self.meter.model.named_modules())

        def hook(rounding: Rounding) -> Callable:
            return lambda _, inputs: (rounding(inputs[0]),)

        self.hooks = [
            modules[name].register_forward_pre_hook(hook(rounding))
            for name, rounding in self.candidate.roundings.items()
        ]

    def __exit__(self, *_: object) -> None:
        for handle in self.hooks:
            handle.remove()
        parameters = dict(self.meter.model.named_parameters())
        for name in self.candidate.weights:
            parameters[name].data = self.meter.original[name]
