"""The estimators and models of a user: 'my_file.py:my_slope(x=3)' or 'my_file.py:MyModel(width=32)'.

A slope is tried in a child process first. If it never returns, or ends its process, the user gets one line of error.
"""

import dataclasses
import functools
import json
import math
import os
import pathlib
import resource
import selectors
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from typing import BinaryIO

import flax.linen as nn

from experiments.setup import sources
from qat import calls, estimators
from qat.auditing.subjects import CONTEXT

_SECONDS = 30  # of processor time, for the user's code, which may import heavy libraries: a busy machine does not count
_SECONDS_ASLEEP = 120  # in which it may wait, as for a process
_IMPORT_SECONDS = 600  # for the imports of this project, on a busy machine
_STARTED = b'started\n'


def load_estimator(file: str, call: str, bits: int | str) -> estimators.Estimator:
    """Returns an estimator from the slope in a Python file.

    Args:
      file: the path of the file.
      call: the name of the function, with arguments.
      bits: of the quantizer, or its name, see `qat.grids`.

    Raises:
      ValueError: there is no such file or function, or the function is not a slope, or does not return in time.
    """
    _check_is_file(file)
    problem = _problem(file, _content(file), call, bits)
    if problem:
        raise ValueError(problem)
    return _make(file, call, bits)


def load_model(file: str, call: str) -> Callable[..., nn.Module]:
    """Returns the Flax module class of a Python file with the arguments of the call; it takes more fields as keywords.

    Raises:
      ValueError: there is no such file or class, it is not a Flax module, or it does not take the arguments.
    """
    _check_is_file(file)
    name, arguments = calls.parse(call)
    found = _named(file, name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f'{name} of {file} is not a flax.linen.Module')
    return with_fields(found, arguments)


def load_function(file: str, call: str) -> Callable:
    """Returns a function of a Python file with the arguments of the call; what it raises later is a ValueError.

    Raises:
      ValueError: there is no such file or function, or it does not take the arguments.
    """
    _check_is_file(file)
    name, arguments = calls.parse(call)
    function = _at_home(file, _named(file, name))
    calls.bind(f'function {name!r}', function, arguments, {}, reserved=CONTEXT)

    @functools.wraps(function)
    def called(weights, **context):
        try:
            return function(weights, **arguments, **context)
        except Exception as error:  # a user's function may raise anything
            message = (str(error).strip().splitlines() or [''])[0]
            raise ValueError(f'{name} raised {type(error).__name__}: {message}') from error

    return called


def with_fields(model_class: Callable[..., nn.Module], arguments: dict) -> Callable[..., nn.Module]:
    """The Flax module class, or a partial of one, with these fields given.

    Raises:
      ValueError: a field that it does not have.
    """
    for key in arguments:
        if key not in fields(model_class):
            name = getattr(model_class, 'func', model_class).__name__
            raise ValueError(calls.unknown(f'field of {name}', key, fields(model_class)))
    return functools.partial(model_class, **arguments) if arguments else model_class


def fields(model_class: Callable[..., nn.Module]) -> list[str]:
    """Returns the names of the fields that a Flax module class, or a partial of one, can still be given."""
    given = getattr(model_class, 'keywords', {})
    declared = dataclasses.fields(getattr(model_class, 'func', model_class))
    return [field.name for field in declared if field.name not in ('parent', 'name', *given)]


def _check_is_file(file: str) -> None:
    if not os.path.isfile(file):
        raise ValueError(f'there is no file {file!r}')


def _content(file: str) -> tuple[tuple[str, bytes], ...]:
    """What a user's file is made of, by which it is told apart from an earlier one of its name."""
    return tuple((path, pathlib.Path(path).read_bytes()) for path in sources.files(file))


@functools.lru_cache
def _problem(file: str, content: tuple, call: str, bits: int | str) -> str | None:
    """Returns what goes wrong in a child process, or None. The cache keeps the same content from being tried again."""
    command = [sys.executable, '-m', __name__, file, call, str(bits), str(_SECONDS)]
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'stderr': subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, start_new_session=True, **pipes) as child:
        try:
            if _line(child, _IMPORT_SECONDS) != _STARTED:
                raise RuntimeError('the process that tries estimators did not start')
            answer = _line(child, _SECONDS_ASLEEP)
        finally:
            os.killpg(child.pid, signal.SIGKILL)  # what it has started too; it is not waited for yet, so that it exists
    if answer is None or child.returncode == -signal.SIGXCPU:
        seconds = _SECONDS_ASLEEP if answer is None else _SECONDS
        return f'{file}:{call} did not return within {seconds} s; put what runs under if __name__ == "__main__":'
    return json.loads(answer) if answer else f'{file}:{call} ended its process'


def _line(child: subprocess.Popen, seconds: float) -> bytes | None:
    """Returns the next line of the child, b'' if it has ended, or None if the time is up."""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        return child.stdout.readline() if selector.select(seconds) else None


def _make(file: str, call: str, bits: int | str) -> estimators.Estimator:
    name, arguments = calls.parse(call)
    return estimators.from_slope(_at_home(file, _named(file, name)), bits, name=name, **arguments)


def _named(file: str, name: str) -> Callable:
    try:
        module = _module(file, _content(file))
    except Exception as error:
        raise ValueError(f'{file} raised {type(error).__name__}: {error}') from error
    function = getattr(module, name, None)
    if not callable(function):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith('_')]
        raise ValueError(calls.unknown(f'function of {file}', name, functions))
    return function


@functools.lru_cache
def _at_home(file: str, function: Callable) -> Callable:
    """The function of a file, in which what it imports when it is called is found beside the file too."""
    if isinstance(function, type):
        return function  # which is refused, as what it is

    @functools.wraps(function)
    def called(*arguments, **options):
        with sources.as_script(file):
            return function(*arguments, **options)

    return called


@functools.lru_cache
def _module(file: str, content: tuple) -> types.ModuleType:
    """The module of a file, run once a process: a second run of the same would define its flags twice."""
    return sources.load(file, 'users_file')


def _child(file: str, call: str, bits: str, seconds: str) -> None:
    """Prints what goes wrong as JSON; stdin and stdout are kept from the user's code for this."""
    answers, parent = os.fdopen(os.dup(1), 'wb', buffering=0), os.fdopen(os.dup(0), 'rb')
    os.dup2(2, 1)
    os.dup2(2, 0)  # which is /dev/null
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(used.ru_utime + used.ru_stime) + int(seconds)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    answers.write(_STARTED)
    try:
        _make(file, call, int(bits) if bits.isdigit() else bits)
        problem = None
    except ValueError as error:
        problem = str(error)
    answers.write(json.dumps(problem).encode() + b'\n')
    os._exit(0)  # does not wait for threads of the user's code


def _end_with(parent: BinaryIO) -> None:
    """Kills this process and what it has started when its parent is gone, however that ended: the pipe is closed."""
    parent.read()
    os.killpg(0, signal.SIGKILL)


if __name__ == '__main__':
    _child(*sys.argv[1:])
