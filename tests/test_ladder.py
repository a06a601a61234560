"""The ladder of a run, and the answer in the limit that it gives."""

import json

import numpy as np
import pytest

from experiments import train
from experiments.results import limit
from qat.lockstep.verdict import ITSELF, NO, NONE, YES

RATES = (0.04, 0.02, 0.01)


def rungs(ste, jitter=0.4, noise=0.05, seeds=5, rates=RATES, name='ste', verdict=NO) -> dict:
    """Runs whose errors go as these powers of the learning rate."""
    random = np.random.default_rng(0)

    def run(rate):
        errors = {name: rate**ste, 'jitter': rate**jitter} if ste is not None else {name: 0.0, 'jitter': rate**jitter}
        twins = {
            twin: {'weight_alignment_error': error * np.exp(noise * random.normal())} for twin, error in errors.items()
        }
        return {'verdict': verdict, 'twins': twins}

    return {rate: [run(rate) for _ in range(seeds)] for rate in rates}


@pytest.mark.parametrize(
    'answer, said, found',
    [
        (limit.YES, 'It vanishes', rungs(0.8)),
        (limit.NO, 'It stays', rungs(0.05, name='naive_ste')),
        (limit.UNSETTLED, 'More seeds', rungs(0.4)),
        (limit.UNSETTLED, 'More seeds', rungs(0.3, jitter=0.5)),  # it falls, only less than jitter
        (limit.UNSETTLED, 'More seeds', rungs(-0.3, jitter=-0.6)),  # it grows, only less than jitter
        (limit.UNSETTLED, 'More seeds', rungs(0.8, noise=0.5, seeds=1)),
        (limit.YES, 'exactly', rungs(None)),
        (limit.YES, 'mine is STE itself', rungs(None, verdict=f'{YES}: mine {ITSELF}.')),
        (limit.UNSETTLED, 'one seed at two learning rates', rungs(0.8, seeds=1, rates=RATES[:2])),
        (limit.UNSETTLED, 'at learning rate 0.04, mine: saturated', rungs(0.8, verdict=f'{NONE} on mine: saturated.')),
        (limit.UNSETTLED, 'at learning rate 0.01 a run ended with numbers', rungs(0.8) | {0.01: [None] * 5}),
    ],
)
def test_answers(answer, said, found):
    result = limit.in_the_limit('mine', found, 'so' if 'naive' in str(found) else '')
    assert result['answer'].startswith(answer) and said in result['answer'], result['answer']
    if result['order'] is not None:
        assert result['low'] < result['order'] < result['high']
        assert f'n = {result["seeds"]} seeds' in result['answer']
    json.dumps(result, allow_nan=False)


@pytest.mark.slow
def test_a_ladder_may_get_more_seeds_and_repeats_nothing(tmp_path, capsys):
    command = ['--config=configs/digits.py', '--config.max_steps=3', '--config.twins=ste,jitter', '--config.ladder=2']
    assert train.main([*command, '--config.ladder_seeds=1', f'--workdir={tmp_path}']) == 0
    below = tmp_path / 'ladder' / 'rate-over-2-seed-0'
    made = below.stat().st_mtime_ns, (below / 'summary.json').read_bytes()
    assert json.loads(made[1])['steps'] == 6
    config = json.loads((below / 'config.json').read_text())
    assert (config['learning_rate_scale'], config['epochs_scale'], config['seed'], config['ladder']) == (0.5, 2.0, 0, 1)
    assert train.main([*command, '--config.ladder_seeds=2', f'--workdir={tmp_path}']) == 0
    assert (below.stat().st_mtime_ns, (below / 'summary.json').read_bytes()) == made
    assert sorted(path.name for path in below.parent.iterdir()) == [
        *('rate-over-1-seed-1', 'rate-over-2-seed-0', 'rate-over-2-seed-1'),
    ]
    answer = json.loads((tmp_path / 'summary.json').read_text())['limit']
    assert answer['seeds'] == 2 and answer['learning_rates'] == [0.01, 0.005]
    assert answer['answer'].startswith(f'{limit.UNSETTLED}: at learning rate 0.01, ')
    told = capsys.readouterr()
    assert 'next to nothing' in told.out and max(map(len, told.out.splitlines())) <= 80 + len(str(tmp_path))


def test_with_a_recipe_only_its_twin_can_say_no():
    found = limit.in_the_limit('mine', rungs(0.0, name='naive_ste'))
    assert found['answer'].startswith(limit.UNSETTLED) and 'ste was not run' in found['answer']


def test_a_ladder_that_can_give_no_answer_is_refused(tmp_path, capsys):
    command = ['--config=configs/digits.py', '--config.ladder=2', f'--workdir={tmp_path / "run"}']
    assert train.main([*command, '--config.twins=self']) == 2
    assert 'error: ladder: needs the twins jitter' in capsys.readouterr().err and not (tmp_path / 'run').exists()
