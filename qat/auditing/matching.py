"""Which slopes of the catalogue samples can come from: each entry's parameters by least squares, then the best ones.

A slope that changes with time is fitted at the time of the samples; one that asks for the incoming gradient, at either
sign of it. Entries that fit equally well, as those of one family do, are all named.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from qat.auditing.cells import Pooled
from qat.calls import Interval
from qat.slopes import CATALOGUE, Entry

_PROGRESS = Interval(0, 1, low_included=True, high_included=True)
_STARTS, _REFINED, _ROUNDS = 32, 4, 60  # of each parameter; of them; of Gauss and Newton
_BLOCK = 2**13  # samples that are evaluated together
_ENOUGH = 2**14  # samples that parameters are found from
_COARSE = 257  # samples that starts are compared on
_FITS = 4.0  # times what float32 explains, which the residual of most samples may be
_MOST = 99  # in a hundred; the others may lie beside a jump, where float32 decides on the side
_AS_GOOD = 2.0  # times the residual of the best entry


@dataclasses.dataclass(frozen=True)
class Match:
    """An entry of the catalogue that the samples can come from.

    Attributes:
      name: of the entry.
      parameters: of the slope, by name.
      context: what its 'progress' or 'gradient' was, if it takes one.
      residual: the root mean square of what is left, of the largest slope.
    """

    name: str
    parameters: tuple[tuple[str, float], ...]
    context: tuple[tuple[str, float], ...]
    residual: float


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A slope with the domains of what is to be found of it."""

    name: str
    domains: Mapping[str, Interval]
    fixed: Mapping[str, float]
    slope: Callable

    def at(self, r: np.ndarray, found: np.ndarray) -> np.ndarray:
        """(n, m) slopes at n offsets for m choices of parameters, (m, parameters)."""
        shape = r.size, len(found)
        columns = [np.broadcast_to(r[:, None], shape), *(np.broadcast_to(column, shape) for column in found.T)]
        # Blocks of one shape: every operation is compiled once.
        flat = [np.pad(column.ravel(), (0, -column.size % _BLOCK), mode='edge') for column in columns]
        made = [
            self.slope(jnp.asarray(block[0]), **dict(zip(self.domains, map(jnp.asarray, block[1:]))), **self.fixed)
            for block in zip(*(column.reshape(-1, _BLOCK) for column in flat))
        ]
        return np.concatenate(made)[: r.size * len(found)].reshape(shape)


def matches(pooled: Pooled, bits: float) -> tuple[Match, ...]:
    """The entries that the samples can come from: those with fewest parameters first; empty where none is near.

    Args:
      pooled: the samples.
      bits: of their quantizer, which some slopes ask for.
    """
    if pooled.constant is not None and abs(pooled.constant - 1) > 1e-5:
        return ()  # many entries have constants at an end of their domains
    with jax.enable_x64(True):
        fitted = [(candidate, *_fit(candidate, pooled)) for candidate in _candidates(bits)]
    fitting = [each for each in fitted if each[2] <= _FITS]
    if not fitting:
        return ()
    # In units of what float32 explains; below a tenth of that all are equal.
    bar = _AS_GOOD * max(min(each[3] for each in fitting), 2.0**-24)
    found = [_match(candidate, x, rms) for candidate, x, _, rms in fitting if rms <= bar]
    constants = [match for match in found if match.name in ('ste', 'mad')]  # other entries only approach it
    return tuple(constants or sorted(found, key=lambda match: len(match.parameters) + len(match.context)))


def _candidates(bits: float) -> list[_Candidate]:
    found = []
    for name, entry in CATALOGUE.items():
        own = {**entry.domains}
        asks = {key for key in ('bits', 'gradient', 'progress') if key in _arguments(entry)}
        fixed = {'bits': float(bits)} if 'bits' in asks else {}
        if 'progress' in asks and own:  # it cannot be told from the parameters
            fixed['progress'] = 1.0
        elif 'progress' in asks:
            own['progress'] = _PROGRESS
        signs = (1.0, -1.0) if 'gradient' in asks else (None,)
        found += [
            _Candidate(name, own, fixed if sign is None else {**fixed, 'gradient': sign}, entry.slope) for sign in signs
        ]
    return found


def _arguments(entry: Entry) -> tuple[str, ...]:
    return entry.slope.__code__.co_varnames[: entry.slope.__code__.co_argcount + entry.slope.__code__.co_kwonlyargcount]


