"""Saturation mutagenesis and DeepLIFT/SHAP against tangermeme on the same network: numbers and time.

    pip install torch==2.13.0 && pip install tangermeme      (in this order: the CPU build of PyTorch)
    python benchmarks/explanation_speed.py RUN [--sequences 1000] [--theirs 100]

RUN is a run of the default network. Its twin in PyTorch has the same operations; one strand is explained, as
tangermeme does. Both get the same sequences, in turn. tangermeme's time grows in proportion to the sequences, so it may
be given fewer (`--theirs`) and is compared by sequences a second; its fast path, which recomputes only what a change
reaches as ebox does, is timed too. Processor seconds stand beside wall seconds, since PyTorch's threads lose much more
than their share where other programs work; `--threads 1` compares core with core.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata
from tangermeme.deep_lift_shap import _nonlinear, deep_lift_shap
from tangermeme.saturation_mutagenesis import saturation_mutagenesis

from ebox.datasets.folder import open_dataset
from ebox.evaluation.inference import iter_batches
from ebox.explanation.attribution import make_job, make_reader, take_contributions
from ebox.models.files import load_model
from ebox.sequences import one_hot
from ebox.settings.reading import ExplanationConfig
from ebox.workers.machine import count_cores
from machine import describe_machine, keep
from torch_networks import Exponential, make_twin

CONFIG = ExplanationConfig(both_strands=False, num_references=20)
BATCH = 64


def run_ours(network: Any, codes: np.ndarray, method: str) -> dict[str, np.ndarray]:
    """All results of a method, joined."""
    job, read = make_job(method, CONFIG, 0), make_reader(codes, CONFIG, method)
    parts = [result for _, result in iter_batches(network, job, read, len(codes), batch_size=BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class Times(NamedTuple):
    """Wall and processor seconds."""

    wall: float
    cpu: float


def timed(function: Callable[[], Any]) -> tuple[Any, Times]:
    """The result and the seconds."""
    began, busy = time.perf_counter(), time.process_time()
    result = function()
    return result, Times(time.perf_counter() - began, time.process_time() - busy)


def to_torch(codes: np.ndarray) -> torch.Tensor:
    """One-hot as PyTorch wants it."""
    return torch.from_numpy(np.ascontiguousarray(one_hot(codes).transpose(0, 2, 1)))


def compare_saturation(network: Any, module: torch.nn.Module, codes: np.ndarray, num_theirs: int) -> dict[str, Any]:
    """Times and greatest difference of the logits of all single-base changes."""
    run_ours(network, codes[:BATCH], "saturation")
    ours, seconds = timed(lambda: run_ours(network, codes, "saturation"))
    inputs = to_torch(codes[:num_theirs])
    facts: dict[str, Any] = {"ours": describe(len(codes), seconds)}
    for name, fast in (("theirs", False), ("theirs_fast", True)):
        warm = {"raw_outputs": True, "batch_size": 256, "device": "cpu", "fast": fast}
        saturation_mutagenesis(module, inputs[:2], **warm)
        (_, mutated), taken = timed(lambda arguments=warm: saturation_mutagenesis(module, inputs, **arguments))
        logits = mutated.numpy()[..., 0].transpose(0, 2, 1)
        facts[name] = {
            **describe(num_theirs, taken),
            "greatest_difference": float(np.abs(logits - ours["mutated"][:num_theirs]).max()),
            "times_faster": (len(codes) / seconds.wall) / (num_theirs / taken.wall),
            "times_less_cpu": (len(codes) / seconds.cpu) / (num_theirs / taken.cpu),
        }
    return facts


def describe(count: int, times: Times) -> dict[str, float]:
    """A time as facts."""
    per_second, cpu_each = count / times.wall, times.cpu / count
    return {"sequences": count, "seconds": times.wall, "per_second": per_second, "cpu_seconds_each": cpu_each}


def compare_deeplift(network: Any, module: torch.nn.Module, codes: np.ndarray) -> dict[str, Any]:
    """Times and greatest difference of the contributions, with the same references."""
    run_ours(network, codes, "deeplift")
    ours, seconds = timed(lambda: run_ours(network, codes, "deeplift"))
    references = make_reader(codes, CONFIG, "deeplift")(slice(0, len(codes)))[1]
    inputs = to_torch(codes)
    given = torch.stack([to_torch(rows) for rows in references])
    theirs, taken = timed(
        lambda: deep_lift_shap(
            module,
            inputs,
            references=given,
            additional_nonlinear_ops={Exponential: _nonlinear},
            device="cpu",
            batch_size=256,
            hypothetical=True,
            warning_threshold=1e-3,
        )
    )
    hypothetical = theirs.numpy().transpose(0, 2, 1)
    mine, other = (take_contributions(values, codes) for values in (ours["hypothetical"], hypothetical))
    ranks = [rankdata(values, axis=1) for values in (mine, other)]
    correlation = np.mean([np.corrcoef(one, two)[0, 1] for one, two in zip(*ranks, strict=True)])
    return {
        "sequences": len(codes),
        "references": CONFIG.num_references,
        "ours_seconds": seconds.wall,
        "theirs_seconds": taken.wall,
        "times_faster": taken.wall / seconds.wall,
        "times_less_cpu": taken.cpu / seconds.cpu,
        "greatest_difference": float(np.abs(ours["hypothetical"] - hypothetical).max()),
        "greatest_contribution": float(np.abs(mine).max()),
        "rank_correlation": float(correlation),
        "our_completeness_error": float(
            np.abs(mine.sum(axis=1) - (ours["logit"] - ours["reference"])).sum()
            / np.abs(ours["logit"] - ours["reference"]).sum()
        ),
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description="Explanation against tangermeme")
    parser.add_argument("run")
    parser.add_argument("--sequences", type=int, default=1000)
    parser.add_argument("--theirs", type=int, default=100)
    parser.add_argument("--threads", type=int, default=count_cores(), help="of PyTorch")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    print(describe_machine(), flush=True)
    model, data = load_model(options.run), open_dataset(f"{options.run}/dataset")
    rows = data.rows("test")
    chosen = np.flatnonzero(data.is_positive()[rows])[: options.sequences] + rows.start
    codes = np.asarray(data.codes[chosen])
    module = make_twin(model.network, data.length_bp).eval()
    saturation = compare_saturation(model.network, module, codes, min(options.theirs, len(codes)))
    print(saturation, flush=True)
    deeplift = compare_deeplift(model.network, module, codes[:100])
    print(deeplift, flush=True)
    facts = {
        "length_bp": data.length_bp,
        "torch_threads": options.threads,
        "saturation": saturation,
        "deeplift": deeplift,
    }
    keep("explanation_speed", facts)


if __name__ == "__main__":
    main()
