"""The command audit: from a file of samples, or a function in a user's file, to words, a record and a figure."""

import contextlib
import io
import json
import pathlib
import re
import shlex
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from experiments import audit, convert
from experiments.data import samples
from experiments.errors import USERS_ERROR, UserError
from qat import estimators
from qat.theory.weight_map import WeightMap

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / 'docs/audit.md').read_text()
BLOCKS = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
FUNCTIONS = """
import jax, jax.numpy as jnp
print('printing does no harm')
def ste(w, bits=2):
    n = 2**bits - 1
    v = (jnp.clip(w, -1, 1) + 1) / 2 * n
    return 2 * (v + jax.lax.stop_gradient(jnp.round(v) - v)) / n - 1
def raises(w): raise KeyError('w')
def half(w): return w[::2]
def needs(w, scale): return w
def clamps(w): return w.clamp(-1, 1)
"""


def columns(count: int = 2001) -> np.ndarray:
    """(count, 3) samples of STE at 2 bits on [-1, 1], which clips."""
    w = np.linspace(-1.5, 1.5, count)
    return np.stack([w, np.round((np.clip(w, -1, 1) + 1) * 1.5) / 1.5 - 1, np.abs(w) <= 1], axis=1)


def write(path: pathlib.Path, table: np.ndarray, heading: str = '') -> pathlib.Path:
    lines = [heading, *(','.join(f'{number:.9g}' for number in row) for row in table)]
    path.write_text('\n'.join(line for line in lines if line) + '\n')
    return path


def ran(*arguments) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = audit.main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def test_samples_of_a_file_are_audited(tmp_path):
    file = write(tmp_path / 'samples.csv', columns(), 'weight,quantized,gradient')
    code, out, _ = ran(file, '--json', '--optimizer', 'adam(b2=0.95)', '--bits', 2)
    found = json.loads(out)
    assert code == 0 and [match['call'] for match in found['matches']] == ['ste']
    assert found['values'] == pytest.approx([-1, -1 / 3, 1 / 3, 1]) and found['zero_point'] == 1.5
    assert (found['verdict'], found['clip_rule'], found['absorbing_codes']) == ('ste', 'clip', [])
    assert (found['transfer_class'], found['learning_rate_factor']) == ('identity', 1.0)
    assert found['M']['moved'] == pytest.approx(found['M']['offset'])


@pytest.mark.slow
def test_a_function_of_a_users_file_is_audited_in_words_and_drawn(tmp_path):
    (tmp_path / 'mine.py').write_text(FUNCTIONS)
    code, out, err = ran(f'{tmp_path}/mine.py:ste(bits=3)', '--out', tmp_path / 'out', '--optimizer', 'sgd')
    assert code == 0 and 'it is the straight-through estimator itself' in out and '8: -1, ' in out
    assert 'printing does no harm' in err and 'change nothing else' in out
    assert (tmp_path / 'out' / 'audit.png').read_bytes().startswith(b'\x89PNG')


def test_an_npz_and_any_csv_are_read_alike(tmp_path):
    table = columns(64)
    np.savez(tmp_path / 'a.npz', **dict(zip(samples.COLUMNS, table.T)))
    write(tmp_path / 'b.csv', table, 'w,q,slope')
    (tmp_path / 'c.csv').write_text((tmp_path / 'b.csv').read_text().replace(',', ';'), encoding='utf-8-sig')
    for name in ('a.npz', 'b.csv', 'c.csv'):
        found = samples.read(tmp_path / name)
        np.testing.assert_allclose(np.stack([*found.values()], axis=1), table, atol=1e-8)
    assert list(samples.read(write(tmp_path / 'd.csv', table[:, :2]))) == ['w', 'q']


