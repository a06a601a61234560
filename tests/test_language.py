"""Texts and the task of language modelling: windows, every token counted once, whole runs, hostile files."""

import functools
import gzip
import itertools
import json
import math
import os
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import shakespeare
from experiments import report, train
from experiments.data import memory, registry, text
from experiments.data.batches import Share
from experiments.data.text import TextBatches
from experiments.errors import UserError
from experiments.results.metrics import BY_CODE, METRICS
from experiments.setup.identity import contents
from experiments.training import sharing
from experiments.workdir.rows import read_rows
from qat.lockstep import evaluation
from qat.lockstep.twins import REFERENCE
from scripts import prepare_text
from tests.test_train import interrupt_at, same_bytes

WORDS = np.array(['to ', 'be, ', 'or ', 'not\n', 'that ', 'is ', 'the ', 'question: ', 'é '])
TEXT = ''.join(np.random.default_rng(0).choice(WORDS, 900))
SPLITS = ('train', 'validation')


def random_batches(train: int = 400, validation: int = 90, **values) -> TextBatches:
    """Windows of noise, in which hardly two are equal."""
    random = np.random.default_rng(1)
    tokens = {split: random.integers(0, 256, n, np.uint8) for split, n in zip(SPLITS, (train, validation))}
    return TextBatches(tokens, **{'seed': 0, 'batch_size': 4, 'context': 6, **values})


def steps(batches: TextBatches, start: int, count: int) -> list[dict]:
    return [batch for _, batch in zip(range(count), batches.train(start, 7))]


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def test_a_training_batch_is_windows_of_the_text_and_what_follows_them():
    batches = random_batches()
    whole = batches.tokens['train'].tobytes()
    for batch in steps(batches, 0, 5):
        assert batch['token'].shape == batch['next'].shape == (4, 6) and batch['token'].dtype == np.int32
        for token, following in zip(batch['token'], batch['next']):
            assert bytes([*token, following[-1]]) in whole and np.array_equal(token[1:], following[:-1])


def test_windows_begin_anywhere_and_end_with_the_text():
    batches = random_batches(train=11, batch_size=5)  # five windows
    whole = batches.tokens['train'].tobytes()
    seen = {whole.index(bytes(token.tolist())) for batch in steps(batches, 0, 20) for token in batch['token']}
    assert seen == {0, 1, 2, 3, 4} and batches.steps_in_data == 1


def test_a_batch_is_a_function_of_seed_step_and_order():
    stream = steps(random_batches(), 0, 20)
    assert all(equal(steps(random_batches(), step, 1)[0], stream[step]) for step in (19, 0, 7, 8))
    other = [random_batches(seed=1), random_batches().reshuffled(), random_batches(seed=1).reshuffled()]
    firsts = [stream[0], *(steps(batches, 0, 1)[0] for batches in other)]
    assert len({batch['token'].tobytes() for batch in firsts}) == 4
    assert len({batch['draw'].tobytes() for batch in firsts}) == 4
    assert equal(*(next(each.validation()) for each in (random_batches(), random_batches().reshuffled())))


def test_shares_of_processes_are_parts_of_the_same_batches():
    whole, shares = random_batches(), [random_batches(share=Share(index, 2)) for index in (0, 1)]
    for kind in (lambda batches: steps(batches, 3, 4), lambda batches: list(batches.validation())):
        for batch, *parts in zip(kind(whole), *map(kind, shares), strict=True):
            assert equal(batch, {key: np.concatenate([part[key] for part in parts]) for key in batch})


@pytest.mark.parametrize('context', [1, 6, 8])
@pytest.mark.parametrize('length', [9, 48, 49, 50, 90])
@pytest.mark.parametrize('batch_size', [1, 4])
def test_validation_predicts_every_token_but_the_first_once(context, length, batch_size):
    batches = random_batches(validation=length, context=context, batch_size=batch_size)
    tokens, seen = batches.tokens['validation'], []
    for batch in batches.validation():
        assert batch['token'].shape == batch['mask'].shape == (batch_size, context)
        seen += zip(batch['token'][batch['mask']], batch['next'][batch['mask']])
    assert seen == list(itertools.pairwise(tokens))


