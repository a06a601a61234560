"""What --help says, read from the sources of what it tells of: it is answered without importing jax."""

import ast
import pathlib
import textwrap
from collections.abc import Iterator

import qat
from configs import common

_QAT = pathlib.Path(qat.__file__).parent


def usage(introduction: str) -> str:
    """Returns the introduction, and every config key with its default and comment, every estimator and optimizer."""
    sections = {
        'Config keys and their defaults:': list(keys()),
        'Estimators, with their arguments (what they are: qat/slopes.py):': _indented(estimators()),
        'Optimizers, with theirs (qat/optimizers.py):': _indented(optimizers()),
    }
    return (introduction or '') + ''.join(f'\n{title}\n' + '\n'.join(lines) + '\n' for title, lines in sections.items())


def keys() -> Iterator[str]:
    """Yields every config key with its default, and below it the comments beside it and right above it."""
    above = []
    for line in pathlib.Path(common.__file__).read_text(encoding='utf-8').splitlines():
        declaration, _, beside = line.strip().partition('  # ')
        if declaration.startswith('config.') and ' = ' in declaration:
            key, _, default = declaration.removeprefix('config.').partition(' = ')
            yield '\n      '.join([f'  {key} = {default}', *([beside] if beside else []), *above])
        above = [*above, declaration.removeprefix('# ')] if declaration.startswith('# ') else []


def estimators() -> list[str]:
    """Returns every estimator of the catalogue as a call, 'sine(lam=0.6)'."""
    return [_call(node.name, node) for node in _functions('slopes.py') if node.decorator_list]


def optimizers() -> list[str]:
    """Returns every optimizer as a call, 'sgd(momentum=0.0, nesterov=False)'."""
    return [_call(node.name[1:], node) for node in _functions('optimizers.py') if 'learning_rate' in _leading(node)]


def _functions(file: str) -> list[ast.FunctionDef]:
    tree = ast.parse((_QAT / file).read_text(encoding='utf-8'))
    return [node for node in tree.body if isinstance(node, ast.FunctionDef)]


def _leading(function: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in function.args.args]


def _call(name: str, function: ast.FunctionDef) -> str:
    """The keyword arguments that have a default; what a slope is handed besides has none."""
    pairs = zip(function.args.kwonlyargs, function.args.kw_defaults)
    given = [f'{argument.arg}={ast.unparse(default)}' for argument, default in pairs if default]
    return f'{name}({", ".join(given)})' if given else name


def _indented(lines: list[str]) -> list[str]:
    return [textwrap.fill(line, 80, initial_indent='  ', subsequent_indent='      ') for line in lines]
