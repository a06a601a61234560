"""What a report tells a person to do: the answers in plain words, the next command, the recipe to take home."""

import json
import pathlib
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import train
from experiments.data import registry
from experiments.results import commands, limit, next_steps
from experiments.setup import command_line, settings
from experiments.training.trainer import Trainer
from qat.lockstep import verdict
from qat.lockstep.lockstep import Lockstep

DIGITS, DSQ = '--config=configs/digits.py', 'dsq(k=6.5)'
ANSWERED = {  # how an answer begins -> its kind, and a word of its first sentence
    f'{verdict.YES}, STE trains like dsq: ...': ('yes', 'Yes. At this setting you can use STE in place'),
    f'{verdict.YES}, STE{verdict.BY_RECIPE} trains like dsq: ...': (
        'yes',
        'you can use STE by the recipe below in place',
    ),
    f'{verdict.YES}, STE trains like dsq: .... {verdict.BEWARE}kappa of conv2 is 10': ('but', 'Yes here, but'),
    f'{verdict.NO}, the weights take another path with STE than with dsq: ...': (
        'no',
        'No. At this setting the weights',
    ),
    f'{verdict.NONE} on dsq: ...': ('open', 'cannot tell'),
    'of a program that is yet to come': ('open', 'cannot tell'),
    f'{limit.YES}, dsq is STE in disguise: ...': ('yes', 'Yes. At ever smaller'),
    f'{limit.NO}, dsq is not STE in disguise: ...': ('no', 'No. At ever smaller'),
    f'{limit.UNSETTLED} for dsq: ...': ('open', 'cannot tell'),
    limit.NOT_ASKED: ('open', 'was not asked'),
}


def resolved(*flags: str) -> settings.Settings:
    return settings.resolve(command_line.parse([DIGITS, *flags])[0])


def steps(
    made: settings.Settings, said: str, in_the_limit: str = limit.NOT_ASKED, changed: tuple = (13, 0.01), done: int = 4
) -> list[next_steps.Step]:
    jitter = dict(zip(('changed_codes', 'changed_fraction'), changed))
    result = {'verdict': said, 'limit': {'answer': in_the_limit}, 'steps': done, 'twins': {'jitter': jitter}}
    return next_steps.to_do(made, result, pathlib.Path('runs/one'))


def flags(step: next_steps.Step) -> list[str]:
    """The flags of a command to copy, but for the config of the run, which a test has no file of."""
    program, path, *rest = step.to_copy.split(' --', 2)[:1] + shlex.split(step.to_copy)[3:]
    assert (program, path) == ('python -m experiments.train', '--config=runs/one/config.json')
    return rest


@pytest.mark.parametrize('whole', ANSWERED)
def test_an_answer_begins_in_plain_words(whole):
    kind, words = ANSWERED[whole]
    for found in next_steps.answers({'verdict': whole, 'limit': {'answer': whole}}, 'dsq'):
        assert found.kind == kind and words in found.sentence and 'dsq' in found.sentence
        assert found.why == whole.split(': ', 1)[-1] or (whole == limit.NOT_ASKED and not found.why)
    assert len(next_steps.answers({'verdict': whole}, 'dsq')) == 1  # a run may be older than the ladder


def test_the_next_command_climbs_a_ladder_until_it_settles():
    short = resolved('--config.twins=ste,jitter')
    (asked, *_), (longer, *_) = steps(short, verdict.NO), steps(resolved('--config.ladder=3'), verdict.NO)
    assert flags(asked) == ['--workdir=runs/one', '--config.ladder=3'] and '35 times as long' in asked.sentence
    assert flags(longer)[-1] == '--config.ladder=4'
    unsettled, *_ = steps(resolved('--config.ladder=3'), verdict.NO, f'{limit.UNSETTLED} for dsq')
    assert flags(unsettled)[-1] == '--config.ladder=4'
    assert not any('ladder=4' in step.to_copy for step in steps(resolved('--config.ladder=3'), verdict.NO, limit.YES))
    without, *_ = steps(resolved('--config.twins=self'), verdict.NO)
    assert resolved(*flags(without)[:2]).twins.keys() >= {'ste', 'jitter'}
    assert flags(without)[-1] == '--workdir=runs/one-ladder'  # not the folder of a run with other twins


NOTHING = 'next to nothing happened: 13 codes changed, and 100 are needed; try a larger learning rate'
UNTRAINED = 'the reference did not train, ...; try more steps'