def test_validation_on_fewer_windows_spreads_them_over_all():
    def windows(most):
        batches = random_batches(validation=60 * 6 + 1, most=most).validation()
        return [token.tolist() for batch in batches for token, mask in zip(batch['token'], batch['mask']) if mask.any()]

    assert len(windows(-1)) == 60 and windows(61) == windows(-1)
    assert windows(20) == windows(-1)[::3] and windows(1) == windows(-1)[:1]


class Bigram(nn.Module):
    """The next token from the last alone, with dropout and a norm that knows whether it trains."""

    classes: int = 256

    @nn.compact
    def __call__(self, tokens, train):
        drop = nn.Dropout(0.5, deterministic=not train)
        return drop(nn.Embed(256, self.classes, embedding_init=nn.initializers.normal(1.0))(tokens))


@pytest.mark.parametrize('batch_size', [1, 4, 64])
def test_metrics_are_means_over_tokens_whatever_the_batch_size(batch_size):
    batches = random_batches(batch_size=batch_size)
    task = batches.task(lambda classes: Bigram(classes))
    params, state = task.init(jax.random.key(0))
    examine = jax.jit(lambda batch: task.examine(params, state, batch))
    sums = [evaluation.compare({REFERENCE: examine(batch)}, batch['mask']) for batch in batches.validation()]
    total = jax.tree.map(lambda *parts: float(sum(parts)), *sums)
    table, tokens = np.asarray(params['Embed_0']['embedding'], np.float64), batches.tokens['validation']
    logits = table[tokens[:-1]]
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(logits)), tokens[1:]]
    loss = total['metrics']['loss'][REFERENCE] / total['examples']
    assert total['examples'] == 89 and loss == pytest.approx(losses.mean(), rel=1e-5)
    assert total['metrics']['accuracy'][REFERENCE] == (logits.argmax(-1) == tokens[1:]).sum()
    assert task.derived['perplexity']({'loss': loss}) == pytest.approx(np.exp(losses.mean()), rel=1e-4)
    assert task.loss_of_guessing == pytest.approx(math.log(256)) and task.doubt(next(batches.validation())) == ''


def test_what_is_dropped_depends_on_the_example_and_not_on_the_device():
    batches = random_batches()
    task = batches.task(lambda classes: Bigram(classes))
    params, state = task.init(jax.random.key(0))
    loss = jax.jit(lambda batch: task.loss(params, state, batch)[0])
    one, other = steps(batches, 0, 2)
    halves = [{key: array[part] for key, array in one.items()} for part in (slice(0, 2), slice(2, 4))]
    assert loss(one) == pytest.approx(np.mean([loss(half) for half in halves]), rel=1e-6)
    assert loss(one) == loss(one) != loss({**one, 'draw': other['draw']})


def test_a_sample_goes_on_from_the_start_of_validation():
    """A bigram of which every token has one successor leaves nothing to chance."""
    batches = random_batches()
    task = batches.task(lambda classes: Bigram(classes))
    following = np.roll(np.eye(256, dtype=np.float32), 1, axis=1)  # n + 1 behind n
    batch = {'token': np.frombuffer(b'abc012', np.uint8)[None].astype(np.int32)}
    params = {'Embed_0': {'embedding': jnp.asarray(1e4 * following)}}
    made_up = task.sample(params, {}, batch, jax.random.key(0))
    assert made_up.startswith('abc0123456789:;<=>?@ABC') and len(made_up.encode('latin-1', 'replace')) <= 6 + 300


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (b'', 'is empty'),
        (b'to be\n' * 3, 'has 16 bytes, and context=64 needs more'),
        (b'to be\xff or not' * 99, "can't decode byte 0xff"),
        (b'to be ' * 999 + 'é'.encode()[:1], 'unexpected end of data'),
        (gzip.compress(b'to be ' * 999)[:40], 'ended before the end-of-stream marker'),
        (gzip.compress(b'to be ' * 999)[:-8] + bytes(8), 'CRC check failed'),
        (None, 'it is a folder'),
    ],
    ids=['empty', 'short', 'no UTF-8', 'cut within a letter', 'cut gzip', 'damaged gzip', 'folder'],
)
def test_what_is_no_text_is_refused_in_one_line(content, said, tmp_path, capsys):
    path = tmp_path / 'text'
    path.mkdir() if content is None else path.write_bytes(content)
    command = ['--config=configs/shakespeare.py', f'--config.dataset=text:{path}', f'--workdir={tmp_path / "run"}']
    assert train.main(command) == 2
    error = capsys.readouterr().err
    assert said in error and error.count('\n') == 1 and len(error) <= 301
    assert not (tmp_path / 'run').exists()


