"""Settings that were once given an answer that their evidence had not earned, each with the right one.

What decides between the answers is tested in tests/qat/test_verdict.py, on numbers.
"""

import json

import pytest

from experiments import train
from experiments.results import limit
from qat.lockstep.verdict import NO, NONE, YES

SLOPES = """
import jax.numpy as jnp


def twice(r):
    return jnp.full_like(r, 2.0)


def wavy(r):
    return 1 / (1 + 0.8 * jnp.sin(4 * jnp.pi * r))
"""


def run(tmp_path, **keys) -> tuple[int, dict]:
    (tmp_path / 'slopes.py').write_text(SLOPES)
    keys = {'twins': 'ste,naive_ste,jitter', **keys}
    flags = [f'--config.{key}={value}'.replace('FILE', str(tmp_path / 'slopes.py')) for key, value in keys.items()]
    code = train.main(['--config=configs/digits.py', *flags, f'--workdir={tmp_path / "run"}'])
    summary = tmp_path / 'run' / 'summary.json'
    return code, json.loads(summary.read_text()) if summary.exists() else {}


SAMPLES = {
    'did not train': (NONE, 'did not train', {'optimizer': 'adam', 'learning_rate': 1}),
    'kappa 21': (NONE, '', {'optimizer': 'adam', 'learning_rate': 0.1}),
    'one step': (NONE, 'next to nothing happened', {'max_steps': 1}),
    'next to no steps': (NONE, 'next to nothing happened', {'max_steps': 15, 'learning_rate': 1e-4}),
    'no code moved': (
        NONE,
        'larger learning rate',
        {'estimator': 'ewgs', 'twins': 'naive_ste,jitter', 'max_steps': 15, 'learning_rate': 1e-5},
    ),
    'rounding': (NONE, 'larger learning rate', {'learning_rate': 1e-7}),
    'saturated': (NONE, 'saturated', {'optimizer': 'adam(b2=0.999)', 'learning_rate': 0.03}),
    'chaos': (
        NO,  # before it
        'b1=0.999 is above b2=0.9',
        {'optimizer': 'adam(b1=0.999,b2=0.9)', 'learning_rate': 1e-4, 'max_steps': 800, 'twins': 'ste,map_ste,jitter'},
    ),
    'eps outweighs': (NO, 'eps=1', {'optimizer': 'adam(eps=1.0)', 'learning_rate': 0.1}),
    'eps outweighs the steep slope': (
        NO,
        'eps=0.001',
        {'estimator': 'dsq(k=30)', 'optimizer': 'adam(b2=0.95,eps=1e-3)', 'learning_rate': 1e-3},
    ),
    'long steps at 8 bits': (NO, 'too long to follow M', {'bits': 8, 'estimator': 'dsq(k=552.5)'}),
    'constant under Muon': (
        YES,
        'exactly',
        {'estimator': 'FILE:twice', 'optimizer': 'muon', 'learning_rate': 2e-3, 'max_steps': 60},
    ),
    'STE under Muon': (
        YES,
        'is STE itself',
        {'estimator': 'ste', 'optimizer': 'muon', 'learning_rate': 2e-3, 'max_steps': 60},
    ),
    'alpha 1, M far from the identity': (
        NONE,
        'saturated',
        {'estimator': 'FILE:wavy', 'learning_rate': 0.04, 'max_steps': 250},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize('answer, said, keys', SAMPLES.values(), ids=SAMPLES)
def test_samples(answer, said, keys, tmp_path):
    code, summary = run(tmp_path, **keys)
    assert code == 0 and summary['verdict'].startswith(answer) and said in summary['verdict'], summary['verdict']
    assert summary['limit']['answer'] == limit.NOT_ASKED
