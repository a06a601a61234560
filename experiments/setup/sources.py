"""Python files that a user names, and so chose to run."""

import contextlib
import importlib.util
import modulefinder
import os
import pathlib
import sys
import types
from collections.abc import Iterator, Mapping
from importlib.machinery import PathFinder

from experiments.errors import UserError

_ROOT = pathlib.Path(__file__).parents[2]
_MAY_NAME_A_FILE = ('estimator', 'activation_estimator', 'init_map', 'pull_back', 'model')
_OURS = ('configs', 'qat', 'experiments', 'scripts', 'tests')  # of a newer version, they are the same to a run


def named(config: Mapping) -> list[str]:
    """Returns the Python files that a config names: those of its estimators and its model."""
    calls = [config[key].partition(':') for key in _MAY_NAME_A_FILE if key in config]
    return sorted({file for file, colon, _ in calls if colon})


def check_chosen(config: Mapping, chosen: bool, path: os.PathLike) -> None:
    """Refuses code that only a workdir names, unless the user has said that it may run.

    Args:
      config: of the workdir.
      chosen: whether the user has said so.
      path: of the config, for the message.

    Raises:
      UserError: naming the file.
    """
    if named(config) and not chosen:
        raise UserError(f'{path} names code, {", ".join(named(config))}: read it, and add --run-code to run it')


def files(path: str) -> list[str]:
    """Returns a Python file and those beside it that it imports, however deep; none is run to find out."""
    folder = os.path.dirname(path)
    is_ours = os.path.realpath(folder) == os.path.realpath(_ROOT)
    ours = [name for name in _OURS if is_ours or not os.path.lexists(os.path.join(folder, name))]
    finder = _Finder(path=[os.path.abspath(folder)], excludes=ours)
    with contextlib.suppress(Exception):  # what cannot be compiled is told where it is loaded
        finder.run_script(path)
    found = [module.__file__ for module in finder.modules.values() if module.__file__]
    return sorted({path, *(os.path.join(folder, os.path.relpath(file, folder or '.')) for file in found)})


class _Finder(modulefinder.ModuleFinder):
    """Of the standard library, which leaves out what it cannot import; but it stumbles over some of that."""

    def import_hook(self, *args, **options):
        try:
            return super().import_hook(*args, **options)
        except Exception as error:
            raise ImportError from error


def load(path: str, name: str) -> types.ModuleType:
    """Returns a Python file as a module, after running it as if alone: it sees no flags, but the modules beside it.

    No bytecode is written beside it, and nothing of it stays behind: neither in `sys.path` nor in `sys.modules`.

    Raises:
      ValueError: it is not a Python file.
      ImportError: it ends the program.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ValueError(f'{path!r} is not a Python file')
    module = importlib.util.module_from_spec(spec)
    with as_script(path):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def as_script(path: str) -> Iterator[None]:
    """Code of this file runs inside as `load` runs the file.

    Raises:
      ImportError: it ends the program.
    """
    with _alone(path), _beside(os.path.dirname(os.path.abspath(path))):
        try:
            yield
        except SystemExit as error:
            raise ImportError(f'it ends the program ({error}); put that under if __name__ == "__main__":') from None


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    """A command line without arguments, which are not for a user's file to parse, and no bytecode."""
    before = sys.argv, sys.dont_write_bytecode
    sys.argv, sys.dont_write_bytecode = [path], True
    try:
        yield
    finally:
        sys.argv, sys.dont_write_bytecode = before


@contextlib.contextmanager
def _beside(folder: str) -> Iterator[None]:
    """Modules of this folder can be imported, as if a script of it ran, and are forgotten afterwards."""
    if any(os.path.realpath(entry) == os.path.realpath(folder) for entry in sys.path):
        yield  # it is everybody's
        return
    before, own = set(sys.modules), []
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        for name in set(sys.modules) - before:
            top = name.partition('.')[0]
            found = PathFinder.find_spec(top, [folder])
            if found and found.origin == sys.modules[top].__spec__.origin:
                own.append(name)
        for name in own:
            del sys.modules[name]
