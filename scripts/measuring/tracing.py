"""Where the time of a compiled step goes: a trace of it on one device, by category and by instruction.

The trace names the compiled program's instructions. The program's text says beside an instruction what JAX calls the
operation it came from, with the named scopes around it: `jit(step)/transpose(jvp(ConvNet))/conv1/conv_general_dilated`.
"""

import collections
import pathlib
import re
import tempfile
from collections.abc import Callable

import jax
from jax.profiler import ProfileData, ProfileOptions
from jax.stages import Compiled

from scripts.measuring.programs import training
from scripts.measuring.session import Session
from scripts.measuring.workloads import Workload

CATEGORIES = {
    'convolutions': 'convolutions and dense layers, forward',
    'gradients': 'gradients of convolutions and dense layers',
    'elementwise': 'batch norm, activations, pooling and loss, forward and backward',
    'quantization': 'quantization, and the slope of the estimator',
    'tracking': 'tracking',
    'optimizer': 'optimizer',
    'other': 'what the compiler does not name, such as copies',
}
_SCOPES = {'tracking': 'tracking', 'optimizer': 'optimizer', 'quantize': 'quantization'}  # as the step names them
_PRODUCTS = ('conv_general_dilated', 'dot_general')
_WRITTEN_PRODUCTS = (' convolution(', ' dot(', '"__cudnn$conv', '"__cublas$')  # as compilers write them
_INSTRUCTION = re.compile(r'\s+(?:ROOT )?%(\S+) = (.*?)(?:, metadata=\{op_name="([^"]*)".*)?$')

TRACES, SLOWEST = 3, 10
# GPUs launch a graph of kernels as a whole, and its trace would name none of them.
_KERNEL_BY_KERNEL = {'xla_gpu_enable_command_buffer': ''}

Times = dict[str, float]  # milliseconds by instruction


def profile(session: Session, name: str, workload: Workload) -> None:
    """Of a pair's step, a figure a category, a sample a trace; with each, those of the slowest instructions in it."""
    options = _KERNEL_BY_KERNEL if jax.default_backend() == 'gpu' else None
    pair, steps = training(workload).compile(options), session.steps
    pair(2)  # warms up
    traces = [summarised(lambda: pair(steps), pair.compiled, steps) for _ in range(min(TRACES, session.rounds))]
    _, slowest = traces[-1]
    for each, explained in CATEGORIES.items():
        what = f'share of the time of all instructions: {explained}, {workload.what}'
        details = {'slowest': [instruction for instruction in slowest if instruction['category'] == each]}
        session.add(f'{name}-{each}', what, [shares[each] for shares, _ in traces], details=details)


def summarised(
    program: Callable[[], object], compiled: Compiled, steps: int = 1
) -> tuple[dict[str, float], list[dict]]:
    """Traces a program that runs so many compiled steps.

    Returns:
      The share of every one of `CATEGORIES` in the time of all instructions; and of the slowest instructions, the
      slowest first: 'name', 'op_name', 'category', 'milliseconds' a step, 'share'.
    """
    spent, known = traced(program), instructions(compiled.as_text())
    total, shares, listed = sum(spent.values()), dict.fromkeys(CATEGORIES, 0.0), []
    for name in sorted(spent, key=spent.get, reverse=True):
        category, op_name = known.get(name, ('other', ''))
        share = spent[name] / total
        shares[category] += share
        numbers = {'milliseconds': spent[name] / steps, 'share': share}
        listed.append({'name': name, 'op_name': op_name, 'category': category, **numbers})
    return shares, listed[:SLOWEST]


def instructions(text: str) -> dict[str, tuple[str, str]]:
    """(category, op_name) of every instruction in the text of a compiled program; '' where it has no name."""
    found, products, computation = {}, set(), ''
    for line in text.splitlines():
        instruction = _INSTRUCTION.match(line)
        if not instruction:
            computation = line.split(' ')[0]  # '%fused_computation.1 (parameters) -> result {', before what calls it
            continue
        name, written, op_name = instruction.groups('')
        fused = written.partition('calls=')[2].split(',')[0]
        multiplies = fused in products or any(product in written for product in _WRITTEN_PRODUCTS)
        if multiplies:
            products.add(computation)
        found[name] = category_of(op_name, multiplies), op_name
    return found


def category_of(op_name: str, multiplies: bool = False) -> str:
    """The category of an operation; `multiplies`: whether the compiler wrote a product for it.

    Compilers rewrite the products of gradients more than all others. Some are named after a transpose then, and some
    lose their name: on CPU the gradients of convolution kernels, much of a ConvNet's step. Forward products keep it.
    """
    for scope, category in _SCOPES.items():
        if scope in op_name:
            return category
    if multiplies or any(product in op_name for product in _PRODUCTS):
        return 'gradients' if not op_name or 'transpose(jvp(' in op_name else 'convolutions'
    return 'elementwise' if op_name else 'other'


def traced(program: Callable[[], object]) -> Times:
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
