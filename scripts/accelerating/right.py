"""Whether the machine does it right: on real digits, in bfloat16, on all devices, and through a checkpoint."""

import dataclasses
import hashlib
import itertools
import math
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from experiments.training.programs import Drawn, Programs
from experiments.workdir.checkpoints import Checkpoints
from experiments.workdir.files import read_json
from qat.lockstep.state import State
from qat.lockstep.twins import REFERENCE
from scripts.accelerating.stand_ins import digits_batches, moments
from scripts.measuring.session import Session
from scripts.measuring.workloads import DIGITS, TWINS

CPU_FIGURES = pathlib.Path(__file__).parents[2] / 'docs' / 'results' / 'accelerator' / 'cpu.json'
_WITH_COPY, _ERROR = ('ste', 'self'), 'weight_alignment_error'
_PEAK = 0.01  # configs/digits.py
_CLOSE = 0.02  # relative, of two losses that differ by rounding alone: 8 bits of mantissa, or another order of sums


def digits(session: Session, deterministic: bool, again: bool = False) -> None:
    """Five runs in lockstep on digits; `again`: only whether the state has the bytes that it had the first time."""
    steps, flag = 10 if session.tiny else 300, 'deterministic' if deterministic else 'default'
    batches = digits_batches()
    programs = DIGITS.programs(TWINS)
    state = _trained(programs, batches.train(0, batches.steps_in_data), steps)
    flags = 'xla_gpu_deterministic_ops' if deterministic else 'default flags'
    digest, said = _digest(state), f'digits, {steps} steps, {flags}'
    if again:
        _same_bytes(session, flag, deterministic, digest, said)
        return
    found = programs.lockstep.summary(state)
    what = f'numbers of the twin self that are not exactly the reference, {said}'
    details = {'digest': digest, 'twins': found}
    _right(session, f'right-exact-{flag}', what, _differing(state), details, required=deterministic)
    errors = {name: metrics[_ERROR] for name, metrics in found.items() if name != 'self'}
    numbers = {**errors, 'loss': float(state.runs[REFERENCE].loss) / steps}
    for name, number in numbers.items():
        what = 'mean training loss of the reference' if name == 'loss' else f'alignment error of the twin {name}'
        details = _against_cpu(f'right-{name}-{flag}', number, session)
        session.add(f'right-{name}-{flag}', f'{what}, {said}', [number], details=details)


def bfloat16(session: Session) -> None:
    """A pair that computes in bfloat16, with a second copy of the reference."""
    steps, batches = 5 if session.tiny else 100, digits_batches()
    programs = dataclasses.replace(DIGITS, dtype=jnp.bfloat16).programs(_WITH_COPY)
    state = _trained(programs, batches.train(0, batches.steps_in_data), steps)
    loss, found = float(state.runs[REFERENCE].loss) / steps, programs.lockstep.summary(state)
    what = f'numbers of the twin self that are not exactly the reference, digits, {steps} steps in bfloat16'
    _right(session, 'right-bfloat16-self', what, _differing(state), {'twins': found}, required=True)
    session.add('right-bfloat16-loss', 'mean training loss of the reference in bfloat16', [loss])


def devices(session: Session) -> None:
    """The same batches on all devices under pmap and on one: the losses agree, and self is exact."""
    all_devices, steps = jax.local_devices(), 3 if session.tiny else 20
    batch = {key: array[: 16 * len(all_devices)] for key, array in _digits_batch().items()}
    states = []
    for some in (all_devices, all_devices[:1]):
        programs = DIGITS.programs(_WITH_COPY, some)
        states.append(_trained(programs, itertools.repeat(batch), steps))
    losses = [float(state.runs[REFERENCE].loss) / steps for state in states]
    details = {'devices': len(all_devices), 'losses': losses}
    count = f'{len(all_devices)} devices' if len(all_devices) > 1 else 'the only device there is'
    what = f'numbers of the twin self that are not exactly the reference, digits, {steps} steps on {count} under pmap'
    _right(session, 'right-devices-self', what, _differing(states[0]), details, required=True)
    what = f'loss on {count} against one, relative difference'
    difference = abs(losses[0] / losses[1] - 1)
    session.add('right-devices-loss', what, [difference], limit=_CLOSE, required=True, details=details)


