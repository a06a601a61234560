"""Measures ratios alternately in one run (A B A B ...), because absolute times on a shared machine mean nothing.

python -m scripts.benchmark [--rounds N] [--json FILE]
"""

import argparse
import dataclasses
import itertools
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
from rich.console import Console
from rich.table import Table

from configs import mnist
from experiments import environment, input_pipeline
from experiments.settings import resolve
from experiments.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two programs of the same length, timed in turn; `limit` is what their ratio should stay below."""

    name: str
    measured: Callable[[], None]
    baseline: Callable[[], None]
    limit: float


def mnist_trainer(**overrides) -> Trainer:
    """A pair of the MNIST ConvNet at batch 128, on noise of MNIST's shape."""
    config = ml_collections.ConfigDict(mnist.get_config())
    config.update({'dataset': 'synthetic', 'steps_per_epoch': -1, 'twins': 'ste', **overrides})
    settings = resolve(config)
    return Trainer(settings, input_pipeline.load(settings.config))


def training(count: int, **overrides) -> Callable[[], None]:
    """A program of so many paired steps, compiled."""
    trainer = mnist_trainer(**overrides)
    batches = list(itertools.islice(trainer.batches_from(0), count))
    state = trainer.advance(trainer.initial_state(), 0, batches[0])

    def run():
        nonlocal state
        for step, batch in enumerate(batches):
            state = trainer.advance(state, step, batch)
        jax.block_until_ready(state)

    return run


def tracking(count: int) -> Callable[[], None]:
    """A program of the tracking of so many paired steps and nothing else, compiled."""
    trainer = mnist_trainer()
    state = trainer.initial_state()
    advance = jax.jit(trainer.lockstep.track, donate_argnums=0)
    tracked = advance(jax.tree.map(jnp.copy, state.tracking), state.ranges, state.runs, state.runs)

    def run():
        nonlocal tracked
        for _ in range(count):
            tracked = advance(tracked, state.ranges, state.runs, state.runs)
        jax.block_until_ready(tracked)

    return run


def comparisons(steps: int) -> list[Comparison]:
    """Every comparison of the table."""
    pair, plain = training(steps), training(steps, track_change_points=False)
    setting = 'MNIST ConvNet, batch 128'
    return [
        Comparison(f'paired step with all tracking / without, {setting}', pair, plain, 1.10),
        Comparison(f'all tracking by itself / paired step without, {setting}', tracking(steps), plain, 0.10),
    ]


def ratios(comparison: Comparison, rounds: int) -> list[float]:
    """The ratio of every round; a first round, which warms up, is left out."""
    found = []
    for _ in range(rounds + 1):
        seconds = []
        for program in (comparison.measured, comparison.baseline):
            start = time.perf_counter()
            program()
            seconds.append(time.perf_counter() - start)
        found.append(seconds[0] / seconds[1])
    return found[1:]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=15, help='ratios a row; their median counts')
    parser.add_argument('--steps', type=int, default=10, help='training steps a measurement')
    parser.add_argument('--json', type=pathlib.Path, help='also write the figures there')
    arguments = parser.parse_args(argv)
    grid = Table('what', 'median ratio', 'lowest', 'highest', 'should be below')
    figures = []
    for comparison in comparisons(arguments.steps):
        measured = ratios(comparison, arguments.rounds)
        median = statistics.median(measured)
        figures.append({'what': comparison.name, 'median': median, 'ratios': measured, 'limit': comparison.limit})
        grid.add_row(comparison.name, *(f'{x:.3f}' for x in (median, min(measured), max(measured), comparison.limit)))
    machine = environment.describe(argv, jax.local_devices())
    machine['command'] = f'python -m scripts.benchmark {" ".join(argv)}'.strip()
    Console().print(f'{machine["devices"]}, {machine["platform"]}, jax {machine["versions"]["jax"]}', grid, sep='\n')
    if arguments.json:
        arguments.json.write_text(json.dumps({'machine': machine, 'figures': figures}, indent=2) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