def test_a_missing_text_a_pipe_and_one_that_does_not_fit_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match='no such file'):
        text.read(str(tmp_path / 'missing'))
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(UserError, match='no regular file'):
        text.read(str(tmp_path / 'pipe'))
    (tmp_path / 'plain').write_bytes(b'a' * 5000)
    (tmp_path / 'bomb').write_bytes(gzip.compress(b'a' * 5000))
    monkeypatch.setattr(memory, 'available', lambda: 4000)
    for name in ('plain', 'bomb'):
        with pytest.raises(UserError, match='memory'):
            text.read(str(tmp_path / name))


def load(dataset: str, **values):
    config = shakespeare.get_config()
    config.update({'dataset': dataset, 'context': 8, 'batch_size': 4, **values})
    return registry.load(config)


def test_a_text_is_its_bytes_the_first_nine_tenths_for_training(tmp_path):
    (tmp_path / 'plain').write_text(TEXT, encoding='utf-8')
    (tmp_path / 'packed').write_bytes(gzip.compress(TEXT.encode()))
    for name in ('plain', 'packed'):
        parts = [load(f'text:{tmp_path / name}').tokens[split].tobytes() for split in SPLITS]
        assert b''.join(parts) == TEXT.encode() and len(parts[0]) == len(TEXT.encode()) * 9 // 10
    before = contents({'dataset': f'text:{tmp_path / "plain"}', 'init_from': ''})
    (tmp_path / 'plain').write_text(TEXT + '.', encoding='utf-8')
    assert before != contents({'dataset': f'text:{tmp_path / "plain"}', 'init_from': ''}) and len(before) == 1


@pytest.mark.filterwarnings('ignore')  # TensorFlow's own
def test_a_prepared_text_comes_back_through_tfds(tmp_path, capsys):
    (tmp_path / 'input.txt.gz').write_bytes(gzip.compress(TEXT.encode()))
    command = ['--file', str(tmp_path / 'input.txt.gz'), '--data-dir', str(tmp_path / 'data')]
    assert prepare_text.main(command) == 0
    shown = capsys.readouterr()
    assert 'ownload' not in shown.out + shown.err and f'has {len(TEXT):,} characters' in shown.out
    assert prepare_text.main(command) == 0 and 'already prepared' in capsys.readouterr().out
    found, cut = load('tiny_shakespeare', data_dir=str(tmp_path / 'data')).tokens, int(len(TEXT) * 0.9)
    assert found['train'].tobytes() == TEXT[:cut].encode() and found['validation'].tobytes() == TEXT[cut:].encode()


def test_without_internet_a_line_names_the_script(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, '_can_fetch', lambda url: False)
    with pytest.raises(UserError, match=r'tiny_shakespeare is not in .* run python -m scripts\.prepare_text --file'):
        load('tiny_shakespeare', data_dir=str(tmp_path))


SMALL = (
    *('--config=configs/shakespeare.py', '--config.model=transformer(layers=1,width=16,heads=2,dropout=0.1)'),
    *('--config.context=8', '--config.batch_size=4', '--config.steps_per_epoch=10', '--config.num_epochs=3'),
    *('--config.twins=ste,jitter,self', '--config.checkpoint_every_steps=10'),
)


