"""Where the time of a paired step goes, by category: a row each, and the slowest instructions."""

import functools
from collections.abc import Iterator

from scripts.benchmarks.programs import lowered, stepping
from scripts.benchmarks.rows import Effort, Row
from scripts.benchmarks.tracing import CATEGORIES, compiled_for_traces, summarised
from scripts.benchmarks.workloads import CONVNET, RESNET, Workload

TRACES = 3


def rows(name: str, workload: Workload, effort: Effort) -> Iterator[Row]:
    """A row a category, a sample a trace; with each, those of the slowest instructions that belong to it."""
    compiled = compiled_for_traces(lowered(workload))
    program = stepping(workload, compiled, effort.steps)
    traces = [summarised(program, compiled, effort.steps) for _ in range(min(TRACES, effort.rounds))]
    _, slowest = traces[-1]
    for each, explained in CATEGORIES.items():
        samples = [shares[each] for shares, _ in traces]
        what = f'share of the time of all instructions: {explained}, {workload.what}'
        details = {'slowest': [instruction for instruction in slowest if instruction['category'] == each]}
        yield Row(f'{name}-{each}', what, samples, details=details)


BENCHMARKS = {
    name: functools.partial(rows, name, workload)
    for name, workload in (('profile-convnet', CONVNET), ('profile-resnet', RESNET))
}
