"""Where the time of a paired step goes, and what it reaches of the device: a step on one device, timed and traced."""

import collections
import functools
import pathlib
import tempfile
from collections.abc import Iterator

import jax
import numpy as np
from jax.profiler import ProfileData, ProfileOptions
from jax.stages import Compiled, Lowered

from experiments.setup.settings import DTYPES
from experiments.training.programs import Programs
from experiments.training.runs import Moment
from scripts.benchmarks.memory import arguments, shapes
from scripts.benchmarks.profile_program import CATEGORIES, CompiledProgram
from scripts.benchmarks.profile_rates import bandwidth, matrix_rate
from scripts.benchmarks.programs import Program, repeated
from scripts.benchmarks.rows import Benchmark, Effort, Row, seconds
from scripts.benchmarks.workloads import CONVNET, RESNET, Workload

TRACES, LISTED = 3, 10  # traces, at most; instructions in the details of a category
# GPUs launch a graph of kernels as a whole, and its trace would name none of them.
_KERNEL_BY_KERNEL = {'xla_gpu_enable_command_buffer': ''}

Times = dict[str, float]  # milliseconds by instruction


def lowered(workload: Workload, programs: Programs) -> Lowered:
    """The paired step before it is compiled."""
    return programs.step.lower(*arguments(workload, shapes(workload, programs)))


def operations(workload: Workload) -> float:
    """Floating point operations of a paired step as it is written, whatever a compiler makes of it.

    Counted for the CPU: only there JAX analyses what is not compiled, and GPUs' compiled programs do not tell the
    operations of the libraries that they call.
    """
    programs = Programs(workload.settings(), workload.classes, jax.local_devices(backend='cpu')[:1])
    return lowered(workload, programs).cost_analysis()['flops']


def stepping(workload: Workload, programs: Programs, compiled: Compiled, steps: int) -> Program:
    """So many compiled steps on one batch of noise."""
    state = programs.init(jax.random.key(0), image_shape=workload.image_shape)
    moment = Moment(np.float32(1e-3), np.float32(0), np.bool_(False))
    batch = programs.sharded(next(workload.trainer().batches.train(0, 1)))
    state, *rest = jax.device_put((state, moment, *batch), compiled.input_shardings[0])
    return repeated(lambda state: compiled(state, *rest), state, steps)


def traced(program: Program) -> Times:
    """The time of every instruction while the program runs."""
    options = ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory, profiler_options=options):
            program()
        (file,) = pathlib.Path(directory).rglob('*.xplane.pb')
        # To the profiler, a CPU is no device; of an accelerator, the host's times are those of launching.
        return times(ProfileData.from_file(str(file)), '/host:' if jax.default_backend() == 'cpu' else '/device:')


def times(profile: ProfileData, planes: str) -> Times:
    """The time of every instruction in a trace, on planes whose names begin like this.

    Of an instruction that a CPU splits among threads, the trace names only the first thread's part.
    """
    spent = collections.Counter()
    lines = [line for plane in profile.planes if plane.name.startswith(planes) for line in plane.lines]
    for event in (event for line in lines for event in line.events):
        instruction = dict(event.stats).get('hlo_op')
        if instruction:
            spent[instruction] += event.duration_ns / 1e6
    if not spent:
        raise RuntimeError('the trace names no instruction')
    return dict(spent)


def shares(name: str, what: str, program: CompiledProgram, traces: list[Times], steps: int) -> Iterator[Row]:
    """A row a category: its share of the time of all instructions, a sample a trace of so many steps."""
    mean = collections.Counter()
    for trace in traces:
        mean.update({each: time / len(traces) for each, time in trace.items()})
    members = collections.defaultdict(list)
    for each, _ in mean.most_common():
        members[program.category(each)].append(each)

    def described(each: str) -> dict:
        milliseconds, share = mean[each] / steps, mean[each] / mean.total()
        return {'name': each, 'op_name': program.op_name(each), 'milliseconds': milliseconds, 'share': share}

    for category, explained in CATEGORIES.items():
        of = members[category]
        samples = [sum(trace.get(each, 0) for each in of) / sum(trace.values()) for trace in traces]
        details = {'instructions': len(of), 'longest': [described(each) for each in of[:LISTED]]}
        explained = f'share of the time of all instructions: {explained}, {what}'
        yield Row(f'{name}-{category}', explained, samples, None, details)


def rows(name: str, workload: Workload, effort: Effort) -> Iterator[Row]:
    """What a step reaches of the device's matrix rate and of its bandwidth, and where its time goes."""
    programs = workload.programs()
    step = lowered(workload, programs)
    compiled = step.compile()
    run = stepping(workload, programs, compiled, effort.steps)
    elapsed = [seconds(run) / effort.steps for _ in range(effort.rounds + 1)][1:]
    if jax.default_backend() == 'gpu':
        compiled = step.compile(compiler_options=_KERNEL_BY_KERNEL)
        run = stepping(workload, programs, compiled, effort.steps)
    traces = [traced(run) for _ in range(min(TRACES, effort.rounds))]
    program, dtype = CompiledProgram(compiled.as_text()), workload.settings().config.compute_dtype

    def reached(kind: str, what: str, amount: float, at_best: float) -> Row:
        details = {'a_step': amount, 'a_second_at_best': at_best, 'step_seconds': elapsed}
        samples = [amount / each / at_best for each in elapsed]
        return Row(f'{name}-{kind}', f'{what}, {workload.what}', samples, None, details)

    what = f'operations a second of a paired step as written / of a large {dtype} matrix product'
    yield reached('matrix', what, operations(workload), matrix_rate(DTYPES[dtype]))
    what = 'bytes a second that the instructions of a paired step read and write, cached or not (so it may exceed 1)'
    yield reached('bandwidth', f'{what} / of a large array', program.bytes_accessed(traces[0]), bandwidth())
    yield from shares(name, workload.what, program, traces, effort.steps)


BENCHMARKS = tuple(
    Benchmark(name, functools.partial(rows, name, workload))
    for name, workload in (('profile-convnet', CONVNET), ('profile-resnet', RESNET))
)
