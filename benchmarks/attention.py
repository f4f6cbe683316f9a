"""Attention of packed comparisons three ways: texts side by side, in one call, and as padded batches of plain texts.

python -m benchmarks.attention --out FILE.json [--device cuda|cpu] [--seconds 36]

Random weights of the shape of SmolLM2-135M and texts of drawn lengths: it needs no file. What fails, or no longer fits
the seconds, is in the results as words; they are written anew after every part. On a CPU all is small and in float32:
it shows that the ways agree, and no times of use.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaModel

from benchmarks.side import now
from rmtension.base.device import arithmetic, start_torch
from rmtension.engine import attention
from rmtension.engine.attention import PACKED, packed_attention
from rmtension.engine.packing import Batch, Packed, batches, pack
from rmtension.engine.reward_model import hidden_states

HEADS, KEY_HEADS, SIZE = 9, 3, 64
SHAPE: dict[str, Any] = {
    "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": HEADS, "num_key_value_heads": KEY_HEADS,
    "head_dim": SIZE, "vocab_size": 49152, "max_position_embeddings": 8192,
}  # fmt: skip
# Tokens of a prefix and of a text's own: the middle of a log-normal distribution, and its spread.
LENGTHS = {"pairs like HH-RLHF": ((120, 0.8), (60, 0.8)), "long texts": ((100, 0.4), (800, 0.2))}
WAYS = ("loop", "varlen", "padded")
MODES = {"warn_only": True, "strict": False}  # of torch.use_deterministic_algorithms
Work = Callable[[], list[Tensor]]


def precision_of(device: torch.device) -> str:
    return "bfloat16" if device.type == "cuda" else "float32"


def dtype_of(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


@dataclass
class Case:
    """One batch: packed, and its texts as rows."""

    batch: Batch
    rows: Tensor  # [texts, longest] token ids, zeros behind their ends
    last: Tensor  # [texts]
    text_tokens: int

    @property
    def sizes(self) -> dict[str, int]:
        sequences = self.batch.sequences
        return {
            "packed_tokens": len(self.batch.tokens),
            "text_tokens": self.text_tokens,
            "padded_tokens": self.rows.numel(),
            "keys": len(sequences.keys),
            "texts": len(self.rows),
            "longest": sequences.most_keys,
            "groups": len(self.batch.texts),
        }


def case(lengths: Any, budget: int, device: torch.device) -> Case:
    """The middle one of some batches that a budget makes of pairs of drawn lengths."""
    rng = np.random.default_rng(0)

    def tokens(middle: int, spread: float) -> Any:
        return rng.integers(1, SHAPE["vocab_size"], np.clip(rng.lognormal(np.log(middle), spread), 1, 2000).astype(int))

    pairs, held = list[Packed](), 0
    while held < 4 * budget:
        prefix, *own = (tokens(*lengths[i]) for i in (0, 1, 1))
        pairs.append(pack(*([np.concatenate([prefix, one])] for one in own)))
        held += len(pairs[-1])
    made = list(batches(pairs, budget))
    batch = made[len(made) // 2]
    texts = [one.tokens[(one.segments == 0) | (one.segments == i)] for one in map(pairs.__getitem__, batch.index)
             for i in (1, 2)]  # fmt: skip
    rows = pad_sequence([torch.from_numpy(text) for text in texts], batch_first=True)
    last = torch.tensor([len(text) - 1 for text in texts])
    return Case(batch.to(device), rows.to(device), last.to(device), sum(map(len, texts)))


def without_flash(query: Tensor, key: Tensor, value: Tensor, *where: Any, scale: float, **_: Any) -> Tensor:
    """In place of varlen_attn where there is no GPU: one sequence after the other."""
    found, lengths = [], [starts.diff().tolist() for starts in where[:2]]
    for parts in zip(query.split(lengths[0]), key.split(lengths[1]), value.split(lengths[1]), strict=True):
        q, k, v = (part.transpose(0, 1)[None] for part in parts)
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
        one = functional.scaled_dot_product_attention(q, k, v, seen, scale=scale, enable_gqa=True)
        found.append(one[0].transpose(0, 1))
    return torch.cat(found)


@contextmanager
def way(name: str, device: torch.device) -> Iterator[None]:
    """Within the context, packed attention goes that way."""
    with ExitStack() as stack:
        if name == "loop":
            stack.enter_context(patch.object(attention, "takes_any_lengths", lambda _: False))
        elif name == "varlen" and device.type == "cpu":
            stack.enter_context(patch.object(attention, "takes_any_lengths", lambda _: True))
            stack.enter_context(patch.object(attention, "varlen_attn", without_flash))
        yield


def states(*shape: int, device: torch.device, seed: int) -> Tensor:
    """Random ones [1 or texts, heads, tokens, size], as a projection leaves them in memory."""
    texts, heads, tokens = shape
    drawn = torch.randn(texts, tokens, heads, SIZE, generator=torch.Generator(device).manual_seed(seed), device=device)
    return drawn.bfloat16().transpose(1, 2)  # rounded in any case: float32 is to have the same


def attention_alone(of: Case, name: str, backward: bool, device: torch.device, dtype: torch.dtype) -> Work:
    """Outputs, and where asked for the gradients of queries, keys and values, of one layer."""
    shape = (len(of.rows), of.rows.shape[1]) if name == "padded" else (1, len(of.batch.tokens))
    q, k, v = (
        states(shape[0], heads, shape[1], device=device, seed=i).to(dtype).requires_grad_(backward)
        for i, heads in enumerate((HEADS, KEY_HEADS, KEY_HEADS))
    )
    upstream = states(shape[0], HEADS, shape[1], device=device, seed=3).to(dtype).transpose(1, 2)

    def work() -> list[Tensor]:
        if name == "padded":
            shared = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.125, enable_gqa=True)
            outputs = shared.transpose(1, 2)
        else:
            outputs, _ = packed_attention(None, q, k, v, None, 0.125, of.batch)
        return [outputs.detach(), *(torch.autograd.grad(outputs, (q, k, v), upstream) if backward else ())]

    return work


def backbone(model: Any, of: Case, name: str, backward: bool, precision: str, device: torch.device) -> Work:
    """What a fixed direction makes of every text's last state; where asked for, the gradients of all weights by it."""
    direction = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(4)).to(device)
    weights = list(model.parameters())

    def work() -> list[Tensor]:
        if model.config._attn_implementation != (kind := "sdpa" if name == "padded" else PACKED):
            model.set_attn_implementation(kind)
        with arithmetic(precision, device), nullcontext() if backward else torch.no_grad():
            if name == "padded":
                found = model(input_ids=of.rows, use_cache=False).last_hidden_state
                last = found[torch.arange(len(of.rows), device=device), of.last]
            else:
                last = hidden_states(model, of.batch)[of.batch.end]
        rewards = last.float() @ direction
        return [rewards.detach(), *(torch.autograd.grad(rewards.sum(), weights) if backward else ())]

    return work


