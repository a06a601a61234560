"""What a finished run left in its workdir, read back: a copy may lack files, or hold what no run wrote."""

import pathlib
from collections.abc import Iterable

import numpy as np

from experiments.errors import UserError
from experiments.results.metrics import BY_CODE
from experiments.workdir.files import read_json
from experiments.workdir.rows import read_rows
from qat.lockstep.twins import REFERENCE

SAMPLES = 'samples.json'
_OUTCOMES = ('accuracy', 'loss')
_OF_THE_LIMIT = ('errors', 'learning_rates', 'seeds', 'order', 'low', 'high')  # none where no ladder was asked for


def rows(workdir: pathlib.Path) -> list[dict]:
    """Returns the rows of metrics.jsonl.

    Raises:
      UserError: there are none.
    """
    found = read_rows(workdir)
    if not found:
        raise UserError(f'{workdir / "metrics.jsonl"} holds no rows of a run; copy the whole workdir, or run it again')
    return found


def result(workdir: pathlib.Path, twins: Iterable[str] = ()) -> dict:
    """Returns the content of summary.json.

    Args:
      workdir: of the run.
      twins: that must be in it.

    Raises:
      UserError: it is missing, or not the summary of such a run.
    """
    path = workdir / 'summary.json'
    found = read_json(path)
    if not _is_result(found) or set(twins) - found['twins'].keys():
        raise UserError(f'{path} is not the summary of this run; put it back, or start the run again, which writes it')
    return found


def weights(workdir: pathlib.Path, twins: Iterable[str]) -> dict[str, np.ndarray]:
    """Returns the sampled weights of the reference and the twins, by 'RUN/LAYER'.

    Raises:
      UserError: they are missing, damaged, or of another run.
    """
    path = workdir / 'weights.npz'
    try:
        if not path.is_file():
            raise ValueError('there is no such file')
        with path.open('rb') as file, np.load(file, allow_pickle=False) as archive:
            found = dict(archive)
        layers = [name.removeprefix(f'{REFERENCE}/') for name in found if name.startswith(f'{REFERENCE}/')]
        for layer in layers:
            shapes = {found[f'{run}/{layer}'].shape for run in (REFERENCE, *twins)}
            if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
                raise ValueError(f'the weights of {layer} differ in number')
        if not layers or not all(np.isfinite(array).all() for array in found.values()):
            raise ValueError('it holds no finite weights')
        return found
    except Exception as error:  # numpy and zipfile have no common class for what is damaged
        reason = f'it lacks {error}' if isinstance(error, KeyError) else str(error)[:100] or type(error).__name__
        raise UserError(f'cannot read {path}: {reason}; copy the whole workdir, or start the run again') from None


def samples(workdir: pathlib.Path) -> dict[str, str]:
    """Returns what the models made up, by run; nothing where the task has no samples, or the run is older.

    Raises:
      UserError: the file is damaged.
    """
    path = workdir / SAMPLES
    found = read_json(path) if path.exists() else {}
    if not all(isinstance(text, str) for text in found.values()):
        raise UserError(f'{path} holds no samples of a run; put it back, or start the run again, which writes it')
    return found


def environment(workdir: pathlib.Path) -> dict | None:
    """Returns the content of environment.json, or None: nothing depends on it."""
    try:
        found = read_json(workdir / 'environment.json')
    except UserError:
        return None
    texts = [found.get(key) for key in ('command', 'python', 'platform', 'devices')]
    return found if all(isinstance(text, str) for text in texts) and isinstance(found.get('versions'), dict) else None


def _is_result(found: dict) -> bool:
    reference, twins, limit = found.get(REFERENCE), found.get('twins'), found.get('limit', {'answer': ''})
    of_memory = [found[key] for key in ('kappa', 'slope_change') if found.get(key) is not None]  # a run may be older
    return (
        type(found.get('steps')) is int
        and isinstance(found.get('verdict'), str)
        and isinstance(twins, dict)
        and all(map(_are_numbers, (reference, *twins.values(), *of_memory)))
        and set(_OUTCOMES) <= reference.keys()
        and isinstance(limit, dict)
        and isinstance(limit.get('answer'), str)
        and (not limit.get('errors') or _is_limit(limit))
    )


def _are_numbers(metrics) -> bool:
    if not isinstance(metrics, dict) or not all(isinstance(metrics.get(key) or [], list) for key in BY_CODE):
        return False
    values = [value for key, value in metrics.items() if key not in BY_CODE]
    values += [share for key in BY_CODE for share in metrics.get(key) or []]
    return all(value is None or type(value) in (int, float) for value in values)


def _is_limit(limit: dict) -> bool:
    """Whether the errors of a ladder are a table, a line a seed."""
    try:
        shapes = {np.asarray(errors, np.float64).shape for errors in limit['errors'].values()}
        rates = np.asarray(limit['learning_rates'], np.float64)
        return set(_OF_THE_LIMIT) <= limit.keys() and shapes == {(limit['seeds'], *rates.shape)} and rates.ndim == 1
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
