"""Training speed on CPU against PyTorch: same network, batch and data, in turn, in one run.

    pip install torch lightning
    python benchmarks/training_speed.py [--rounds 5] [--filters 128]

Three ways to train the residual network on the real TAL1 sequences (random ones of the same size without the
data folder):

- ebox: its loop, random strand and shift included, batches gathered from base codes;
- eager: a plain PyTorch loop, one-hot float tensors already in memory, no augmentation;
- lightning: a Lightning Trainer with a DataLoader that one-hot encodes each item, no augmentation.

The rounds alternate, so that a slow moment of the machine affects all three; ratios are taken round by round.
Also measured: only the matrix products that one step needs, as the limit of this machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import lightning
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ebox.mesh.devices import find_devices, make_mesh, replicate
from ebox.models.architectures import build_model
from ebox.models.network import count_parameters
from ebox.sequences import read_fasta
from ebox.settings.reading import Config, make_config
from ebox.training.batches import iter_chunks, iter_plans
from ebox.training.sampling import ExampleOrder
from ebox.training.state import make_hyperparameters
from ebox.training.step import NUM_SIGNALS, build_run_chunk, make_plan
from machine import describe_machine, find_data, keep, summarise
from torch_networks import make_twin

BATCH, STEPS, LENGTH = 64, 96, 200


def load_examples() -> tuple[np.ndarray, np.ndarray]:
    """Codes and labels of the real TAL1 set, or random ones of the same shape."""
    try:
        data = find_data() / "tal1"
    except SystemExit:
        rng = np.random.default_rng(0)
        return rng.integers(0, 4, (20_000, LENGTH), np.uint8), rng.integers(0, 2, 20_000).astype(np.uint8)
    positives = read_fasta(data / "bound.fa.gz").matrix(LENGTH)
    negatives = read_fasta(data / "unbound_matched.fa.gz").matrix(LENGTH)[: len(positives)]
    return np.concatenate([positives, negatives]), np.repeat([1, 0], len(positives)).astype(np.uint8)


def make_network(filters: int) -> nn.Module:
    """The default network of ebox in PyTorch, with fresh weights and the default dropout."""
    config = make_config({"model": {"num_filters": filters}})
    rates = {"dropout": config.train.dropout, "filter_dropout": config.train.filter_dropout}
    return make_twin(build_model(config.model, 1, LENGTH, np.random.default_rng(0)), LENGTH, **rates)


class TorchModule(lightning.LightningModule):
    """The same network as a Lightning user writes it."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.network = make_network(filters)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """The loss of a batch."""
        return functional.binary_cross_entropy_with_logits(self.network(batch[0])[:, 0], batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=1e-2)


class OneHotItems(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Sequences as text, one-hot encoded one by one, as in tutorials."""

    def __init__(self, codes: np.ndarray, labels: np.ndarray) -> None:
        letters = np.array(list("ACGTN"))
        self.texts = ["".join(row) for row in letters[codes[: STEPS * BATCH]]]
        self.labels = labels
        self.place = {letter: number for number, letter in enumerate("ACGT")}

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        one_hot = torch.zeros(4, LENGTH)
        for position, letter in enumerate(self.texts[row]):
            if letter in self.place:
                one_hot[self.place[letter], position] = 1.0
        return one_hot, torch.tensor(float(self.labels[row]))


def prepare_loop(codes: np.ndarray, labels: np.ndarray, config: Config) -> Callable[[int], None]:
    """A function that makes a given number of steps with ebox's own loop, on one device."""
    mesh = make_mesh(find_devices(config.parallel)[:1])
    order = ExampleOrder(labels == 1, 0, config.train.batch_size, None)
    chunk_steps = config.train.steps_per_dispatch
    plan_of_steps = make_plan(config, mesh)
    run_chunk = build_run_chunk(mesh, plan_of_steps, chunk_steps)
    signals = jnp.zeros((mesh.size, NUM_SIGNALS))
    hyper = make_hyperparameters(config.train, 10_000, 1.0)
    network = build_model(config.model, 1, LENGTH, np.random.default_rng(0))
    state: Any = replicate(plan_of_steps.schedule.start(network), mesh)
    print(f"ebox: {count_parameters(network):,} parameters")

    def work(steps: int) -> None:
        nonlocal state
        plans, metrics = list(iter_plans(0, steps, chunk_steps, frozenset())), None
        for plan, chunk in iter_chunks(codes, labels[:, None], order, plans, chunk_steps, mesh):
            state, metrics = run_chunk(state, chunk, signals, hyper, jnp.asarray(plan.count, jnp.int32))
        jax.block_until_ready(metrics)

    return work