@pytest.mark.parametrize(
    'why, changed, given, changes',
    [
        ('saturated, ...; try a smaller learning rate, or fewer steps', (), [], ['learning_rate=0.0025']),
        (NOTHING, (13, 0.01), [], ['learning_rate=0.16']),
        (NOTHING, (13, 0.01), ['max_steps=4'], ['num_epochs=1072', 'max_steps=64']),
        (NOTHING, (1300, 0.0001), ['max_steps=4'], ['num_epochs=1340', 'max_steps=80']),
        (NOTHING, (0, 0.0), ['max_steps=4'], ['num_epochs=13400', 'max_steps=800']),
        (NOTHING, (99, 0.01), [], ['learning_rate=0.04']),
        (UNTRAINED, (), [], ['num_epochs=268']),
        (UNTRAINED, (), ['max_steps=4'], ['num_epochs=268', 'max_steps=16']),
        ('the twin jitter was not run', (), [], ['twins=ste,naive_ste,jitter']),
    ],
)
def test_a_run_that_cannot_tell_is_run_again_with_as_much_more_as_it_lacked(why, changed, given, changes):
    made = resolved(*(f'--config.{flag}' for flag in given))
    first, *_ = steps(made, f'{verdict.NONE} on dsq: {why}.', changed=changed)
    expected = [f'--config.{flag}' for flag in changes]
    assert flags(first) == [*expected, '--workdir=runs/one-again'] and resolved(*expected)


@pytest.mark.parametrize('optimizer', ['sgd', 'adam'])
@pytest.mark.parametrize(
    'said, in_the_limit, proviso',
    [
        (verdict.YES, limit.NOT_ASKED, ''),
        (f'{verdict.YES}: so. {verdict.BEWARE}kappa is 10.', limit.NOT_ASKED, 'only where the caution above is gone'),
        (verdict.NO, limit.YES, 'for smaller learning rates, at which the difference vanishes.'),
        (verdict.NO, limit.NO, 'stay with dsq(k=6.5).'),
        (verdict.NO, limit.NOT_ASKED, 'for smaller learning rates; whether'),
        (f'{verdict.NONE} on dsq: the twin jitter was not run.', limit.NOT_ASKED, 'does not say how well'),
    ],
)
def test_the_recipe_follows_what_the_answers_leave_of_it(optimizer, said, in_the_limit, proviso):
    found = [step.sentence for step in steps(resolved(f'--config.optimizer={optimizer}'), said, in_the_limit)]
    use = next(number for number, sentence in enumerate(found) if 'In your own program' in sentence)
    before = [sentence for sentence in found[:use] if 'recipe below' in sentence]
    assert (before == [found[use - 1]] and proviso in before[0]) if proviso else not before


def test_where_nothing_is_known_nothing_is_promised():
    *_, last = steps(resolved('--config.optimizer=muon', '--config.twins=naive_ste,jitter'), verdict.NO)
    assert last.sentence == 'Stay with dsq(k=6.5): no recipe is known.' and not last.to_copy


def test_class_identity_changes_nothing():
    _, home, by_itself = steps(resolved('--config.optimizer=adam'), verdict.YES)
    assert 'change nothing else' in home.sentence and not home.to_copy
    found = resolved(*flags(by_itself)[:-1])
    assert (str(found.estimator), found.init_map, list(found.twins)) == ('ste', None, ['self'])


def test_what_is_left_to_pull_back_is_said_where_there_is_no_program():
    _, home, by_itself = steps(resolved('--config.optimizer=adam', '--config.clip_norm=1.0'), verdict.YES)
    assert 'clip by the norm of s(w) g' in home.sentence and 'nothing else' not in home.sentence and not home.to_copy
    assert any(flag.startswith('--config.pull_back=') for flag in flags(by_itself))


def test_decay_is_pulled_back_by_the_programs_and_clipping_in_words():
    given = '--config.weight_decay=0.25', '--config.clip_norm=1.0'
    _, start, in_optax, in_torch, clipping, _ = steps(resolved(*given), verdict.YES)
    assert 'weight_map.csv is M and s' in start.sentence and 'instead of v' in start.sentence
    assert 'by the norm of s(w) g' in clipping.sentence and 'decay' not in clipping.sentence
    assert all('decayed(v' in step.to_copy for step in (start, in_optax, in_torch))
    assert "'lr': 0.01, 'weight_decay': 0.25}" in in_torch.to_copy and "* 0.01, 'weight_decay': 0}" in in_torch.to_copy
    _, start, in_optax, in_torch, clipping, _ = steps(resolved(*given, '--config.optimizer=adam'), verdict.YES)
    assert 'by the norm of s(w) g' in clipping.sentence
    assert 'slope.csv is s' in start.sentence and 'decayed(v' in start.to_copy
    assert not any('M(' in step.to_copy or 'optax.scale' in step.to_copy for step in (start, in_optax, in_torch))
    _, start, *_, in_torch, _ = steps(resolved(given[0], '--config.optimizer=sgdw'), verdict.YES)
    assert 'weight_decay' not in in_torch.to_copy and "v -= optimizer.param_groups[0]['lr'] * 0.25" in in_torch.to_copy


