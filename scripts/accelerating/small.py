"""What a small model gains where many of its steps, or many seeds, go out in one dispatch."""

import jax
import jax.numpy as jnp
import numpy as np

from qat.lockstep.state import Moment
from scripts.accelerating import models
from scripts.accelerating.record import Session
from scripts.benchmarks.rows import ratios, seconds

_STEPS, _SEEDS = (1, 10, 100), (1, 4, 16)


def small(session: Session) -> None:
    """Pairs of the MNIST ConvNet with all tracking: steps by steps a dispatch, then by seeds in a program."""
    tiny = session.tiny
    shape, images = ((8, 8, 1), 4) if tiny else ((28, 28, 1), 128)
    programs = _Programs(shape, images)
    _measured(session, 'small-steps', 'steps a dispatch', _STEPS if not tiny else (1, 4), programs.scanned, 2)
    _measured(session, 'small-seeds', 'seeds in a program', _SEEDS if not tiny else (1, 4), programs.vmapped, 5)


class _Programs:
    """Training of ConvNet pairs on one batch of noise, as calls of one compiled function."""

    def __init__(self, image_shape: tuple[int, int, int], images: int):
        self._task = models.convnet(image_shape)
        self._lockstep = models.lockstep(self._task, ('ste',), axis_name=None)
        self._batch = jax.device_put(models.noise(images, image_shape, 10))
        self.said = f'ConvNet pair, {image_shape[0]}x{image_shape[1]}, batch {images}'

    def scanned(self, steps: int):
        """So many steps in one dispatch."""
        batches = jax.tree.map(lambda array: jnp.stack([array] * steps), self._batch)

        def program(state, batches):
            def one(state, batch):
                return self._step(state, batch), None

            return jax.lax.scan(one, state, batches)[0]

        return _repeated(
            program if steps > 1 else self._step, jax.jit(self._init)(0), batches if steps > 1 else self._batch
        )

    def vmapped(self, seeds: int):
        """A step of so many seeds in one dispatch."""
        if seeds == 1:
            return self.scanned(1)
        states = jax.jit(jax.vmap(self._init))(np.arange(seeds))
        batches = jax.tree.map(lambda array: jnp.stack([array] * seeds), self._batch)
        return _repeated(jax.vmap(self._step), states, batches)

    def _init(self, seed):
        return self._lockstep.init(*self._task.init(jax.random.key(seed)))

    def _step(self, state, batch):
        moment = Moment(np.float32(1e-3), np.float32(0), np.bool_(False))
        return self._lockstep.step(state, batch, moment)[0]


def _repeated(step, state, batch):
    """(dispatches) -> nothing: runs a compiled step so often, and waits."""
    compiled = jax.jit(step, donate_argnums=0)
    state = compiled(state, batch)

    def run(dispatches: int) -> None:
        nonlocal state
        for _ in range(dispatches):
            state = compiled(state, batch)
        jax.block_until_ready(state)

    return run


def _measured(session: Session, name: str, by: str, counts: tuple[int, ...], program, limit: float) -> None:
    """A figure a count, steps of a pair a second, and the gain of the largest over one, in turn."""
    most, rounds, made = counts[-1], 1 if session.tiny else 5, {}
    said = program.__self__.said
    for count in counts:
        if not session.fits(f'{name}-{count}', 1 if session.tiny else 10):
            return
        made[count] = program(count)
        dispatches = max(1, most // count)
        times = [seconds(lambda: made[count](dispatches)) for _ in range(rounds + 1)][1:]  # noqa: B023
        samples = [count * dispatches / spent for spent in times]
        session.add(f'{name}-{count}', f'steps a second, {count} {by}, {said}', samples, 'steps/s')
    gains = ratios(lambda: made[1](most), lambda: made[most](1), rounds)
    what = f'{most} {by} against one, gain in steps a second, {said}'
    session.add(f'{name}-gain', what, gains, limit=limit, bound='at least')
