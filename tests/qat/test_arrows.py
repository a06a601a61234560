"""The arrows between the library's modules run one way, and it needs little besides itself."""

import ast
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
FILES = sorted((ROOT / 'qat').rglob('*.py'))

# What each module may import of the library; a package's __init__ imports nothing but under its own name here.
THEORY = {
    f'theory.{part}' for part in ('closed_forms', 'coverage', 'weight_map', 'recipe', 'pull_back', 'small_parameters')
}
BELOW_LOCKSTEP = {
    'activations',
    'weights',
    'calls',
    'clipping',
    'policies',
    'ranges',
    'quantizers',
    'slopes',
    'estimators',
    'optimizers',
    'trajectory',
}
MAY_IMPORT = {
    'calls': set(),
    'quantizers': set(),
    'grids': {'calls', 'quantizers'},
    'clipping': {'calls', 'quantizers'},
    'ranges': {'calls'},
    'theory.closed_forms': set(),
    'slopes': {'calls', 'clipping', 'theory.closed_forms'},
    'trial': set(),
    'estimators': {'calls', 'clipping', 'grids', 'quantizers', 'slopes', 'trial'},
    'policies': {'calls', 'estimators', 'quantizers', 'ranges'},
    'activations': {'estimators'},
    'theory.sampling': {'estimators'},
    'theory.quadrature': {'estimators', 'theory.sampling'},
    'theory.coverage': {'estimators', 'theory.quadrature', 'theory.sampling'},
    'theory.weight_map': {'estimators', 'theory.closed_forms', 'theory.coverage', 'theory.quadrature'},
    'transfer': {'calls'},
    'optimizers': {'calls', 'transfer', 'weights'},
    'theory.recipe': {
        *('calls', 'estimators', 'transfer'),
        *('theory.coverage', 'theory.sampling', 'theory.weight_map'),
    },
    'theory.pull_back': {'estimators', 'transfer', 'theory.weight_map'},
    'theory.small_parameters': {'estimators', 'optimizers', 'theory.sampling'},
    'trajectory': set(),
    'convolution': set(),
    'pooling': set(),
    'layers': {'convolution', 'estimators', 'ranges'},
    'weights': set(),
    'lockstep.verdict': set(),
    'lockstep.twins': {'calls', 'estimators', 'transfer', *THEORY},
    'lockstep.blocks': set(),
    'lockstep.devices': set(),
    'lockstep.tracking': {'quantizers', 'trajectory', 'weights', 'lockstep.blocks'},
    'lockstep.state': {'lockstep.tracking'},
    'lockstep.evaluation': {'lockstep.twins'},
    'lockstep.checks': {'optimizers', 'lockstep.state'},
    'lockstep.finiteness': {'lockstep.state', 'weights'},
    'probe': {'transfer', 'weights'},
    'lockstep.spec': {'activations', 'estimators', 'transfer', 'policies', 'ranges', 'lockstep.twins'},
    'lockstep.plan': {'estimators', 'transfer', 'policies', 'lockstep.spec', 'lockstep.twins', 'weights', *THEORY},
    'lockstep.ranged': {'policies', 'weights', 'lockstep.plan'},
    'lockstep.updating': {'weights', 'lockstep.plan'},
    'lockstep.cautions': {'trajectory', 'weights', 'lockstep.plan', 'lockstep.state', 'lockstep.twins', *THEORY},
    'lockstep.conversion': {'estimators', 'optimizers', 'transfer', 'lockstep.state', 'weights', *THEORY},
    'lockstep.lockstep': {
        *BELOW_LOCKSTEP,
        *THEORY,
        'probe',
        *(
            f'lockstep.{part}'
            for part in (
                'cautions',
                'checks',
                'devices',
                'evaluation',
                'plan',
                'ranged',
                'spec',
                'state',
                'tracking',
                'twins',
            )
        ),
        *('lockstep.updating', 'lockstep.verdict'),
    },
    'auditing': set(),
    'auditing.samples': set(),
    'auditing.levels': {'auditing.samples'},
    'auditing.outside': {'clipping', 'auditing.levels', 'auditing.samples'},
    'auditing.cells': {'auditing.levels', 'auditing.outside', 'auditing.samples'},
    'auditing.moved': {'auditing.levels', 'auditing.outside', 'auditing.samples'},
    'auditing.lacks': {'quantizers', 'auditing.cells', 'auditing.levels', 'auditing.samples'},
    'auditing.agreement': {'estimators', 'theory.sampling', 'auditing.cells', 'auditing.outside'},
    'auditing.matching': {'calls', 'slopes', 'auditing.cells'},
    'auditing.subjects': set(),
    'auditing.probing': {'auditing.subjects'},
    'auditing.audits': {
        *('estimators', 'grids', 'quantizers', 'theory.coverage', 'theory.weight_map'),
        *(f'auditing.{part}' for part in ('agreement', 'cells', 'lacks', 'levels', 'matching', 'moved', 'outside')),
        *('auditing.probing', 'auditing.samples'),
    },
    'auditing.functions': {'auditing.audits', 'auditing.probing', 'auditing.samples'},
    'auditing.latent': {'weights'},
    'api': {
        *('estimators', 'optimizers', 'lockstep.lockstep', 'lockstep.state'),
        *('auditing.audits', 'auditing.latent'),
    },
    '': {'api'},
    'theory': set(),
    'lockstep': set(),
    'models': set(),
}
LIBRARIES = {'jax', 'flax', 'optax', 'numpy'}