def _match(candidate: _Candidate, x: np.ndarray, rms: float) -> Match:
    values = dict(zip(candidate.domains, map(float, x)))
    context = {key: value for key, value in {**values, **candidate.fixed}.items() if key in ('progress', 'gradient')}
    parameters = {key: value for key, value in values.items() if key not in context}
    return Match(candidate.name, tuple(parameters.items()), tuple(context.items()), rms)


def _fit(candidate: _Candidate, pooled: Pooled) -> tuple[np.ndarray, float, float]:
    """(parameters, residual of most samples in units of the noise, root mean square of the largest slope)."""
    kept = np.unique(np.linspace(0, pooled.r.size - 1, _ENOUGH).round().astype(int))
    r, s, noise = pooled.r[kept], pooled.slope[kept], pooled.noise[kept]
    some = np.unique(np.linspace(0, r.size - 1, _COARSE).round().astype(int))
    starts = _starts(candidate, pooled.scale)
    away = np.abs(candidate.at(r[some], starts) - s[some, None]) / noise[some, None]
    away = np.where(np.isfinite(away), away, 1e30)
    best = starts[np.argsort(np.log1p(away).mean(axis=0), kind='stable')[:_REFINED]]
    ends = [_refined(candidate, start, r, s, noise) for start in best] if candidate.domains else list(best)
    left = [np.abs(candidate.at(r, end[None])[:, 0] - s) for end in ends]
    scores = [np.percentile(np.nan_to_num(each / noise, nan=1e30), _MOST) for each in left]
    at = int(np.argmin(scores))
    kept = left[at][left[at] / noise <= scores[at]]
    return ends[at], float(scores[at]), float(np.sqrt((kept**2).mean()) / pooled.scale)


def _starts(candidate: _Candidate, scale: float) -> np.ndarray:
    """(m, parameters) choices all over their domains."""
    axes = []
    for name, domain in candidate.domains.items():
        low, high = domain.low, domain.high
        if _by_ratio(domain):
            low, high = max(low, 1e-2), min(high, 1e4)
            axis = scale * np.array([1.0, 1.001, 2.0]) if name == 'clamp' else np.geomspace(low, high, _STARTS)
        else:
            axis = low + (high - low) * (np.arange(_STARTS) + 0.5) / _STARTS
        axes.append(axis)
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1) if axes else np.zeros((1, 0))


def _by_ratio(domain: Interval) -> bool:
    return domain.high > 10


def _refined(candidate: _Candidate, start: np.ndarray, r: np.ndarray, s: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The parameters by damped Gauss-Newton, samples weighted by their noise; steps that do not help are shortened."""
    domains, x, damping = list(candidate.domains.values()), start, 1e-3

    def residuals(choices):
        left = (candidate.at(r, choices) - s[:, None]) / noise[:, None]
        return np.clip(np.nan_to_num(left, nan=1e6), -1e6, 1e6)

    for _ in range(_ROUNDS):
        steps = np.maximum(np.abs(x), 1e-3) * 1e-5
        tried = residuals(np.vstack([x, x + np.diag(steps), x - np.diag(steps)]))
        now, count = tried[:, 0], x.size
        slopes = (tried[:, 1 : 1 + count] - tried[:, 1 + count :]) / (2 * steps)
        robust = 1 / np.maximum(1, np.abs(now) / (3 * max(np.median(np.abs(now)), 1e-3)))  # beside a jump
        normal, gradient = slopes.T @ (slopes * robust[:, None]), slopes.T @ (now * robust)
        moves = [
            np.linalg.lstsq(normal + d * np.diag(np.diag(normal)), -gradient, rcond=None)[0] for d in _ladder(damping)
        ]
        choices = np.stack([_inside(x, x + move, domains) for move in moves])
        losses = (np.minimum(residuals(choices), 1e6) ** 2 * robust[:, None]).sum(axis=0)
        at = int(np.argmin(losses))
        if not losses[at] < (now**2 * robust).sum():
            break
        moved, x, damping = np.abs(choices[at] - x) / np.maximum(np.abs(x), 1e-6), choices[at], _ladder(damping)[at]
        if moved.max() < 1e-9:
            break
    return x


def _ladder(damping: float) -> np.ndarray:
    return np.maximum(damping, 1e-9) * np.array([1e-3, 1.0, 1e3, 1e6])


def _inside(before: np.ndarray, after: np.ndarray, domains: list[Interval]) -> np.ndarray:
    """The step, cut where it would leave a domain: half the way to its end."""
    found = after.copy()
    for place, domain in enumerate(domains):
        low, high = domain.low, domain.high
        if after[place] <= low:
            found[place] = low if domain.low_included else (before[place] + low) / 2
        if after[place] >= high:
            found[place] = high if domain.high_included else (before[place] + high) / 2
    return found