def measured(work: Work, device: torch.device, tokens: int, turns: int) -> dict[str, Any]:
    """Of the middle one of some turns; peak memory is all that is held, model and batch included."""
    work()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    took = []
    for _ in range(turns):
        started = now()
        work()
        took.append(now() - started)
    seconds = statistics.median(took)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None
    return {"ms": 1e3 * seconds, "text_tokens_per_second": tokens / seconds, "peak_MiB": peak, "turns": turns}


def errors(found: list[Tensor], exact: list[Tensor]) -> dict[str, float]:
    """Of values and of gradients: the largest difference by the largest value; the norm of differences by the norm."""
    kinds = {"values": slice(1), "gradients": slice(1, None)}
    report = {}
    for kind, part in kinds.items():
        pairs = [(one.float(), other.float()) for one, other in zip(found[part], exact[part], strict=True)]
        report[f"{kind}_max"] = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
        report[f"{kind}_norm"] = float(np.mean([float((a - b).norm() / b.norm()) for a, b in pairs]))
    return report


def same_bits(work: Work, times: int = 3) -> dict[str, Any]:
    """Whether several runs give the same, and the largest difference where not."""
    first, *others = (work() for _ in range(times))
    pairs = [(a, b) for other in others for a, b in zip(first, other, strict=True)]
    different = [float((a.float() - b.float()).abs().max() / a.float().abs().max()) for a, b in pairs
                 if not torch.equal(a, b)]  # fmt: skip
    return {"same": not different, "largest_difference": max(different, default=0.0), "runs": times}


