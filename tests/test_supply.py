"""What is installed is what the lock names, byte by byte; and no file that is read can run code.

The importers of pickle itself are counted in test_architecture.py.
"""

import ast
import itertools
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted(path for room in ('configs', 'qat', 'experiments', 'scripts') for path in (ROOT / room).rglob('*.py'))

ENVIRONMENTS = [
    default_environment()
    | {'python_version': python, 'python_full_version': f'{python}.0', 'platform_machine': machine}
    | {'sys_platform': system, 'platform_system': system.capitalize(), 'os_name': 'posix'}
    for python, (system, machine) in itertools.product(
        ('3.11', '3.12', '3.13'), (('linux', 'x86_64'), ('linux', 'aarch64'), ('darwin', 'arm64'))
    )
]
UNPICKLING_LIBRARIES = {'cloudpickle', 'dill', 'joblib', 'marshal', 'shelve'}
RUNS_WHAT_IT_READS = {'eval', 'exec', 'pandas.read_pickle', 'torch.load'} | {
    f'yaml.{name}' for name in ('load', 'load_all', 'full_load', 'full_load_all', 'unsafe_load', 'unsafe_load_all')
}
NUMPY_LOADS = {'numpy.load', 'jax.numpy.load'}


def entries(name: str) -> list[tuple[Requirement, list[str]]]:
    """The requirements of a file, each with its hashes."""
    lines = re.sub(r'(^|\s)#.*', '', (ROOT / name).read_text().replace('\\\n', ' '), flags=re.MULTILINE).splitlines()
    parts = [line.split(' --hash=') for line in lines if line.strip()]
    return [(Requirement(requirement), [text.strip() for text in hashes]) for requirement, *hashes in parts]


def versions(name: str, environment: dict[str, str]) -> dict[str, str]:
    """Package to specifier, of what an environment gets from a file."""
    wanted = [entry for entry, _ in entries(name) if entry.marker is None or entry.marker.evaluate(environment)]
    found = {canonicalize_name(entry.name): str(entry.specifier) for entry in wanted}
    assert len(found) == len(wanted), f'{name} names a package twice'
    return found


@pytest.mark.parametrize(
    'environment',
    ENVIRONMENTS,
    ids=lambda given: f'{given["python_version"]}-{given["sys_platform"]}-{given["platform_machine"]}',
)
def test_the_lock_has_every_requirement(environment):
    asked, locked = versions('requirements.txt', environment), versions('requirements.lock', environment)
    assert asked
    stale = {f'{name}{pin}' for name, pin in asked.items() if locked.get(name) != pin}
    assert not stale, 'make requirements.lock again; its first lines say how'
    twins = {'tensorflow', 'tensorflow-cpu'}  # which overwrite each other's files
    assert twins & asked.keys() == twins & locked.keys()


def test_every_pin_has_a_hash():
    for entry, hashes in entries('requirements.lock'):
        assert re.fullmatch(r'==[^*,]+', str(entry.specifier)), f'{entry} is no pin'
        assert hashes and all(re.fullmatch('sha256:[0-9a-f]{64}', text) for text in hashes), f'{entry} has no hash'


def test_the_installed_packages_agree():
    check = subprocess.run([sys.executable, '-m', 'pip', 'check'], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('pip-audit'), reason='pip-audit is not on PATH')
def test_the_lock_has_no_known_vulnerability():
    flags = ('--disable-pip', '--require-hashes', '--progress-spinner=off', '--format=json')
    done = subprocess.run(['pip-audit', '-r', ROOT / 'requirements.lock', *flags], capture_output=True, text=True)
    found = json.loads(done.stdout)['dependencies'] if done.stdout.startswith('{') else []
    audited = [package for package in found if 'skip_reason' not in package]
    if not audited:
        pytest.skip(f'pip-audit could not reach its data: {done.stderr[-200:]}')
    assert [f'{package["name"]} {flaw["id"]}' for package in audited for flaw in package['vulns']] == []


def dangers(code: str) -> list[str]:
    """What in a file may run code out of the data that it reads, as 'line: what'."""
    tree, meanings, safe, found = ast.parse(code), {}, set(), []

    def full_name(node):
        if isinstance(node, ast.Attribute):
            return f'{full_name(node.value)}.{node.attr}'
        return meanings.get(node.id, node.id) if isinstance(node, ast.Name) else '?'

    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or '.']
            meanings |= {alias.asname or alias.name: f'{node.module}.{alias.name}' for alias in node.names}
        elif isinstance(node, ast.Import):
            meanings |= {alias.asname: alias.name for alias in node.names if alias.asname}
        found += [f'{node.lineno}: {name}' for name in modules if name.split('.')[0] in UNPICKLING_LIBRARIES]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            allows = [keyword.value for keyword in node.keywords if keyword.arg == 'allow_pickle']
            if any(not (isinstance(value, ast.Constant) and value.value is False) for value in allows):
                found.append(f'{node.lineno}: allow_pickle')
            elif allows:
                safe.add(node.func)
    for node in ast.walk(tree):  # after the calls: a use that is no call, as in map(np.load, paths), is unsafe too
        name = full_name(node).removeprefix('builtins.') if isinstance(node, ast.Name | ast.Attribute) else ''
        if name in RUNS_WHAT_IT_READS or (name in NUMPY_LOADS and node not in safe):
            found.append(f'{node.lineno}: {name}')
    return found


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_that_is_read_can_run_code(path):
    assert dangers(path.read_text()) == []


@pytest.mark.parametrize(
    'code',
    [
        'import numpy as np\nnp.load(path)',
        'import numpy as np\nnp.load(path, allow_pickle=True)',
        'import numpy as np\nnp.load(path, allow_pickle=chosen)',
        'import numpy as np\nlist(map(np.load, paths))',
        'import numpy\nnumpy.load(path, **options)',
        'from numpy import load as read\nread(path)',
        'import jax.numpy as jnp\njnp.load(path)',
        'def f():\n    import joblib.memory',
        'from dill import loads',
        'import builtins\nbuiltins.eval(text)',
        'list(map(exec, texts))',
        'import yaml\nyaml.load(file, Loader=loader)',
        'import torch\ntorch.load(path)',
    ],
)
def test_dangers_are_seen(code):
    assert dangers(code)
