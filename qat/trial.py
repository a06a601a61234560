"""What a user's slope may get wrong, found by trying it: told in a line, before it ends in somebody else's traceback.

A slope is computed in float32 on weights of any shape. So it must be elementwise, finite wherever a weight may lie and
for whatever gradient comes in, and float32 throughout: in bfloat16 it would be a staircase of some hundred steps.
"""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

_SHAPES = ((), (1,), (3, 5), (2, 3, 4))
_POINTS = np.float32([*np.linspace(-0.5, 0.5, 101), 0, 0.25, 0.5])
_GRADIENTS = (1.0, 0.0, -1.0, 2e-38, -2e-38, 1e30, -1e30)  # what is smaller still is 0 to most processors
_RELATIVE, _ABSOLUTE = 1e-4, 1e-5  # compiled for another shape, a slope may round otherwise; of its largest value
_HALVES = {'bf16': 'bfloat16', 'f16': 'float16'}


@np.errstate(over='ignore')  # of constants beyond float32, which end in a message of ours
def try_slope(name: str, estimator: Callable, *, gradient: bool, progress: bool) -> None:
    """Refuses a slope that a training could not use.

    Args:
      name: for the messages.
      estimator: (r, gradient, progress) -> the slope, with every parameter bound; r and gradient of one shape.
      gradient, progress: whether the slope reads them.

    Raises:
      ValueError: it raises; it returns anything but finite float32 numbers shaped like r; or what it returns for one
        offset depends on the others, or on the shape that they come in.
    """
    r, compiled = jnp.asarray(_special_points()), jax.jit(estimator)  # as in a training step
    for fraction in (0.0, 0.5, 1.0) if progress else (0.0,):
        for incoming in _GRADIENTS if gradient else (1.0,):
            s = _tried(name, compiled, r, jnp.full(r.shape, incoming, jnp.float32), fraction)
            bad = ~np.isfinite(s)
            if bad.any():
                given = f' for a gradient of {incoming:g}' if gradient else ''
                given += f' at progress {fraction:g}' if progress else ''
                raise ValueError(
                    f'estimator {name!r} is not finite at r = {np.asarray(r)[bad][0]!s}{given}: {s[bad][0]}'
                )
    _check_precision(name, estimator, r)
    _check_elementwise(name, estimator)


def _special_points() -> np.ndarray:
    """float32 offsets from end to end, with 0, +-1/4 and +-1/2, where slopes divide by 0, and their neighbours."""
    tiny = np.finfo(np.float32).tiny  # nearer to 0 a float32 is as good as 0
    near = [np.nextafter(np.float32(place), np.float32(way)) for place in (0.25, 0.5) for way in (0, 1)]
    points = np.concatenate([_POINTS, [0, tiny, 1e-20], near]).astype(np.float32)
    return np.unique(np.clip(np.concatenate([-points, points]), -0.5, 0.5)) + np.float32(0)


def _tried(name: str, estimator: Callable, r: jax.Array, gradient: jax.Array, progress: float) -> np.ndarray:
    """The slope shaped like r."""
    where = f' on an array of shape {r.shape}' if r.ndim != 1 or r.size < _POINTS.size else ''
    try:
        s = estimator(r, gradient, jnp.float32(progress))
    except Exception as error:
        hint = '; it must take r of any shape, elementwise' if where else ''
        raise ValueError(
            f'estimator {name!r} raised {type(error).__name__}{where}: {_first_line(error)}{hint}'
        ) from error
    if jnp.shape(s) != r.shape or not jnp.issubdtype(jnp.result_type(s), jnp.floating):
        raise ValueError(f'estimator {name!r} must return floats shaped like r, elementwise{where}')
    return np.asarray(s)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [''])[0]


def _check_precision(name: str, estimator: Callable, r: jax.Array) -> None:
    """Refuses what computes in less than float32, and what cannot compute in float64, in which alpha is found."""
    half = re.search(r'\b(bf16|f16)\[', str(jax.make_jaxpr(estimator)(r, r, jnp.float32(0))))
    if half:
        raise ValueError(f'estimator {name!r} computes in {_HALVES[half[1]]}: keep it in float32, as r is')
    try:
        with jax.enable_x64(True):
            wide = jnp.asarray(np.asarray(r, np.float64))
            estimator(wide, jnp.ones_like(wide), jnp.float64(0))
    except Exception as error:
        raise ValueError(
            f'estimator {name!r} raised {type(error).__name__} where r is float64, in which alpha is found; '
            f'give what it makes r.dtype: {_first_line(error)}'
        ) from error


def _check_elementwise(name: str, estimator: Callable) -> None:
    """Refuses a slope that changes with the shape of r or with the order of what is in it."""
    r = np.float32((np.arange(32) * 0.618034 + 0.1) % 1 - 0.5)  # irregular, so that no rounding is decided by a hair
    gradient = np.float32(np.cos(np.arange(32)))
    whole = _tried(name, estimator, jnp.asarray(r), jnp.asarray(gradient), 0.5).astype(np.float64)
    order = np.random.default_rng(0).permutation(r.size)
    chosen = [order, *(np.arange(int(np.prod(shape))).reshape(shape) for shape in _SHAPES)]
    for places in chosen:
        found = _tried(name, estimator, jnp.asarray(r[places]), jnp.asarray(gradient[places]), 0.5)
        expected = whole[places]
        if not np.allclose(found, expected, rtol=_RELATIVE, atol=_ABSOLUTE * np.abs(whole).max()):
            how = 'in another order' if places is order else f'in an array of shape {places.shape}'
            worst = np.argmax(np.abs(found - expected))
            at, one, other = (np.ravel(array)[worst] for array in (r[places], found, expected))
            raise ValueError(
                f'estimator {name!r} is not elementwise: at r = {at:.3g} it is {other:.4g} in an array of 32, and '
                f'{one:.4g} {how}; the slope at an offset must not depend on the other offsets'
            )
