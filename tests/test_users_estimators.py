"""A user's file: what is no slope is refused in words, and what never returns costs seconds."""

import pytest

from experiments.setup import users
from qat.estimators import make
from qat.theory.weight_map import alpha

SLOPES = """
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
        ('fine(mu=1)', "unknown argument of estimator 'fine' 'mu'"),
        ('fine(', 'cannot read'),
    ],
)
def test_what_is_no_slope_is_refused(call, message, file, monkeypatch):
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