REFUSED = {  # what a file holds -> a word of the line
    'none.csv': (None, 'no such file'),
    'weights.pt': (b'PK', 'give a .py, .csv or .npz file'),
    'empty.csv': (b'', 'it has no samples'),
    'words.csv': (b'w,q\na,b\n1,2\n', "sample 1 is not two or three numbers: 'a,b'"),
    'ragged.csv': (b'1,2\n3,4,5\n', 'sample 2 is not 2 numbers'),
    'four.csv': (b'1,2,3,4\n', 'it has 4 columns'),
    'binary.csv': (b'\xff\xfe\x00', 'codec'),
    'text.npz': (b'hello', 'not a zip file'),
    'few.csv': (b'1,2\n3,4\n', 'there are 2 different weights'),
    'no_q.csv': (b'w,slope\n1,2\n', "it has no column 'q'"),
}


@pytest.mark.parametrize('name', REFUSED)
def test_what_cannot_be_read_is_told_in_a_line(name, tmp_path):
    content, message = REFUSED[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, out, err = ran(tmp_path / name, '--json')
    assert (code, out) == (USERS_ERROR, '') and message in err
    assert err.count('\n') == 1 and len(err) <= 301


def test_columns_are_taken_by_name_where_all_are_known_and_by_place_otherwise(tmp_path):
    table = columns(64)
    for heading, order in (
        ('w,slope,q', [0, 2, 1]),
        ('"dq/dw", Q ,w', [2, 1, 0]),
        ('w,s,q', [0, 1, 2]),
        ('w,w,q', [0, 1, 2]),
    ):
        found = samples.read(write(tmp_path / 'a.csv', table[:, order], heading))
        np.testing.assert_allclose(np.stack([found[name] for name in samples.COLUMNS], axis=1), table, atol=1e-8)


def test_a_range_that_samples_do_not_reach_has_no_recipe(tmp_path):
    table = columns()[np.abs(columns()[:, 0]) < 0.6]
    found = json.loads(ran(write(tmp_path / 'a.csv', table), '--json', '--optimizer', 'sgd')[1])
    assert (found['verdict'], found['clip_rule'], found['learning_rate_factor']) == ('unknown', 'unknown', None)
    assert 'do not reach' in found['no_recipe_because'][-1]


def test_nothing_is_unpickled_and_nothing_complex_is_cut(tmp_path):
    for w, message in ((np.array([{}], object), 'allow_pickle=False'), (np.array([1j]), 'w must be an array of real')):
        np.savez(tmp_path / 'a.npz', w=w, q=np.zeros(1))
        with pytest.raises(UserError, match=message):
            samples.read(tmp_path / 'a.npz')


@pytest.mark.parametrize(
    'arguments, message',
    [
        ('mine.py:raises', 'raises raised KeyError'),
        ('mine.py:half', 'must return an array shaped like the weights'),
        ('mine.py:clamps', "no attribute 'clamp'; it looks like a function of another framework"),
        ('torches.py:half', 'looks like a function of PyTorch, .* sample it by docs/audit.md'),
        ('folder', 'folder is a folder; give one file'),
        ('strange.csv', "whose heading 'grad,weight,quant' was not understood .*w,q,slope is.*: there are 2"),
        ('mine.py:nothing', "unknown function of .* 'nothing'"),
        ('mine.py:needs', "needs a value for 'scale'"),
        ('mine.py:ste(bits=', 'cannot read'),
        ('no.py:ste', 'there is no file'),
        ('mine.py:ste --range=-1', 'must be a positive number'),
        ('a.csv --range=7', '--range is for functions'),
        ('a.csv --optimizer=adm', "optimizer: unknown optimizer 'adm'"),
        ('a.csv --optimizer=sgd --placement=here', "unknown placement 'here'"),
        ('', 'the following arguments are required: target'),
    ],
)
def test_a_users_mistake_is_a_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path('mine.py').write_text(FUNCTIONS)
    pathlib.Path('torches.py').write_text(f'import types; torch = types.ModuleType("torch")\n{FUNCTIONS}')
    pathlib.Path('folder').mkdir()
    write(pathlib.Path('a.csv'), columns(32))
    write(pathlib.Path('strange.csv'), columns(64)[:, [2, 0, 1]], 'grad,weight,quant')
    code, out, err = ran(*(arguments.split() or ['--json']))
    assert (code, out) == (USERS_ERROR, '') and re.search(message, err), err
    assert err.splitlines()[-1].startswith('error: ') and 'Traceback' not in err


def of_slope(slope) -> np.ndarray:
    """(n, 3) samples like those of `columns`, with a slope over the offset from a threshold."""
    table = columns()
    r = (np.clip(table[:, 0], -1, 1) + 1) * 1.5
    return table * np.stack([0 * r + 1, 0 * r + 1, slope(r - np.clip(np.floor(r), 0, 2) - 0.5)], axis=1)


def steep(r):
    """DSQ of k = 6.5 at 2 bits; the derivative of its logarithm is -4 u tanh(2 u r), u = k / 3."""
    return (u := 6.5 / 3) / np.tanh(u) / np.cosh(2 * u * r) ** 2


def said(path, *arguments) -> str:
    """What is printed, in one line of words."""
    code, out, _ = ran(path, '--out', path.parent / 'out', *arguments)
    assert code == 0
    return ' '.join(out.split())


def test_where_a_slope_cancels_it_is_said_up_to_which_learning_rate(tmp_path):
    file = write(tmp_path / 'dsq.csv', of_slope(steep))
    u = 6.5 / 3
    most = 0.4 * (1 - 0.95) / (4 * u * np.tanh(u))
    text = said(file, '--optimizer', 'adam(b2=0.95)')
    assert f'is below 0.4: up to a peak learning rate of {most:.2g} D' in text and 'experiments.explain' in text
    assert 'kappa' not in said(write(tmp_path / 'ste.csv', columns()), '--optimizer', 'adam(b2=0.95)')


def test_a_slope_that_is_not_covered_is_not_said_to_cancel(tmp_path):
    ewgs = of_slope(lambda r: 1 + 0.2 * np.where(r < 0, r + 0.5, r - 0.5))
    text = said(write(tmp_path / 'ewgs.csv', ewgs), '--optimizer', 'adam')
    assert 'so the slope cancels, where the theorem covers it; this one it does not' in text


@pytest.mark.slow
def test_the_command_for_m_maps_the_weights_of_a_model(tmp_path):
    """What the audit prints is run as it stands, on files of these names."""
    _, out, _ = ran(write(tmp_path / 'dsq.csv', of_slope(steep)), '--out', tmp_path, '--optimizer', 'sgd(momentum=0.9)')
    (line,) = [line for line in out.splitlines() if 'experiments.convert' in line]
    weight = np.float32(np.random.default_rng(0).uniform(-1, 1, (4, 3, 3, 3)))
    save_file({'conv.weight': weight / np.abs(weight).max()}, tmp_path / 'in.safetensors')
    arguments = shlex.split(line.replace('IN.', f'{tmp_path}/in.').replace('OUT.', f'{tmp_path}/out.'))
    assert convert.main(arguments[3:]) == 0
    moved = load_file(tmp_path / 'out.safetensors')['conv.weight']
    expected = WeightMap(estimators.make('dsq', 2))(weight / np.abs(weight).max(), np.float32(1))
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_the_answer_says_where_bits_and_samples_do_not_agree(tmp_path):
    text = said(write(tmp_path / 'ste.csv', columns()), '--bits', 3)
    assert 'straight-through estimator itself; but 3 bits make 8 values, and the samples have 4' in text


def test_the_answer_says_that_samples_are_noisy_and_no_recipe_follows(tmp_path):
    noisy = of_slope(steep) + [0, 0, 0.02] * np.random.default_rng(0).normal(size=(2001, 1))
    text = said(write(tmp_path / 'noisy.csv', noisy), '--optimizer', 'adam')
    assert 'these samples do not tell: its slope is noisy' in text and 'Recipe none is known' in text
    assert 'cannot be told' in text and 'As STE' not in text


NUMBERS = st.one_of(st.floats(), st.sampled_from([0.0, 1.0, -1.0, 1e-300, 1e300, float('nan'), float('inf')]))
TABLES = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(NUMBERS, min_size=width, max_size=width), max_size=40)
)
DAMAGE = st.sampled_from(
    ['', 'noise', 'shuffled', 'twice', 'hole', 'short', 'silent', 'constant', 'huge', 'tiny', 'float16']
)