def name_of(path: pathlib.Path) -> str:
    return '.'.join(path.relative_to(ROOT / 'qat').with_suffix('').parts).removesuffix('__init__').removesuffix('.')


MODULES = {name_of(path): path for path in FILES}
# A model imports nothing of the library but the layers that models share.
MAY_IMPORT |= {name: {'models.normalization'} for name in MODULES if name.startswith('models.')}
MAY_IMPORT |= {'models.normalization': set()}


def imports(path: pathlib.Path) -> set[str]:
    """Every module that a file imports, at any depth, with what is taken from it where that is a module of qat."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'{path} imports relatively'
            for alias in node.names:
                submodule = f'{node.module}.{alias.name}'
                found.add(submodule if submodule.removeprefix('qat.') in MODULES else node.module)
    return found


def test_every_module_has_its_place():
    assert set(MODULES) == set(MAY_IMPORT)


def test_the_table_itself_runs_one_way():
    """A module's place is below all that may import it: the table can be put in an order."""
    placed, left = set(), dict(MAY_IMPORT)
    while left:
        free = {name for name, below in left.items() if below <= placed}
        assert free, f'these import each other: {sorted(left)}'
        placed |= free
        left = {name: below for name, below in left.items() if name not in free}


@pytest.mark.parametrize('name', MODULES)
def test_a_module_imports_what_stands_below_it(name):
    own = {module.removeprefix('qat.') for module in imports(MODULES[name]) if module.split('.')[0] == 'qat'}
    assert own <= MAY_IMPORT[name], f'qat.{name} imports {own - MAY_IMPORT[name]}'


@pytest.mark.parametrize('name', MODULES)
def test_a_module_imports_four_libraries_and_python(name):
    tops = {module.split('.')[0] for module in imports(MODULES[name])} - {'qat'}
    allowed = {'jax', 'flax'} if name.startswith('models.') else LIBRARIES
    assert tops <= allowed | set(sys.stdlib_module_names), f'qat.{name} imports {tops - allowed}'
    # A pure library: it opens no files, starts no processes and reads no command line.
    assert not tops & {'os', 'pathlib', 'io', 'subprocess', 'argparse', 'logging', 'shutil', 'tempfile'}


def loaded_by(code: str) -> set[str]:
    """The modules that are loaded when a new Python has run this."""
    code += '; import json, sys; print(json.dumps(sorted(sys.modules)))'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.fixture(scope='module')
def with_qat():
    return loaded_by('import qat; qat.Lockstep, qat.Moment, qat.estimator, qat.optimizer')


def test_the_library_loads_nothing_that_a_trainer_needs(with_qat):
    assert {'qat.lockstep.lockstep', 'qat.api'} <= with_qat
    assert 'absl.app' not in with_qat  # optax itself loads absl.logging, and that absl.flags
    heavy = {'tensorflow', 'tensorflow_datasets', 'matplotlib', 'ml_collections', 'tqdm', 'tensorboardX', 'pandas'}
    assert not {module.split('.')[0] for module in with_qat} & heavy


def test_orbax_and_absl_come_with_the_libraries_or_not_at_all(with_qat):
    """Whatever of them is loaded, jax, flax and optax load by themselves."""
    libraries = loaded_by('import flax.linen, flax.struct, jax, numpy, optax, optax.contrib')

    def of_others(modules):
        return {module for module in modules if module.split('.')[0] in ('orbax', 'absl')}

    assert of_others(with_qat) <= of_others(libraries)


def test_a_bare_import_waits_for_nothing():
    assert not {'jax', 'flax', 'optax', 'numpy'} & loaded_by('import qat, qat.calls')


def test_public_names():
    import qat
    from qat import api

    assert set(qat.__all__) == set(api.__all__) <= set(dir(qat))
    assert all(getattr(qat, name) is getattr(api, name) for name in qat.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Lockstop'"):
        qat.Lockstop  # noqa: B018
