"""The README's examples and commands, as they stand there."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from qat.lockstep.verdict import YES

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text()
NOT_AGAIN = ('bash scripts/test.sh',)  # these tests themselves


def blocks(language: str) -> list[str]:
    return re.findall(rf'```{language}\n(.*?)```', README, re.DOTALL)


PROGRAMS = [block for block in blocks('python') if 'qat.Lockstep(' in block]


ENDS = (  # of the programs
    'STE by the recipe trains like sine(lam=0.6) under the given optimizer (class map, ',
    'STE trains like dsq(k=6.5) under the given optimizer (class identity, ',
)


@pytest.mark.parametrize('number', [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_lockstep_in_a_loop_of_ones_own_ends_with_a_verdict(number, tmp_path):
    """Outside the checkout, with the library alone on the path; first a transformer block, then Flax NNX."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'XLA_FLAGS': ''}
    done = subprocess.run(
        [sys.executable, '-c', PROGRAMS[number]], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()[-1]
    assert said.startswith(f'{YES}, {ENDS[number]}')


def test_these_are_all_programs_of_the_readme():
    assert len(PROGRAMS) == 2 and len(blocks('python')) == 3


PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r'\]\(([^)#\s]+)(?:#[^)]*)?\)', page.read_text())
    missing = [link for link in links if '://' not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.slow
def test_every_command_runs_in_order(tmp_path):
    """In a copy of what is committed, in one shell for each block; the environment is the one that is there."""
    copy = tmp_path / 'clone'
    subprocess.run(['git', 'clone', '--quiet', str(ROOT), str(copy)], check=True)
    (copy / '.venv').symlink_to(pathlib.Path(sys.executable).parents[1])
    shutil.copy(ROOT / 'README.md', copy / 'README.md')
    (slope,) = [block for block in blocks('python') if block.startswith('# my_file.py')]
    (copy / 'my_file.py').write_text(slope)
    environment = {key: value for key, value in os.environ.items() if key not in ('JAX_PLATFORMS', 'XLA_FLAGS')}
    for block in blocks('bash'):
        commands = [line for line in block.splitlines() if not line.startswith(NOT_AGAIN)]
        script = '\n'.join(['set -e', 'source .venv/bin/activate', *commands])
        done = subprocess.run(['bash', '-c', script], cwd=copy, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f'{block}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}'
