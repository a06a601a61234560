"""A user's file: what is no slope is refused in words, and what never returns costs seconds."""

import pathlib
import sys
import time

import pytest

from experiments import explain
from experiments.errors import USERS_ERROR
from experiments.setup import users
from qat.estimators import make
from qat.theory.weight_map import alpha

SLOPES = """
import functools
import os
import jax.numpy as jnp
print('printing does no harm')
def fine(r, *, lam=0.6): return 1 + lam * jnp.cos(2 * jnp.pi * r)
def raises(r): raise KeyError('r')
def nan(r): return r / 0
def nan_later(r, *, progress): return jnp.where(progress > 0.4, jnp.nan, 1.0) + 0 * r
def wrong_shape(r): return r[:3]
def branches(r): return r if r[0] > 0 else -r
def ends(r): os._exit(0)
def never(r):
    while True: pass
constant = 3
class Bump:
    def __init__(self, height): self.height = height
    def __call__(self, r, width=1.0): return self.height + 0 * width * r
bump = Bump(2.0)
partial = functools.partial(fine, lam=0.8)
def plain(r, lam=0.6): return fine(r, lam=lam)
def mean(r): return 1 + abs(r).mean() + 0 * r
"""


@pytest.fixture
def file(tmp_path) -> str:
    path = tmp_path / 'mine.py'
    path.write_text(SLOPES)
    return str(path)