def damaged(how: str) -> np.ndarray:
    """Samples with something wrong."""
    table, random = columns(400), np.random.default_rng(0)
    return {
        'noise': lambda: table + 0.01 * random.normal(size=table.shape),
        'shuffled': lambda: random.permutation(table),
        'twice': lambda: np.repeat(table, 2, axis=0),
        'hole': lambda: table[np.abs(table[:, 0]) > 0.5],
        'short': lambda: table[::23],
        'silent': lambda: table * [1, 1, 0],
        'constant': lambda: table * [1, 0, 1],
        'huge': lambda: table * [1e300, 1e300, 1],
        'tiny': lambda: table * [1e-300, 1e-300, 1e-300],
        'float16': lambda: np.asarray(table, np.float16).astype(float),
    }.get(how, lambda: table)()


def check_hostile(content: bytes, path: pathlib.Path):
    path.write_bytes(content)
    code, out, err = ran(path, '--json', '--optimizer', 'sgd')
    if code == 0:
        assert json.loads(out)['verdict'] in ('ste', 'disguised', 'not_covered', 'unknown')
    else:
        assert (code, out) == (USERS_ERROR, '') and err.count('\n') == 1 and err.startswith('error: ')


@settings(max_examples=60)
@given(
    content=st.one_of(TABLES.map(lambda rows: '\n'.join(','.join(map(str, row)) for row in rows).encode()), st.binary())
)
def test_hostile_tables_end_in_a_line_or_a_result(content, tmp_path_factory):
    for suffix in ('csv', 'npz'):
        check_hostile(content, tmp_path_factory.getbasetemp() / f'hostile.{suffix}')