@pytest.fixture(scope='module')
def file(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp('text') / 'mine.txt'
    path.write_text(TEXT, encoding='utf-8')
    return path


@pytest.fixture(scope='module')
def finished(file, tmp_path_factory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp('language') / 'run'
    assert train.main([*SMALL, f'--config.dataset=text:{file}', f'--workdir={workdir}']) == 0
    return workdir


def test_a_whole_run(finished):
    result, rows = json.loads((finished / 'summary.json').read_text()), read_rows(finished)
    assert [row['step'] for row in rows] == [0, 10, 20, 30]
    tokens = len(TEXT.encode()) - len(TEXT.encode()) * 9 // 10 - 1
    for row in rows:
        assert row['eval/perplexity'] == pytest.approx(math.exp(row['eval/loss']))
        assert row['eval/accuracy'] * tokens == pytest.approx(round(row['eval/accuracy'] * tokens), abs=1e-6)
    assert rows[0]['eval/loss'] == pytest.approx(math.log(256), rel=0.02)
    assert rows[-1]['eval/loss'] < rows[0]['eval/loss'] - 0.1
    assert {**result['reference']} == {name: rows[-1][f'eval/{name}'] for name in ('accuracy', 'loss', 'perplexity')}
    assert all(sorted(twin) == sorted((*METRICS, *BY_CODE)) for twin in result['twins'].values())
    copy = result['twins']['self']
    assert copy['weight_alignment_error'] == 0 and copy['inference_agreement'] == 1
    assert copy['perplexity'] == result['reference']['perplexity']
    assert result['twins']['ste']['weight_alignment_error'] > 0 and 'perplexity' in result['verdict']
    layers = {key.split('/', 1)[1].rpartition('/')[0] for key in rows[-1] if key.startswith('ste/block')}
    inner = [*(f'attention/{name}' for name in ('query', 'key', 'value', 'out')), 'mlp/up', 'mlp/down']
    assert layers == {f'block1/{name}' for name in inner}


def test_the_report_shows_what_two_runs_make_up(finished):
    page = (finished / 'report.html').read_text()
    made_up = json.loads((finished / 'samples.json').read_text())
    start = TEXT.encode()[len(TEXT.encode()) * 9 // 10 :][:8].decode('utf-8', 'replace')
    assert list(made_up) == ['reference', 'ste'] and all(said.startswith(start) for said in made_up.values())
    assert all(len(said) > 60 for said in made_up.values()) and 'What do they make up?' in page
    assert '<td>perplexity</td>' in page and 'classes' not in page and 'image ' not in page
    (finished / 'samples.json').unlink()  # as in a workdir of an earlier version
    assert report.main([str(finished)]) == 0
    assert 'What do they make up?' not in (finished / 'report.html').read_text()


def test_an_interrupted_run_ends_as_the_unbroken_one(finished, file, tmp_path, monkeypatch):
    command = [*SMALL, f'--config.dataset=text:{file}', f'--workdir={tmp_path}']
    with monkeypatch.context() as patch:
        interrupt_at(patch, 17)
        assert train.main(command) == 143
    assert train.main(command) == 0
    same_bytes(finished, tmp_path)


@pytest.mark.slow
def test_one_device_computes_what_four_do(finished, file, tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, 'local_devices', lambda _: jax.local_devices()[:1])
    assert train.main([*SMALL, f'--config.dataset=text:{file}', f'--workdir={tmp_path}']) == 0
    assert json.loads((tmp_path / 'timing.json').read_text())['devices'] == 1
    assert json.loads((finished / 'timing.json').read_text())['devices'] == 4
    for one, four in zip(read_rows(tmp_path), read_rows(finished), strict=True):
        assert one['eval/loss'] == pytest.approx(four['eval/loss'], abs=5e-3)
        assert one['self/weight_alignment_error'] in (None, 0)


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        (['--config.model=convnet'], 'model: ConvNet does not take 8 tokens'),
        (['--config.dataset=digits'], 'model: Transformer does not take images of 8x8x1: it reads tokens'),
        (['--config.decayed=matrix'], "decayed=matrix: 'matrix' is no weight of the model. Try all, matrices, or"),
        (['--config.context=0'], 'context must be in [1, '),
        (['--config.steps_per_epoch=9999'], 'steps_per_epoch=9999: the data has only'),
        (['--config.model=transformer(heads=3)'], 'multiple of heads=3'),
        (['--config.model=transformer(width="x")'], 'model: transformer(width="x"): '),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(flags, said, file, tmp_path, capsys):
    assert train.main([*SMALL, f'--config.dataset=text:{file}', *flags, f'--workdir={tmp_path / "run"}']) == 2
    error = capsys.readouterr().err
    assert said in error and error.count('\n') == 1 and len(error) <= 301
    assert not (tmp_path / 'run').exists()


def test_a_model_must_give_logits_for_every_token():
    class Last(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            return nn.Embed(256, 256)(tokens)[:, -1]

    with pytest.raises(
        UserError, match=r'Last does not take 6 tokens: it must give logits \(examples, 6, vocabulary\)'
    ):
        random_batches().task(functools.partial(lambda classes: Last()))
