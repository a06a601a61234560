"""Reads `--config=FILE --config.KEY=VALUE ... --workdir=DIR`, through ml_collections' config flags."""

import json
import pathlib

import ml_collections
from absl import flags
from ml_collections import config_flags

from configs import common
from experiments.errors import UserError
from experiments.setup import sources
from qat.calls import unknown


def parse(
    argv: list[str], folder: str = 'workdir', switches: tuple[str, ...] = ()
) -> tuple[ml_collections.ConfigDict, str]:
    """Returns the config with its overrides, and the folder to write to ('' if none is given).

    Args:
      argv: the command line, without the program's name and its switches.
      folder: the name of the flag that gives the folder.
      switches: the program's flags without a value, for the message about an unknown one.

    Raises:
      UserError: there is no config, a flag or key is unknown, a value has the wrong type, a character cannot be
        printed, or the folder is a bucket.
    """
    for argument in argv:
        if not argument.isprintable():  # control characters, and bytes that are not UTF-8
            raise UserError(f'command line: {argument!r} has characters that cannot be printed; write it without')
    path, rest = _take_config(argv)
    config = load(path)
    for argument in rest:
        _check_flag(argument, config, [f'--{folder}', *switches])
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict('config', config, flag_values=values, sys_argv=['', *rest])
    flags.DEFINE_string(folder, '', 'Where the files go.', flag_values=values)
    try:
        left_over = values(['', *rest])[1:]
    except (flags.Error, TypeError, ValueError, AttributeError, KeyError) as error:
        raise UserError(f'command line: {error}') from None
    if left_over:
        raise UserError(f'command line: {left_over[0]!r} is not a flag; write --config.KEY=VALUE')
    if '://' in values[folder].value:
        raise UserError(f'{folder} {values[folder].value}: must be a folder; mount the bucket and give its path')
    return config, values[folder].value


def _take_config(argv: list[str]) -> tuple[str, list[str]]:
    paths = [argument.partition('=')[2] for argument in argv if argument.startswith('--config=')]
    if len(paths) != 1:
        raise UserError('command line: give one --config=FILE, such as --config=configs/digits.py')
    return paths[0], [argument for argument in argv if not argument.startswith('--config=')]


def _check_flag(argument: str, config: ml_collections.ConfigDict, others: list[str]) -> None:
    name, equals, _ = argument.partition('=')
    valid = [*others, *(f'--config.{key}' for key in config)]
    if not argument.startswith('--'):
        raise UserError(f'command line: {argument!r} is not a flag; write --config.KEY=VALUE')
    if name.startswith('--config.') and name not in valid:
        raise UserError(unknown('config key', name.removeprefix('--config.'), config))
    if name == '--help':
        raise UserError('command line: --help takes no value')
    if name not in valid:
        raise UserError(unknown('flag', name, ['--config', *others, '--help']))
    if not equals:
        raise UserError(f'command line: {name} needs a value, {name}=VALUE')


def load(path: str) -> ml_collections.ConfigDict:
    """Returns the config of a Python file with `get_config`, or of the config.json of a run.

    Raises:
      UserError: there is no such file, it cannot be loaded, or it has keys that configs/common.py lacks.
    """
    if not pathlib.Path(path).is_file():
        raise UserError(f'config: there is no file {path!r}; try --config=configs/digits.py')
    try:
        config = _from_json(path) if path.endswith('.json') else _from_python(path)
    except Exception as error:
        raise UserError(f'config: cannot load {path}: {type(error).__name__}: {error}') from None
    for key in config:
        if key not in common.get_config():
            raise UserError(f'config: {path}: {unknown("key", key, common.get_config())}')
    return config


def _from_json(path: str) -> ml_collections.ConfigDict:
    config = common.get_config()
    config.update(json.loads(pathlib.Path(path).read_text(encoding='utf-8')))
    return config


def _from_python(path: str) -> ml_collections.ConfigDict:
    return sources.load(path, 'config').get_config()


def usage(introduction: str) -> str:
    """Returns what --help prints: the introduction, and every config key with its default and its comment."""
    keys = []
    for line in pathlib.Path(common.__file__).read_text(encoding='utf-8').splitlines():
        declaration, _, comment = line.strip().partition('  # ')
        if declaration.startswith('config.') and ' = ' in declaration:
            key, _, default = declaration.removeprefix('config.').partition(' = ')
            keys.append(f'  {key} = {default}' + (f'\n      {comment}' if comment else ''))
    return introduction + '\nConfig keys and their defaults:\n' + '\n'.join(keys)
