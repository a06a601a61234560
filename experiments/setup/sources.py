"""Python files that a user names, and so chose to run."""

import importlib.util
import sys
import types


def load(path: str, name: str) -> types.ModuleType:
    """Returns a Python file as a module, after running it; no bytecode is written beside it.

    Raises:
      ValueError: it is not a Python file.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ValueError(f'{path!r} is not a Python file')
    module = importlib.util.module_from_spec(spec)
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes_bytecode
    return module