def test_a_slope_of_a_file_is_like_one_of_the_catalogue(file, tmp_path):
    mine = users.load_estimator(file, 'fine(lam=0.3)', 2)
    assert str(mine) == 'fine(lam=0.3)' and alpha(mine) == pytest.approx(alpha(make('sine', 2, lam=0.3)), rel=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ['mine.py']  # nothing is written beside it


@pytest.mark.parametrize(
    'call, text, expected',
    [
        ('plain(lam=0.8)', 'plain(lam=0.8)', 0.6),
        ('partial', 'partial(lam=0.8)', 0.6),
        ('partial(lam=0.6)', 'partial(lam=0.6)', 0.8),
        ('bump(width=3.0)', 'bump(width=3.0)', 2.0),
    ],
)
def test_other_ways_of_writing_one_keep_the_name_that_the_file_gives(call, text, expected, file):
    mine = users.load_estimator(file, call, 2)
    assert str(mine) == text and alpha(mine) == pytest.approx(expected, rel=1e-6)
    assert users.load_estimator(file, text, 2) == mine  # what a run's config.json names


@pytest.mark.parametrize(
    'call, message',
    [
        ('raises', "raised KeyError: 'r'"),
        ('nan', 'is not finite at r ='),
        ('nan_later', 'is not finite at r = -0.5'),
        ('wrong_shape', 'must return floats shaped like r'),
        ('branches', 'TracerBoolConversionError'),
        ('ends', 'mine.py:ends ended its process'),
        ('never', 'mine.py:never did not return within 2 s'),
        ('constant', "unknown function of .* 'constant'"),
        ('fine(lam=[])', 'must be numbers, words or tuples'),
        ('Bump', 'Bump is a class: give an instance of it'),
        ('mean', 'is not elementwise'),
        ('fine(mu=1)', "unknown argument of estimator 'fine' 'mu'"),
        ('fine(', 'cannot read'),
    ],
)
def test_what_is_no_slope_is_refused(call, message, file, monkeypatch):
    if call == 'never':  # the others have time, however busy the machine
        monkeypatch.setattr(users, '_SECONDS', 2)
    with pytest.raises(ValueError, match=message):
        users.load_estimator(file, call, 2)


def test_a_file_that_does_not_load_is_refused(tmp_path):
    broken = tmp_path / 'broken.py'
    broken.write_text('def (')
    with pytest.raises(ValueError, match='raised SyntaxError'):
        users.load_estimator(str(broken), 'f', 2)
    with pytest.raises(ValueError, match='there is no file'):
        users.load_estimator(str(tmp_path / 'none.py'), 'f', 2)


# What a file does when it is imported, and what is said of it; '' if it works.
IMPORTING = {
    'a helper module': ('import helper\nslope = helper.slope', ''),
    'a helper package': ('from package.helper import slope', ''),
    'argparse': ('import argparse\nargparse.ArgumentParser().parse_args()', ''),
    'absl': (
        'from absl import flags\nflags.DEFINE_string("a_users_flag", "", "")\nflags.FLAGS(__import__("sys").argv)',
        '',
    ),
    'a required argument': (
        'import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument("file")\nparser.parse_args()',
        'raised ImportError: it ends the program .2.; put that under if __name__',
    ),
    'an exit': ('raise SystemExit', 'it ends the program'),
    'a process': ('import subprocess\nsubprocess.run(["true"], check=True)', ''),
    'processes that never end': (
        'import subprocess\nsubprocess.Popen(["sleep", "3600"]).wait()',
        'did not return within 2 s; put what runs under if __name__',
    ),
    'a pool': (
        'import multiprocessing\ndef work(x): return x\nmultiprocessing.get_context("spawn").Pool(1).map(work, [1])',
        'raised PicklingError|did not return within 2 s|raised RuntimeError',
    ),
}


@pytest.mark.parametrize('case', IMPORTING)
def test_what_a_file_does_when_it_is_imported(case, tmp_path, monkeypatch):
    code, message = IMPORTING[case]
    if 'within' in message:
        monkeypatch.setattr(users, '_SECONDS_ASLEEP', 2)
    (tmp_path / 'package').mkdir()
    for name in ('helper.py', 'package/__init__.py', 'package/helper.py', 'mine.py'):
        (tmp_path / name).write_text('def slope(r): return 1 + r * r\n')
    (tmp_path / 'mine.py').write_text('def slope(r): return 1 + r * r\n' + code)
    before = list(sys.path), list(sys.argv), set(sys.modules), sorted(tmp_path.rglob('*'))
    started = time.time()
    if message:
        with pytest.raises(ValueError, match=message) as refused:
            users.load_estimator(str(tmp_path / 'mine.py'), 'slope', 2)
        assert '\n' not in str(refused.value)
    else:
        mine = users.load_estimator(str(tmp_path / 'mine.py'), 'slope', 2)
        assert alpha(mine) == pytest.approx(1 / (2 * 0.46364761), rel=1e-6)  # arctan(1/2)
    assert (sys.path, sys.argv, sorted(tmp_path.rglob('*'))) == (before[0], before[1], before[3])
    assert not {name for name in set(sys.modules) - before[2] if name.partition('.')[0] in ('helper', 'package')}
    assert not _asleep(started)


def _asleep(since: float) -> list[str]:
    """The processes called sleep that were started since then by this test's user and are still there."""
    found = []
    for process in pathlib.Path('/proc').glob('[0-9]*'):
        try:
            command = (process / 'cmdline').read_bytes()
            if command.startswith(b'sleep\x003600') and process.stat().st_ctime >= since:
                found.append(command.decode())
        except OSError:  # it has ended
            continue
    return found


def test_two_files_may_each_have_a_helper_of_that_name(tmp_path):
    for name, height in (('one', 2.0), ('two', 3.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'helper.py').write_text(f'def slope(r): return {height} + 0 * r\n')
        (tmp_path / name / 'mine.py').write_text('from helper import slope\n')
        assert alpha(users.load_estimator(str(tmp_path / name / 'mine.py'), 'slope', 2)) == pytest.approx(height)


def test_a_slope_may_import_its_neighbour_when_it_is_called(tmp_path):
    (tmp_path / 'near.py').write_text('def slope(r): return 2 + 0 * r\n')
    (tmp_path / 'mine.py').write_text('def slope(r):\n    import near\n    return near.slope(r)\n')
    assert alpha(users.load_estimator(str(tmp_path / 'mine.py'), 'slope', 2)) == pytest.approx(2)


def test_a_refused_file_is_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / 'mine.py').write_text('def slope(r): return 1 + r.mean() + 0 * r\n')
    given = ['--config=configs/digits.py', f'--config.estimator={tmp_path}/mine.py:slope', '--json']
    assert explain.main(given) == USERS_ERROR
    error = capsys.readouterr().err
    assert error.startswith("error: estimator: estimator 'slope' is not elementwise") and error.count('\n') == 1
