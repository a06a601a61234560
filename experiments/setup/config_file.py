"""A config file, of Python or JSON, as a config of the keys and the types that configs/common.py declares.

What is behind this door can rely on that; whether a value makes sense is for `settings` to say.
"""

import inspect
import json
import numbers
import os
import pathlib
from collections.abc import Mapping

import ml_collections

from configs import common
from experiments.errors import UserError
from experiments.setup import sources
from qat.calls import unknown

_LARGEST = 2**20  # bytes; ours have 2,000
_KINDS = {  # by the declared type: what is taken for it, and how that is called
    bool: (bool, 'True or False'),
    int: (numbers.Integral, 'a whole number'),
    float: (numbers.Real, 'a number'),
    str: (str, 'a text of printable characters'),
}


def load(path: str, overrides: Mapping[str, object] | None = None) -> ml_collections.ConfigDict:
    """Returns the config of a Python file with `get_config`, or of the config.json of a run, which may lack keys.

    Args:
      path: of the file; FILE.py:ARGUMENT for the config of `get_config(ARGUMENT)`.
      overrides: values by key that replace those of the file, also placeholders and what is computed from them.

    Raises:
      UserError: there is no such file, it cannot be loaded, or its keys or their types are not those of
        configs/common.py.
    """
    file, argument = _split(path)
    try:
        if os.path.getsize(file) > _LARGEST:
            raise ValueError(f'it has {os.path.getsize(file) / 1e6:,.0f} MB, and a config has less than 1')
        config = _from_json(file) if file.endswith('.json') else _from_python(file, argument)
        config.update(overrides or {})
    except UserError:
        raise
    except Exception as error:
        raise UserError(f'config: cannot load {path}: {type(error).__name__}: {_text(error)}') from None
    return _checked(path, config)


def _split(path: str) -> tuple[str, list[str]]:
    """The file, and what stands behind the colon."""
    file, colon, argument = (path, '', '') if os.path.isfile(path) else path.partition(':')
    if not os.path.isfile(file):
        raise UserError(f'config: there is no file {file!r}; try --config=configs/digits.py')
    if colon and file.endswith('.json'):
        raise UserError(f'config: {file} takes no argument, got {argument!r}; only get_config of a Python file does')
    return file, [argument] if colon else []


def _from_json(file: str) -> ml_collections.ConfigDict:
    content = json.loads(pathlib.Path(file).read_bytes(), object_pairs_hook=_once)
    if not isinstance(content, dict):
        raise ValueError('it must hold an object, {"KEY": VALUE, ...}')
    # Older runs have fewer keys.
    return ml_collections.ConfigDict({**common.get_config().to_dict(), **content}, type_safe=False)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f'{key} is given twice')
    return dict(pairs)


def _from_python(file: str, argument: list[str]) -> ml_collections.ConfigDict:
    get_config = getattr(sources.load(file, 'config'), 'get_config', None)
    if not callable(get_config):
        raise UserError(f'config: {file} has no function get_config(); see configs/digits.py')
    try:
        inspect.signature(get_config).bind(*argument)
    except TypeError as error:
        raise UserError(f'config: get_config of {file}: {error}; an argument goes behind a colon, {file}:ARG') from None
    with sources.as_script(file):
        config = get_config(*argument)
    if not isinstance(config, ml_collections.ConfigDict | ml_collections.FrozenConfigDict | dict):
        raise UserError(f'config: get_config of {file} must return a ConfigDict, got {_told(config)}')
    # As it is: keys that are no text cannot be sorted, and what it holds, perhaps itself, is looked at below.
    return ml_collections.ConfigDict(config, type_safe=False, convert_dict=False, sort_keys=False)


def _checked(path: str, config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The same values, each of the declared type; references are followed, and ~ is the user's home."""
    declared = common.get_config()
    for key in config:
        if key not in declared:
            raise UserError(f'config: {path}: {unknown("key", str(key), declared)}')
    missing = [key for key in declared if key not in config]
    if missing:
        more = f' and {len(missing) - 1} more' if missing[1:] else ''
        raise UserError(f'config: {path} lacks {missing[0]}{more}; begin with config = common.get_config()')
    for key, default in declared.items():
        try:
            value = config[key]
        except Exception as error:  # a required placeholder, or what is computed from it
            raise UserError(f'config: {path}: {key} has no value, {error}; give --config.{key}=VALUE') from None
        try:
            declared[key] = _typed(value, type(default))
        except (ValueError, OverflowError):
            wanted = f'must be {_KINDS[type(default)][1]}, as in config.{key} = {default!r}'
            raise UserError(f'config: {path}: {key} {wanted}, got {_told(value)}') from None
    return declared


def _typed(value: object, kind: type) -> bool | int | float | str:
    if not isinstance(value, _KINDS[kind][0]) or isinstance(value, bool) != (kind is bool):
        raise ValueError
    if kind is str:
        if not value.isprintable():
            raise ValueError
        return os.path.expanduser(value)
    if kind is int and abs(value) >= 2**63:
        raise ValueError
    return kind(value)


def _told(value: object) -> str:
    """A value that is short, or what kind of thing it is."""
    try:
        return repr(value) if value is None or isinstance(value, numbers.Number | str) else f'a {type(value).__name__}'
    except Exception:  # thousands of digits, or a class of the user's
        return f'a huge {type(value).__name__}'


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # of a class of the user's
        return 'with a message that cannot be read'
