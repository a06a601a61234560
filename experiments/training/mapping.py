"""M of the weights in a file of PyTorch's: what STE starts from in somebody else's program."""

import fnmatch
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments.errors import UserError, blame
from experiments.setup.settings import Settings, resolve
from experiments.terminal import note
from experiments.workdir import pytorch
from experiments.workdir.files import replacing
from qat.lockstep import checks
from qat.ranges import rule
from qat.theory.weight_map import WeightMap

_SHOWN = 4  # ranges
_AXES = {'conv': 3, 'all': 2}  # the least of a weight that is quantized, see `Settings.quantized`


def write_mapped(source: pathlib.Path, target: pathlib.Path, config: ml_collections.ConfigDict) -> str:
    """Writes a copy of the file in which the quantized weights w are M(w); returns what to tell the user.

    The outputs are the first axis of a weight, as in PyTorch. The weights are those called `*weight`, of three axes or
    more (quantized=conv) or of two (all), or those whose name a pattern fits; each has a range of its own.

    Raises:
      UserError: before anything is written; there is no M, or no such weight, or one that is no floats.
    """
    config.twins = ''
    settings = resolve(config)
    if settings.transfer.transfer_class != 'map':
        why = f'{settings.config.optimizer}, class {settings.transfer.transfer_class}: {settings.transfer.reason}'
        raise UserError(f'no recipe begins at M(w0) under {why}. If you want M all the same, ask under SGD')
    if target.suffix != pytorch.SUFFIX or target.exists():
        raise UserError(f'--out: {target} must be a new file with the ending {pytorch.SUFFIX}')
    tensors = dict(pytorch.tensors(str(source), '--weights'))
    chosen = _quantized(tensors, config.quantized)
    if not chosen:
        raise UserError(
            f'quantized={config.quantized}: {source} has no such weight, its are {", ".join([*tensors][:6])}'
        )
    used, changed = _map(tensors, chosen, settings)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial:
            pytorch.write(partial, tensors)
    except OSError as error:
        raise UserError(f'--out: cannot write {target}: {error.strerror or error}') from None
    return (
        f'{target}: M({settings.estimator}) of {len(chosen)} weights: {", ".join(chosen)}\n'
        f'R by range={config.range}, {settings.estimator.quantizer.name}: {_listed(used)}; it must be the R of your '
        f'training\nCodes that M changes under this R: {changed} of {sum(tensors[name].size for name in chosen)}'
    )


def _map(tensors: dict[str, np.ndarray], chosen: list[str], settings: Settings) -> tuple[dict[str, str], int]:
    """Puts M of the chosen weights in their places; returns R of each in words, and how many codes are others now."""
    with blame('estimator'):
        weight_map = jax.jit(WeightMap(settings.estimator))
    if vectors := [name for name in chosen if tensors[name].ndim < 2]:
        note(f'1-axis weight included: {", ".join(vectors)}; --config.quantized chooses')
    used, changed = {}, 0
    for name in chosen:
        if not jnp.issubdtype(tensors[name].dtype, jnp.floating):
            raise UserError(
                f'--weights: {name} is {tensors[name].dtype}, M is of floats; choose by --config.quantized=PATTERN'
            )
        tensors[name], used[name], codes = _mapped(name, tensors[name], settings, weight_map)
        changed += codes
    return used, changed


def _quantized(tensors: Mapping[str, np.ndarray], wanted: str) -> list[str]:
    if wanted in _AXES:
        return [name for name, w in tensors.items() if name.endswith('weight') and w.ndim >= _AXES[wanted]]
    return [name for name in tensors if fnmatch.fnmatchcase(name, wanted)]


def _listed(used: Mapping[str, str]) -> str:
    more = f' ... ({len(used)} in all)' if len(used) > _SHOWN else ''
    return ', '.join(f'{name} {R}' for name, R in list(used.items())[:_SHOWN]) + more


def _mapped(name: str, weight: np.ndarray, settings: Settings, weight_map) -> tuple[np.ndarray, str, int]:
    """M of a weight, its R in words, and how many of its codes are others in M: none, but for float32."""
    theirs, ours = ((0, 1), (-1, -2)) if weight.ndim > 1 else (0, -1)  # (out, in, ...) -> (..., in, out)
    kernel = np.moveaxis(weight.astype(np.float32), theirs, ours)
    if not np.isfinite(kernel).all():
        raise UserError(f'--weights: {name} has numbers that are not finite')
    with blame(f'range={settings.config.range}'):
        R = rule(settings.config.range)(kernel)
        checks.ranges({name: R})
    moved, codes = weight_map(kernel, R), settings.estimator.quantizer.codes
    low, high, largest = float(np.min(R)), float(np.max(R)), float(np.abs(kernel).max())
    in_words = f'{low:.3g} (largest |w| {largest:.3g})' if low == high else f'{low:.3g} to {high:.3g}'
    changed = int((codes(moved, R) != codes(kernel, R)).sum())
    return np.ascontiguousarray(np.moveaxis(np.asarray(moved), ours, theirs)), in_words, changed