def prepare_ebox(codes: np.ndarray, labels: np.ndarray, filters: int) -> Callable[[], None]:
    """A function that makes STEPS steps with ebox's own loop."""
    config = make_config({"model": {"num_filters": filters}, "train": {"batch_size": BATCH}})
    return partial(prepare_loop(codes, labels, config), STEPS)


def prepare_eager(codes: np.ndarray, labels: np.ndarray, filters: int) -> Callable[[], None]:
    """A function that makes STEPS steps with tensors in memory."""
    table = torch.cat([torch.eye(4), torch.zeros(1, 4)])
    inputs = table[torch.from_numpy(codes.astype(np.int64))].transpose(1, 2).contiguous()
    targets = torch.from_numpy(labels.astype(np.float32))
    network = make_network(filters)
    print(f"eager: {sum(weight.numel() for weight in network.parameters()):,} parameters")
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)

    def work() -> None:
        order = torch.randperm(len(inputs))
        for step in range(STEPS):
            rows = order[step * BATCH : (step + 1) * BATCH]
            loss = functional.binary_cross_entropy_with_logits(network(inputs[rows])[:, 0], targets[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return work


def prepare_lightning(codes: np.ndarray, labels: np.ndarray, filters: int) -> Callable[[], None]:
    """A function that makes STEPS steps with a Trainer and a DataLoader."""
    module = TorchModule(filters)
    loader = torch.utils.data.DataLoader(OneHotItems(codes, labels), batch_size=BATCH, shuffle=True)

    def work() -> None:
        lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(module, loader)

    return work


def prepare_limit(filters: int) -> tuple[Callable[[], None], float]:
    """A function that makes only the matrix products of STEPS steps, and their floating-point operations per step."""
    pooled = LENGTH // 4
    rows = [(BATCH * LENGTH, 15 * 4, filters, 2)]
    rows += [(BATCH * pooled, width * filters, filters, 3) for width in (5, 3, 3)]
    arrays = [(jnp.ones((m, k)), jnp.ones((k, n)), jnp.ones((m, n))) for m, k, n, _ in rows]

    @jax.jit
    def products(arrays: Any) -> Any:
        out = []
        for (inputs, weight, gradient), (*_, count) in zip(arrays, rows, strict=True):
            out += [inputs @ weight, inputs.T @ gradient]
            if count == 3:
                out.append(gradient @ weight.T)
        return out

    def work() -> None:
        for _ in range(STEPS):
            jax.block_until_ready(products(arrays))

    return work, float(sum(2 * m * k * n * count for m, k, n, count in rows))


def main() -> None:
    """Measure in turn and print the ratios."""
    parser = argparse.ArgumentParser(description="Training speed on CPU against PyTorch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--filters", type=int, default=128)
    options = parser.parse_args()
    machine = describe_machine()
    print(machine)
    torch.set_num_threads(machine["num_cores"])
    codes, labels = load_examples()
    order = np.random.default_rng(0).permutation(len(codes))
    codes, labels = codes[order], labels[order]
    limit, operations = prepare_limit(options.filters)
    ways = {
        "ebox": prepare_ebox(codes, labels, options.filters),
        "eager": prepare_eager(codes, labels, options.filters),
        "lightning": prepare_lightning(codes, labels, options.filters),
        "limit": limit,
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds + 1):
        for name, work in ways.items():
            began = time.perf_counter()
            work()
            # The first round compiles and warms up.
            if number:
                rates[name].append(STEPS * BATCH / (time.perf_counter() - began))
    ratios = {
        f"ebox / {other}": [mine / theirs for mine, theirs in zip(rates["ebox"], rates[other], strict=True)]
        for other in ("eager", "lightning", "limit")
    }
    for name, values in rates.items():
        shown = summarise(values)
        print(f"{name:<10} {shown['median']:8,.0f} sequences/s  ({shown['min']:,.0f} to {shown['max']:,.0f})")
    for name, values in ratios.items():
        shown = summarise(values)
        print(f"{name:<18} {shown['median']:.2f}  ({shown['min']:.2f} to {shown['max']:.2f}, n = {shown['n']})")
    flops = summarise([operations * rate / BATCH for rate in rates["limit"]])
    print(f"limit: {operations / 1e9:.2f} GFLOP a step in matrix products, {flops['median'] / 1e9:.0f} GFLOP/s alone")
    keep(
        f"training_speed_{options.filters}",
        {
            "filters": options.filters,
            "batch_size": BATCH,
            "steps_a_round": STEPS,
            "sequences_per_second": {name: summarise(values) for name, values in rates.items()},
            "ratios": {name: summarise(values) for name, values in ratios.items()},
            "matrix_product_flop_a_step": operations,
            "matrix_product_flop_per_second": flops,
        },
    )


if __name__ == "__main__":
    main()
