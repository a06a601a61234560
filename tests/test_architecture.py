"""The arrows between modules run one way, and each heavy library has one importer."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted(path for room in ('configs', 'qat', 'experiments', 'scripts') for path in (ROOT / room).rglob('*.py'))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

ROOMS_ABOVE = {
    'configs': {'qat', 'experiments', 'scripts'},
    'qat': {'configs', 'experiments', 'scripts'},
    'experiments': {'scripts'},
}
QAT_ORDER = ['calls', 'quantizers', 'slopes', 'estimators', 'equivalence']
PURE = {'jax', 'flax', 'optax', 'numpy', 'qat'}
STANDARD = {'ast', 'collections', 'dataclasses', 'difflib', 'functools', 'inspect', 'math', 'sys'}
ONLY_IMPORTER = {
    'tensorflow': 'experiments/data/prepared.py',
    'tensorflow_datasets': 'experiments/data/prepared.py',
    'orbax': 'experiments/workdir/checkpoints.py',
    'tensorboardX': 'experiments/workdir/records.py',
    'pickle': None,
}


def imports(path: pathlib.Path) -> set[str]:
    """Every module that a file imports, at any depth, as dotted names with what is taken from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f'{node.module}.{alias.name}' for alias in node.names}
    return found


@pytest.mark.parametrize('name', NAMES)
def test_nothing_imports_what_stands_above_it(name):
    room = name.split('/')[0]
    for module in imports(ROOT / name):
        assert module.split('.')[0] not in ROOMS_ABOVE.get(room, set()), f'{name} imports {module}'


@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith('qat/')])
def test_the_library_is_pure(name):
    tops = {module.split('.')[0] for module in imports(ROOT / name)}
    assert tops <= PURE | STANDARD, f'{name} imports {tops - PURE - STANDARD}'


def test_the_library_is_ordered():
    for position, name in enumerate(QAT_ORDER):
        for module in imports(ROOT / f'qat/{name}.py'):
            later = [*QAT_ORDER[position + 1 :], 'layers', 'convnet', 'optimizers', 'trajectory']
            assert not any(f'qat.{other}' in f'{module}.' for other in later), f'{name} imports {module}'
    assert not any(module.startswith('qat') for module in imports(ROOT / 'qat/models/convnet.py')), (
        'models use no sibling'
    )


@pytest.mark.parametrize('library', ONLY_IMPORTER)
def test_heavy_libraries_have_one_importer(library):
    importers = {name for name in NAMES for module in imports(ROOT / name) if module.split('.')[0] == library}
    assert importers <= {ONLY_IMPORTER[library]}


def test_there_is_one_pmap():
    assert [name for name in NAMES if 'jax.pmap' in (ROOT / name).read_text().replace('`jax.pmap`', '')] == [
        'experiments/training/programs.py'
    ]


def test_every_config_key_is_read():
    declared = {
        node.targets[0].attr
        for node in ast.walk(ast.parse((ROOT / 'configs/common.py').read_text()))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)
    }
    code = '\n'.join(path.read_text() for path in FILES if path.parent.name != 'configs')
    assert declared
    for key in declared:
        assert f'config.{key}' in code or f"config['{key}']" in code or f'config["{key}"]' in code, (
            f'nobody reads {key}'
        )