def test_a_start_from_m_is_that_of_the_twin():
    def loss(params, batch):
        return jnp.mean((batch @ params['kernel'] + params['bias'] - 1) ** 2)

    made = resolved(f'--config.init_map={DSQ}')
    batch = jax.random.normal(jax.random.key(1), (16, 5))
    params = {'kernel': jax.random.normal(jax.random.key(0), (5, 7)), 'bias': jnp.zeros(7)}
    common = {'optimizer': optax.sgd(0.1, momentum=0.9), 'bits': 2, 'quantized': lambda path: path == 'kernel'}
    pair = Lockstep(loss, estimator=DSQ, twins=('ste',), **common)
    alone = Lockstep(
        loss,
        estimator='ste',
        twins=('self',),
        start=made.init_map,
        kernel_learning_rate_factor=made.init_map.alpha,
        **common,
    )
    ends = []
    for each, name in ((pair, 'ste'), (alone, 'reference')):
        state, step = each.init(params), jax.jit(each.step)
        for _ in range(3):
            state, _ = step(state, batch)
        ends.append((state.runs[name].params, state.ranges))
    jax.tree.map(lambda *both: np.testing.assert_allclose(*both, rtol=1e-6, atol=1e-7), *ends)
    assert not np.array_equal(ends[0][0]['kernel'], params['kernel'])


@pytest.mark.slow
def test_the_recipe_by_itself_starts_as_the_twin_does(tmp_path):
    slope = tmp_path / 'mine.py'
    slope.write_text('def slope(r, *, top=1.5):\n    return top - abs(r)\n')
    given = [f'--config.estimator={slope}:slope', '--config.range=max_abs', '--config.twins=ste']
    pair = resolved(*given, '--config.kernel_learning_rate_factor=0.5')
    alone = settings.resolve(
        command_line.parse(
            [DIGITS, given[1], *commands.as_config(pair)]  # as a command would: what is given again counts
        )[0]
    )
    batches = registry.load(pair.config)
    both, one = Trainer(pair, batches), Trainer(alone, batches)
    twin, reference = both.initial_state(), one.initial_state()
    jax.tree.map(np.testing.assert_array_equal, twin.runs['ste'].params, reference.runs['reference'].params)
    jax.tree.map(np.testing.assert_array_equal, twin.ranges, reference.ranges)
    plans = both.lockstep.plan(twin.runs['ste'].params), one.lockstep.plan(twin.runs['ste'].params)
    factors = [plans[0].runs['ste'].weight_factors, plans[1].runs['reference'].weight_factors]
    assert factors[0] == pytest.approx(factors[1], rel=1e-8)


@pytest.mark.parametrize(
    'flag, message',
    [('ewgs', 'depends on the incoming gradient'), ('sinus', "did you mean 'sine'"), ('no.py:slope', 'no.py')],
)
def test_a_map_that_does_not_exist_is_refused(flag, message):
    with pytest.raises(settings.UserError, match=f'init_map: .*{message}'):
        resolved(f'--config.init_map={flag}')


@pytest.mark.slow
@pytest.mark.parametrize('optimizer', ['sgd(momentum=0.9)', 'adam'])
def test_the_recipe_by_itself_ends_as_the_twin_does(optimizer, tmp_path):
    given = [DIGITS, f'--config.optimizer={optimizer}', '--config.max_steps=40', '--config.eval_every_epochs=1']
    made = resolved(*given[1:])
    alone = [flag for flag in commands.as_config(made) if 'twins' not in flag]
    assert train.main([*given, '--config.twins=ste', f'--workdir={tmp_path}/pair']) == 0
    assert train.main([*given, *alone, '--config.twins=self', f'--workdir={tmp_path}/alone']) == 0
    pair, ste = (
        [json.loads(line) for line in (tmp_path / name / 'metrics.jsonl').read_text().splitlines()]
        for name in ('pair', 'alone')
    )
    for key, key_alone in (('ste/train_loss', 'train/loss'), ('ste/eval_loss', 'eval/loss')):
        np.testing.assert_allclose([row[key] for row in pair[1:]], [row[key_alone] for row in ste[1:]], rtol=1e-5)