@pytest.mark.slow
@settings(max_examples=40)
@given(first=DAMAGE, second=DAMAGE, width=st.integers(1, 3))
def test_hostile_samples_end_in_a_line_or_a_result(first, second, width, tmp_path_factory):
    table = np.concatenate([damaged(first), damaged(second)])[:, :width]
    content = '\n'.join(','.join(f'{number:.6g}' for number in row) for row in table).encode()
    check_hostile(content, tmp_path_factory.getbasetemp() / 'damaged.csv')


@pytest.mark.parametrize('number', range(len(BLOCKS)))
def test_the_snippets_of_the_page_are_python(number):
    compile(BLOCKS[number], 'docs/audit.md', 'exec')


def test_the_pages_snippet_for_layers_says_what_it_says():
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(BLOCKS[-1], 'docs/audit.md', 'exec'), {})
    assert out.getvalue().startswith('True {')


@pytest.mark.slow
@pytest.mark.parametrize('framework, block', [('torch', 0), ('tensorflow', 1)])
def test_the_pages_snippets_write_what_is_audited(framework, block, tmp_path, monkeypatch):
    if framework not in sys.modules:
        pytest.importorskip(framework)
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[block], 'docs/audit.md', 'exec'), {})
    _, out, _ = ran('samples.csv', '--json', '--bits', 4)
    found = json.loads(out)
    assert (found['verdict'], len(found['values']), found['uniform']) == ('ste', 16, True)


@pytest.mark.slow
def test_where_slopes_cancel_no_m_is_needed(tmp_path):
    """DoReFa's tanh at 3 bits: no recipe under SGD, STE with nothing changed under Adam; never where codes absorb."""
    w = np.linspace(-2, 2, 2001)
    q = 2 * np.round((np.tanh(w) / (2 * np.tanh(2)) + 0.5) * 7) / 7 - 1
    dorefa = np.stack([w, q, 1 / np.cosh(w) ** 2 / np.tanh(2)], axis=1)
    silent = columns() * [1, 1, 0] + [0, 0, 1] * (np.abs(columns()[:, :1]) < 2 / 3)
    for table, under_sgd, under_adam in ((dorefa, None, 1.0), (silent, None, None)):
        file = write(tmp_path / 'samples.csv', table)
        for optimizer, factor in (('sgd', under_sgd), ('adam', under_adam)):
            found = json.loads(ran(file, '--json', '--optimizer', optimizer)[1])
            assert found['learning_rate_factor'] == factor and (factor or found['no_recipe_because'])
    assert found['absorbing_codes'] == [0, 3]