def checkpoint(session: Session) -> None:
    """Trained on this machine's CPU, saved, restored to the accelerator, trained, saved, and restored to the CPU."""
    here, there = jax.local_devices(backend='cpu')[:1], jax.local_devices()[:1]
    batch, steps = _digits_batch(), 3
    sides = [DIGITS.programs(_WITH_COPY, side) for side in (here, there)]
    with jax.default_device(here[0]):
        state, changed, losses = _trained(sides[0], itertools.repeat(batch), steps), 0, []
    for programs in (sides[1], sides[0]):
        with tempfile.TemporaryDirectory() as folder, jax.default_device(programs.devices[0]):
            with Checkpoints(pathlib.Path(folder)) as checkpoints:
                checkpoints.save_now(state)
                restored = programs.placed(checkpoints.restore(int(state.step), state))
            changed += _digest(restored) != _digest(state)
            state = _trained(programs, itertools.repeat(batch), steps, restored)
            losses.append(float(state.runs[REFERENCE].loss) / steps)
    if not all(map(math.isfinite, losses)) or _differing(state):
        changed += 1
    what = 'checkpoints that came back with other bytes, CPU -> this device -> CPU, or could not be trained on'
    _right(session, 'right-checkpoint', what, changed, {'losses': losses}, required=True)


def _trained(programs: Programs, batches, steps: int, state: State | None = None) -> State:
    """So many steps further; from the beginning without a state."""
    state = programs.placed(programs.init(jax.random.key(0))) if state is None else state
    for moment, batch in zip(moments(_PEAK, steps), batches):
        state = programs.step(state, moment, Drawn(programs.sharded(batch)))
    return state


def _digits_batch() -> dict[str, np.ndarray]:
    batch = next(digits_batches().train(0, 15))
    repeated = {key: np.concatenate([array] * 10) for key, array in batch.items()}
    return repeated if len(jax.local_devices()) > 6 else batch


def _right(session: Session, name: str, what: str, wrong: int, details: dict, required: bool) -> None:
    """A count of what is wrong, which must be 0 where it is required."""
    options = {'limit': 0, 'bound': 'exactly', 'required': True} if required else {}
    session.add(name, what, [wrong], **options, details=details)


def _differing(state: State) -> int:
    """Weights and statistics of the twin self that are not the reference's to the bit."""
    runs = [jax.device_get((run.params, run.model_state)) for run in (state.runs[REFERENCE], state.runs['self'])]
    pairs = zip(*map(jax.tree.leaves, runs))
    different = sum(int(np.sum(one.view(np.uint32) != other.view(np.uint32))) for one, other in pairs)
    if not math.isfinite(float(state.runs[REFERENCE].loss)):
        raise ValueError('the training loss is not finite')
    return different


def _digest(state: State) -> str:
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(state)):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


def _same_bytes(session: Session, flag: str, deterministic: bool, digest: str, said: str) -> None:
    first = session.record.figure(f'right-exact-{flag}')
    if first is None:
        raise ValueError(f'there is no first time to compare with: right-exact-{flag} is not known')
    differs = int(digest != first['details']['digest'])
    what = f'whether the same command, twice, gave other bytes, {said}'
    _right(session, f'right-twice-{flag}', what, differs, {'digest': digest}, required=deterministic)


def _against_cpu(name: str, number: float, session: Session) -> dict:
    """The same figure of the committed CPU run, and the difference; empty where it does not exist."""
    if session.tiny or not CPU_FIGURES.exists():
        return {}
    known = {figure['name']: figure['value'] for figure in read_json(CPU_FIGURES)['figures']}
    return {'cpu': known[name], 'difference': number - known[name]} if name in known else {}
