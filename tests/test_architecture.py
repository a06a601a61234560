"""The arrows between rooms run one way, each heavy library has one importer, and every config key has a reader."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted(path for room in ('configs', 'qat', 'experiments', 'scripts') for path in (ROOT / room).rglob('*.py'))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]
ROOMS = {  # whom a room may import besides itself
    'configs': set(),
    'qat': set(),
    'experiments.errors': set(),
    'experiments.terminal': {'experiments.errors'},
    'experiments.allocation': set(),
    'experiments.command': {'experiments.allocation', 'experiments.errors'},
    'experiments.setup': {'configs', 'qat', 'experiments.errors'},
    'experiments.data': {'qat', 'experiments.errors', 'experiments.terminal'},
    'experiments.workdir': {'configs', 'qat', 'experiments.errors', 'experiments.terminal'},
}
ROOMS['experiments.results'] = {
    *('configs', 'qat', 'experiments.errors', 'experiments.terminal'),
    *('experiments.setup', 'experiments.data', 'experiments.workdir'),
}
ROOMS['experiments.comparison'] = {*ROOMS['experiments.results'], 'experiments.results'}
ROOMS['experiments.training'] = {*ROOMS['experiments.results'], 'experiments.results'}
ROOMS['experiments.sweeps'] = {*ROOMS['experiments.training'], 'experiments.training', 'experiments.command'}
ROOMS['experiments'] = {*ROOMS['experiments.sweeps'], 'experiments.sweeps', 'experiments.comparison'}  # the commands
ROOMS['scripts'] = {*ROOMS['experiments'], 'experiments'}
IMPORTERS = {
    'tensorflow': {'experiments/data/prepared.py'},
    'tensorflow_datasets': {'experiments/data/prepared.py'},
    'keras': {'scripts/benchmarks/in_keras.py'},
    'safetensors': {'experiments/workdir/pytorch.py', 'experiments/comparison/snapshots.py'},
    'orbax': {'experiments/workdir/checkpoints.py', 'experiments/comparison/orbax_trees.py'},
    'tensorboardX': {'experiments/workdir/events.py'},
    'qwix': {'scripts/auditing/qwix_layers.py'},
    'pickle': set(),
}
MODULE = re.compile(r'(configs|qat|experiments|scripts|tests)(\.\w+)*\.?')


def imports(path: pathlib.Path) -> set[str]:
    """Every module that a file imports, at any depth, as dotted names with what is taken from them.

    A string that is a module's name, as behind `-m` or in `importlib.import_module`, counts too.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, 'imports are absolute'
            found |= {f'{node.module}.{alias.name}' for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and '.' in node.value:
            found |= {node.value} if MODULE.fullmatch(node.value) else set()
    return found


def room(module: str) -> str:
    """The room that a dotted name lies in: the longest in the table that it begins with."""
    return max((name for name in ROOMS if f'{module}.'.startswith(f'{name}.')), key=len, default='')


def test_every_file_lies_in_a_room_and_every_room_has_a_file():
    found = {room(name.removesuffix('.py').replace('/', '.')) for name in NAMES}
    assert found == set(ROOMS)


@pytest.mark.parametrize('name', NAMES)
def test_arrows_run_one_way(name):
    own = room(name.removesuffix('.py').replace('/', '.'))
    for module in imports(ROOT / name):
        if MODULE.match(module) and module.partition('.')[0] in ('configs', 'qat', 'experiments', 'scripts', 'tests'):
            assert room(module) in {own, *ROOMS[own]}, f'{name} imports {module}'


def test_an_arrow_in_a_string_is_seen(tmp_path):
    file = tmp_path / 'file.py'
    file.write_text("command = ['python', '-m', 'scripts.sweep']\nimportlib.import_module(f'scripts.studies.{x}')\n")
    assert imports(file) == {'scripts.sweep', 'scripts.studies.'}


@pytest.mark.parametrize('package', sorted({str(pathlib.Path(name).parent) for name in NAMES}))
def test_every_package_says_what_lives_there(package):
    text = (ROOT / package / '__init__.py').read_text()
    assert len(ast.get_docstring(ast.parse(text)) or '') > 60, package


@pytest.mark.parametrize('library', IMPORTERS)
def test_heavy_libraries_have_one_importer_a_purpose(library):
    importers = {name for name in NAMES for module in imports(ROOT / name) if module.split('.')[0] == library}
    assert importers <= IMPORTERS[library]


def test_there_is_one_pmap():
    def uses(name: str) -> bool:
        tree = ast.parse((ROOT / name).read_text())
        return any(isinstance(node, ast.Attribute) and node.attr == 'pmap' for node in ast.walk(tree))

    assert [name for name in NAMES if uses(name)] == ['experiments/training/programs.py']


def in_the_locales_encoding(code: str) -> list[int]:
    """The lines that read or write text in whatever encoding the locale has."""
    found = []
    for call in (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, 'id', '')
        is_method = isinstance(call.func, ast.Attribute)
        of_a_library = is_method and getattr(call.func.value, 'id', '') in ('archive', 'gzip', 'os', 'tarfile', 'Image')
        opens = name == 'open' and not of_a_library
        binary = opens and any(isinstance(a, ast.Constant) and 'b' in str(a.value) for a in call.args)
        if (opens or (is_method and name in ('read_text', 'write_text'))) and not binary:
            found += [call.lineno] if all(keyword.arg != 'encoding' for keyword in call.keywords) else []
    return found


def test_text_is_utf_8_whatever_the_locale():
    assert {name: lines for name in NAMES if (lines := in_the_locales_encoding((ROOT / name).read_text()))} == {}
    assert in_the_locales_encoding("path.open('a')\nopen(x, 'rb')\nx.read_text(errors='replace')") == [1, 3]


def declared_keys() -> set[str]:
    tree = ast.parse((ROOT / 'configs/common.py').read_text())
    targets = [node.targets[0] for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    return {target.attr for target in targets if isinstance(target, ast.Attribute)}


def keys_read() -> set[str]:
    """What is taken from something called config, as an attribute that is read or by a constant key."""
    found = set()
    for path in FILES:
        if path.parent.name == 'configs':
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                key = node.attr
            elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                key = node.slice.value
            else:
                continue
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, 'id', '')
            if owner == 'config':
                found.add(key)
    return found


def test_every_config_key_is_read():
    assert declared_keys() <= keys_read(), declared_keys() - keys_read()
    assert 'a_key_nobody_reads' not in keys_read() and len(declared_keys()) > 30