class Report:
    """What has been found, in a file after every part."""

    def __init__(self, out: Path, seconds: float) -> None:
        self.out, self.started, self.seconds = out, time.perf_counter(), seconds
        self.parts = dict[str, Any]()

    def add(self, name: str, part: Callable[[], Any], within: AbstractContextManager[Any] | None = None) -> None:
        if time.perf_counter() - self.started > self.seconds:
            self.parts[name] = "left out: out of time"
        else:
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                try:
                    if torch.cuda.is_available():
                        torch.cuda.empty_cache()
                    with within or nullcontext():
                        self.parts[name] = part()
                except Exception as error:  # all else is to be measured still
                    self.parts[name] = f"{type(error).__name__}: {error}"
            if words := sorted({str(warning.message).splitlines()[0] for warning in heard}):
                self.parts.setdefault("warnings", {})[name] = words
        self.write()

    def write(self) -> None:
        self.parts["seconds"] = time.perf_counter() - self.started
        self.out.write_text(json.dumps(self.parts, indent=1))


@contextmanager
def mode(name: str) -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=MODES[name])
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True)  # as in the engine


def compare(report: Report, model: Any, workload: str, budget: int, device: torch.device, modes: list[str]) -> None:
    """Times of each way, of attention alone and of the whole backbone."""
    name, of = f"{workload}, {budget}", case(LENGTHS[workload], budget, device)
    report.add(f"{name}: sizes", lambda: of.sizes)
    for one in WAYS:
        for passes, backward in (("forward", False), ("forward and backward", True)):
            alone = attention_alone(of, one, backward, device, dtype_of(device))
            whole = backbone(model, of, one, backward, precision_of(device), device)
            for chosen in modes if backward else modes[:1]:
                for part, work, turns in (
                    ("attention", alone, 5),
                    ("backbone", whole, 3 if device.type == "cuda" else 1),
                ):
                    with way(one, device), mode(chosen):
                        label = f"{name}: {part}, {passes}, {one}, {chosen}"
                        report.add(label, partial(measured, work, device, of.text_tokens, turns))


def check(report: Report, model: Any, workload: str, budget: int, device: torch.device) -> None:
    """Errors against float32 and repeated runs of each way, on a smaller batch."""
    name, of = f"{workload}, {budget}", case(LENGTHS[workload], budget, device)
    exact: dict[str, list[Tensor]] = {}

    def make_exact() -> str:
        with way("loop", device):
            exact["attention"] = attention_alone(of, "loop", True, device, torch.float32)()
            exact["backbone"] = backbone(model, of, "loop", True, "float32", device)()
        return "made"

    report.add(f"{name}: float32", make_exact)
    for one in WAYS:
        works = {"attention": attention_alone(of, one, True, device, dtype_of(device)),
                 "backbone": backbone(model, of, one, True, precision_of(device), device)}  # fmt: skip
        for part, work in works.items():
            if not (part == "attention" and one == "padded"):  # of other tokens
                held_against = partial(lambda work, part: errors(work(), exact[part]), work, part)
                report.add(f"{name}: error, {part}, {one}", held_against, way(one, device))
            for chosen in MODES:
                with mode(chosen):
                    report.add(f"{name}: repeated, {part}, {one}, {chosen}", partial(same_bits, work), way(one, device))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--seconds", type=float, default=36, help="begin nothing after so many (default: 36)")
    chosen = parser.parse_args()
    report = Report(chosen.out, chosen.seconds)
    device = start_torch(threads=2, gpus=chosen.device == "cuda")
    small = device.type == "cpu"
    report.parts |= {"device": torch.cuda.get_device_name() if not small else "cpu", "torch": torch.__version__}
    torch.manual_seed(0)
    with device:
        shape = SHAPE | ({"hidden_size": 72, "intermediate_size": 128} if small else {})
        config = LlamaConfig(**shape, num_hidden_layers=2 if small else 30)
        model = LlamaModel._from_config(config, attn_implementation=PACKED).eval()
    for workload in LENGTHS:
        compare(report, model, workload, 600 if small else 32_768, device, [*MODES])
    for workload in LENGTHS:
        check(report, model, workload, 600 if small else 8_192, device)
    for workload in [] if small else LENGTHS:
        compare(report, model, workload, 65_536, device, ["strict"])
    report.write()


if __name__ == "__main__":
    main()
