"""Reads `--config=FILE --config.KEY=VALUE ... --workdir=DIR`, through ml_collections' config flags."""

import os
from collections.abc import Iterable

import ml_collections
from absl import flags
from ml_collections import config_flags

from configs import common
from experiments.errors import UserError
from experiments.setup import config_file
from qat.calls import nearest, unknown

_SPACED = ('--config', '--out', '--workdir')  # flags whose value may follow after a space


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
    declared = common.get_config()
    for argument in rest:
        check_flag(argument, [f'--{folder}', *switches])
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict('config', declared, flag_values=values, sys_argv=['', *rest])
    flags.DEFINE_string(folder, '', 'Where the files go.', flag_values=values)
    try:
        left_over = values(['', *rest])[1:]
    except (flags.Error, TypeError, ValueError, AttributeError, KeyError) as error:
        raise UserError(f'command line: {error}') from None
    if left_over:
        raise UserError(f'command line: {left_over[0]!r} is not a flag; write --config.KEY=VALUE')
    if '://' in values[folder].value:
        raise UserError(f'{folder} {values[folder].value}: must be a folder; mount the bucket and give its path')
    given = [key for key in declared if any(argument.startswith(f'--config.{key}=') for argument in rest)]
    config = config_file.load(path, {key: declared[key] for key in given})
    return config, os.path.expanduser(values[folder].value)


def joined(argv: list[str]) -> list[str]:
    """Returns the command line with '--out DIR' as '--out=DIR', and so of every flag of _SPACED."""
    found = []
    for argument in argv:
        if found and found[-1] in _SPACED and not argument.startswith('--'):
            found[-1] = f'{found[-1]}={argument}'
        else:
            found.append(argument)
    return found


def _take_config(argv: list[str]) -> tuple[str, list[str]]:
    paths = [argument.partition('=')[2] for argument in argv if argument.startswith('--config=')]
    if len(paths) != 1:
        raise UserError('command line: give one --config=FILE, such as --config=configs/digits.py')
    return os.path.expanduser(paths[0]), [argument for argument in argv if not argument.startswith('--config=')]


def check_flag(argument: str, others: Iterable[str]) -> None:
    """Refuses what is neither a config key with a value, nor one of the other flags of a program.

    Raises:
      UserError: with the flag that is nearest.
    """
    name, equals, value = argument.partition('=')
    config = common.get_config()
    valid = [*others, *(f'--config.{key}' for key in config)]
    if not argument.startswith('--'):
        raise UserError(f'command line: {argument!r} is not a flag; write --config.KEY=VALUE')
    if name.startswith('--config.') and name not in valid:
        raise UserError(unknown('config key', name.removeprefix('--config.'), config))
    if name == '--help':
        raise UserError('command line: --help takes no value')
    if name not in valid:
        own = ['--config', *others, '--help']
        bare, key = name.lstrip('-'), nearest(name.lstrip('-'), config)
        if key and not nearest(bare, [flag.lstrip('-') for flag in own]):
            raise UserError(f'command line: {name!r} is not a flag; did you mean --config.{key}={value}?')
        raise UserError(unknown('flag', name, own))
    if not equals:
        raise UserError(f'command line: {name} needs a value, {name}=VALUE')
