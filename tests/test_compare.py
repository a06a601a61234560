"""Series of weights compared: a run's dump gives the run's summary, samples give bounds, and bad input one line."""

import io
import json
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from experiments import compare
from experiments.comparison import following, matching, parts, report, series
from experiments.comparison.following import UNMAPPED, Rounding
from experiments.comparison.matching import Layer
from experiments.comparison.shared_ranges import SharedRange
from experiments.errors import UserError
from qat import Lockstep
from qat.grids import quantizer
from tests.qat import oracle

ROOT = pathlib.Path(__file__).parent.parent

STEPS, LAYERS = 30, ('first/kernel', 'second/kernel')
ROUNDED = ['--bits=2', '--range=channel_max_abs', '--quantized=*kernel']
MAP = '--map=dsq(k=6.5)'


def loss(params, batch):
    return jnp.mean((jnp.tanh(batch @ params['first/kernel'] + params['first/bias']) @ params['second/kernel']) ** 2)


@pytest.fixture(scope='module')
def run():
    """By run, the parameters after each step of a perceptron; and the run's own summary of STE with the recipe."""
    random = np.random.default_rng(0)
    params = {
        'first/kernel': np.float32(random.uniform(-1, 1, (6, 40))),
        'first/bias': np.zeros(40, np.float32),
        'second/kernel': np.float32(random.uniform(-0.4, 0.4, (40, 3))),
    }
    options = {'quantized': LAYERS.__contains__, 'twins': ('ste',), 'ranges': 'channel_max_abs'}
    pair = Lockstep(loss, optax.sgd(0.1), 'dsq(k=6.5)', 2, **options)
    states, step = [pair.init(params)], jax.jit(pair.step)
    for _ in range(STEPS):
        states.append(step(states[-1], np.float32(random.normal(size=(16, 6))))[0])
    dumps = {name: [jax.device_get(state.runs[name].params) for state in states] for name in ('reference', 'ste')}
    return dumps, pair.summary(states[-1])['ste']


def as_safetensors(folder: pathlib.Path, step: int, arrays) -> None:
    save_file(dict(arrays), folder / f'step-{step}.safetensors')


def as_npz(folder: pathlib.Path, step: int, arrays) -> None:
    (np.savez, np.savez_compressed)[step % 2](folder / f'{step}.npz', **arrays)


def as_orbax(folder: pathlib.Path, step: int, arrays) -> None:
    nested = {}
    for name, array in arrays.items():
        layer, _, leaf = name.partition('/')
        nested.setdefault(layer, {})[leaf] = array
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute() / 'checkpoints' / str(step), nested)


def dumped(folder: pathlib.Path, snapshots, write=as_npz, steps=range(STEPS + 1)) -> str:
    folder.mkdir(parents=True)
    for step in steps:
        write(folder, step, snapshots[step])
    return str(folder)


def compared(tmp_path, *arguments) -> dict:
    out = tmp_path / 'out'
    assert compare.main([*map(str, arguments), f'--out={out}']) == 0
    return json.loads((out / 'summary.json').read_text())


def refused(capsys, tmp_path, *arguments) -> str:
    """The one line in which a command is refused."""
    capsys.readouterr()
    assert compare.main([*map(str, arguments), f'--out={tmp_path / "refused"}']) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith('note: ')]
    assert line.startswith('error: ') and len(line) <= 300
    return line


def test_the_dump_of_every_step_gives_the_summary_of_the_run(run, tmp_path, capsys):
    dumps, own = run
    a, b = (dumped(tmp_path / name, dumps[name]) for name in ('reference', 'ste'))
    found = compared(tmp_path, a, b, *ROUNDED, MAP)
    assert found['twins']['mapped'] == own
    assert own['change_point_sequence_agreement'] < 1 and own['changed_codes'] > 5  # or it would be too easy
    assert set(found['exact'].values()) == {True} and found['exact'].keys() == own.keys()
    assert found['twins']['unmapped']['weight_alignment_error'] > own['weight_alignment_error']
    page = (tmp_path / 'out/report.html').read_text()
    assert 'all metrics are <b>exact</b>' in page and 'lower bound' not in page
    assert 'weight_alignment_error' in capsys.readouterr().out


def test_every_tenth_step_gives_bounds(run, tmp_path):
    dumps, own = run
    a, b = (dumped(tmp_path / name, dumps[name], steps=range(0, STEPS + 1, 10)) for name in ('reference', 'ste'))
    found = compared(tmp_path, a, b, *ROUNDED, MAP)
    holds = {True: lambda seen, whole: seen == pytest.approx(whole, rel=1e-6), 'sampled': lambda *_: True}
    holds |= {'upper bound': lambda seen, whole: seen > whole, 'lower bound': lambda seen, whole: seen < whole}
    for key, known in found['exact'].items():
        assert holds[known](found['twins']['mapped'][key], own[key]), key
    assert {key for key, known in found['exact'].items() if known is True} == {
        *('weight_alignment_error_displacement', 'quantized_weight_agreement', 'changed_codes', 'changed_fraction')
    }
    assert {found['exact'][key] for key in ('path_length', 'moved_fraction')} == {'lower bound'}
    assert found['exact']['weight_alignment_error'] == 'upper bound'
    page = (tmp_path / 'out/report.html').read_text()
    assert '<td class="note">upper bound</td>' in page and 'is unseen' in page


def codes_of(tmp_path, sequences, steps) -> dict:
    """The comparison of codes, sequences[series][weight][step], at these steps."""
    for name, of_series in zip('ab', sequences):
        snapshots = {step: {'layer': np.uint8(of_series)[:, None, step]} for step in steps}
        dumped(tmp_path / name, snapshots, steps=steps)
    return compared(tmp_path, tmp_path / 'a', tmp_path / 'b')


def test_codes_are_compared_by_the_definitions_without_distances(tmp_path):
    random = np.random.default_rng(1)
    sequences = random.integers(0, 3, (2, 50, 12)).cumsum(axis=2) % 4
    sequences[1, ::2] = sequences[0, ::2]
    found = codes_of(tmp_path, sequences, range(12))
    expected = oracle.metrics(*sequences.tolist())
    assert {key: found['twins'][UNMAPPED][key] for key in expected} == expected
    errors = {'weight_alignment_error', 'weight_alignment_error_displacement', 'path_length'}
    assert {key for key, value in found['twins'][UNMAPPED].items() if value is None} == errors
    assert found['twins'][UNMAPPED]['changed_codes'] == (sequences[1, :, 0] != sequences[1, :, -1]).sum()


def test_at_every_other_step_there_may_be_oscillations_that_were_none(tmp_path):
    """Why they are no lower bound: 0 1 2 1 0 1 2 ... never goes a b a b."""
    sequences = np.tile([0, 1, 2, 1], 4)[None, None, :13].repeat(2, axis=0)
    assert oracle.metrics(*sequences.tolist())['oscillations_twin'] == 0
    found = codes_of(tmp_path, sequences, range(0, 13, 2))
    assert found['twins'][UNMAPPED]['oscillations_twin'] > 0 and found['exact']['oscillations_twin'] == 'sampled'


ARRAYS = {
    'layer/kernel': np.random.default_rng(2).normal(size=(3, 8, 6)).astype(np.float32),  # the first axis is time
    'other/kernel': np.random.default_rng(3).normal(size=(3, 4, 2, 2)).astype(np.float32),
    'layer/bias': np.zeros((3, 6), np.float32),
}
SNAPSHOTS = [{name: array[step] for name, array in ARRAYS.items()} for step in range(3)]


def in_one_file(write):
    def write_all(folder, step, _):
        if step == 0:
            write(folder, ARRAYS | {'step': np.array([0, 1, 2])})

    return write_all


WRITERS = {
    'safetensors': as_safetensors,
    'npz': as_npz,
    'orbax': as_orbax,
    'one_npz': in_one_file(lambda folder, arrays: np.savez_compressed(folder / 'all.npz', **arrays)),
    'one_safetensors': in_one_file(lambda folder, arrays: save_file(arrays, folder / 'all.safetensors')),
    'in_columns': lambda folder, step, arrays: as_npz(
        folder, step, {name: np.asfortranarray(array) for name, array in arrays.items()}
    ),
    'folders': lambda folder, step, arrays: (
        (folder / f'checkpoint-{step}').mkdir(),
        save_file(arrays, folder / f'checkpoint-{step}/model2.safetensors'),
    ),
    'entries': lambda folder, step, arrays: np.savez(folder / f'{"abc"[step]}.npz', step=np.int64(step), **arrays),
}


@pytest.mark.parametrize('kind', WRITERS)
@pytest.mark.parametrize('largest', [10, 1000])
def test_every_format_is_read_whole_and_in_parts(kind, largest, tmp_path):
    where = dumped(tmp_path / 'series', SNAPSHOTS, WRITERS[kind], range(3))
    found = series.find(f'{where}/*/*.safetensors' if kind == 'folders' else where, None)
    assert list(found.snapshots) == [0, 1, 2] and found.has_steps
    layers, are_codes = matching.layers(found, found, [], [])
    assert {layer.name for layer in layers} == {'layer/kernel', 'other/kernel'} and not are_codes
    for step, snapshot in found.snapshots.items():
        pieces = {layer.name: [] for layer in layers}
        for group in parts.groups(layers, largest):
            assert sum(part.size for part in group) <= largest
            for part, piece in zip(group, parts.read(snapshot, step, group, is_b=False)):
                pieces[part.layer.name].append(piece)
        for name, found_pieces in pieces.items():
            np.testing.assert_array_equal(np.concatenate(found_pieces), SNAPSHOTS[step][name])


@pytest.mark.parametrize('dtype', [ml_dtypes.bfloat16, np.float16, np.float64, '>f4'])
@pytest.mark.parametrize('write', [as_npz, as_safetensors, as_orbax])
def test_other_floats_are_read_as_float32(dtype, write, tmp_path):
    if dtype == '>f4' and write is not as_npz:
        pytest.skip('numpy alone writes it')
    weights = np.float32([[0.1, -2.0], [3.0, 0.5]]).astype(dtype)
    write(tmp_path, 1, {'w/k': weights})
    (snapshot,) = (series._reader(path)(path) for path in series._paths(str(tmp_path)))
    (read,) = parts.read(snapshot, 1, [parts.Part(Layer('w/k', 'w/k', (2, 2)), slice(0, 2))], is_b=True)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, weights.astype(np.float32))


RULES = ('max_abs', 'channel_max_abs', 'mean_abs', 'he_uniform', 'block_max_abs(size=4)', '0.7')


@pytest.mark.parametrize('outputs', ['first', 'last'])
@pytest.mark.parametrize('rule', RULES)
def test_a_layer_in_parts_has_the_range_of_the_whole(rule, outputs, tmp_path):
    weights = np.random.default_rng(4).normal(size=(16, 8)).astype(np.float32)
    how, layer = SharedRange(rule, outputs), Layer('w', 'w', weights.shape)
    np.savez(tmp_path / '0.npz', w=weights)
    snapshot = series.Npz(tmp_path / '0.npz')
    found = [
        following._range(
            how, part, weights[part.rows], 32, lambda layer: following._range_of_layer(how, snapshot, 0, 32, layer)
        )
        for part in parts.of_layer(layer, 32)
    ]
    assert len(found) == 4
    pieces = np.concatenate([np.broadcast_to(R, (4, 8)) for R in found])
    turned = weights.T if outputs == 'first' else weights
    expected = {
        'max_abs': lambda: np.abs(turned).max(),
        'channel_max_abs': lambda: np.abs(turned).max(axis=0, keepdims=True),
        'mean_abs': lambda: np.abs(turned).mean(),
        'he_uniform': lambda: np.sqrt(6 / len(turned)),
        'block_max_abs(size=4)': lambda: np.abs(turned).reshape(-1, 4, turned.shape[1]).max(axis=1).repeat(4, axis=0),
        '0.7': lambda: 0.7,
    }[rule]()
    expected = np.broadcast_to(expected, turned.shape)
    np.testing.assert_allclose(pieces, expected.T if outputs == 'first' else expected, rtol=1e-6)


def test_parts_add_up_to_the_whole(run, tmp_path):
    dumps, _ = run
    pair = series.together(*(series.find(dumped(tmp_path / name, dumps[name]), None) for name in dumps))
    found = series.find(str(tmp_path / 'reference'), None)
    layers, _ = matching.layers(found, found, ['*kernel'], [])
    rounding = Rounding(quantizer(2), SharedRange('max_abs'), None)
    whole, cut = (
        report._metrics(following.follow(pair, layers, rounding, [STEPS], largest)[STEPS][UNMAPPED].values())
        for largest in (parts.GROUP, 50)
    )
    for key, value in whole.items():
        assert cut[key] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), key


def test_names_that_differ_are_mapped(tmp_path):
    renamed = [{f'module.{name}': array for name, array in arrays.items()} for arrays in SNAPSHOTS]
    a, b = dumped(tmp_path / 'a', renamed, steps=range(3)), dumped(tmp_path / 'b', SNAPSHOTS, steps=range(3))
    a, b = (series.find(where, None) for where in (a, b))
    layers, _ = matching.layers(a, b, ['*layer*kernel'], ['module.*=*'])
    assert layers == [Layer('module.layer/kernel', 'layer/kernel', (8, 6))]
    layers, _ = matching.layers(a, b, ['*layer*kernel'], ['module.layer/kernel=layer/kernel', '*=x*'])
    assert layers[0].name_in_b == 'layer/kernel'


def test_without_steps_only_the_order_is_known(tmp_path, capsys):
    for name in 'ab':
        (tmp_path / name).mkdir()
        for letter, arrays in zip('xyz', SNAPSHOTS):
            np.savez(tmp_path / name / f'{letter}.npz', **arrays)
    of_order = [series.find(str(tmp_path / name), None) for name in 'ab']
    assert 'only the order counts' in capsys.readouterr().err
    pair = series.together(*of_order)
    assert not pair.is_every_update and not pair.from_start
    pair = series.together(*(series.find(str(tmp_path / name), 1) for name in 'ab'))
    assert pair.is_every_update and list(pair.a) == [0, 1, 2]
    pair = series.together(*(series.find(str(tmp_path / name), 10) for name in 'ab'))
    assert not pair.is_every_update and pair.from_start and list(pair.b) == [0, 10, 20]


BAD = {  # what B is, by a change of its arrays at a step; and what the line says
    'other shape': (lambda arrays: {**arrays, 'layer/kernel': np.zeros((8, 5))}, r'has shape \(8, 5\), and \(8, 6\)'),
    'missing': (lambda arrays: {'other/kernel': arrays['other/kernel']}, 'has no layer/kernel'),
    'nan': (lambda arrays: {**arrays, 'layer/kernel': np.full((8, 6), np.nan)}, 'layer/kernel has nan at step 2'),
    'infinite': (lambda arrays: {**arrays, 'layer/kernel': np.full((8, 6), 1e300)}, 'layer/kernel has inf at step 2'),
    'dtype': (lambda arrays: {**arrays, 'layer/kernel': np.zeros((8, 6), complex)}, 'layer/kernel is complex128'),
    'objects': (lambda arrays: {**arrays, 'layer/kernel': np.array([[{}]])}, 'layer/kernel has shape'),
}


@pytest.mark.parametrize('name', BAD)
def test_what_is_wrong_later_is_said_in_a_line_too(name, tmp_path, capsys):
    change, said = BAD[name]
    a = dumped(tmp_path / 'a', SNAPSHOTS, steps=range(3))
    b = dumped(tmp_path / 'b', [*SNAPSHOTS[:2], change(SNAPSHOTS[2])], steps=range(3))
    line = refused(capsys, tmp_path, a, b, '--bits=2', '--range=max_abs')
    assert re.search(said, line) and '2.npz' in line
    assert not (tmp_path / 'refused/summary.json').exists()


def test_mistakes_are_told_in_a_line(tmp_path, capsys):
    a = dumped(tmp_path / 'a', SNAPSHOTS, steps=range(3))
    (tmp_path / 'torch').mkdir()
    (tmp_path / 'torch/1.pt').write_bytes(b'cos\nsystem\n(S"touch /tmp/unpickled"\ntR.')
    (tmp_path / 'empty').mkdir()
    one = dumped(tmp_path / 'one', SNAPSHOTS, steps=[1])
    later = dumped(tmp_path / 'later', SNAPSHOTS[:1] * 9, steps=[7, 8])
    codes = dumped(tmp_path / 'codes', [{'layer/kernel': np.zeros((8, 6), np.uint8)}] * 3, steps=range(3))
    zero = dumped(tmp_path / 'zero', [{'layer/kernel': np.zeros((8, 6), np.float32)}] * 3, steps=range(3))
    rounded = ['--bits=2', '--range=max_abs']
    for arguments, said in (
        ((a, tmp_path / 'torch', *rounded), 'safetensors.torch.save_file'),
        ((a, tmp_path / 'torch/1.pt', *rounded), 'safetensors.torch.save_file'),
        ((a, tmp_path / 'empty', *rounded), 'no .safetensors, .npz files'),
        ((a, tmp_path / 'none', *rounded), 'no .safetensors, .npz files'),
        ((a, a + '/*.npy', *rounded), 'no .safetensors, .npz files'),
        ((a, a + '/1.npz', *rounded), 'time must be the first axis'),
        ((a, one + '/*', *rounded), 'time must be the first axis'),
        ((a, later, *rounded), '0 step(s) in common'),
        ((a, a), '--bits 2 --range max_abs'),
        ((a, a, '--bits=9', '--range=max_abs'), 'bits must be'),
        ((a, a, '--bits=2', '--range=most'), "unknown range 'most'"),
        ((a, a, '--bits=2', '--range=-1'), 'must be a positive number'),
        ((a, a, '--bits=2', '--range=block_max_abs(size=5)'), 'not made of such blocks'),
        ((a, a, '--quantizer=fp3', '--range=1'), "unknown quantizer 'fp3'"),
        ((a, a, *rounded, '--map=dsq(k=-1)'), '--map'),
        ((a, a, *rounded, '--map=none.py:f'), 'there is no file'),
        ((a, a, *rounded, '--clip-rule=pass'), '--map'),
        ((a, a, *rounded, '--quantized=x*'), 'no name matches x*'),
        ((a, a, *rounded, '--names=a'), 'NAME_IN_A=NAME_IN_B'),
        ((a, a, *rounded, '--names=layer/*=x/*'), 'has no x/kernel'),
        ((codes, a, '--quantized=layer*', *rounded), 'some weights'),
        ((codes, codes, *rounded), 'leave out --bits'),
        ((zero, zero, *rounded), 'must be positive'),
    ):  # fmt: skip
        assert said in refused(capsys, tmp_path, *arguments), arguments


def file_content(kind: str, arrays) -> bytes:
    content = io.BytesIO()
    if kind == '.npz':
        np.savez(content, **arrays)
        return content.getvalue()
    from safetensors.numpy import save

    return save(arrays)


@st.composite
def hostile_files(draw) -> tuple[str, list[bytes]]:
    """A suffix, and the content of three files of a series, of which one may be anything."""
    kind = draw(st.sampled_from(['.npz', '.safetensors']))
    dtypes = st.sampled_from([np.float32, np.float16, np.uint8, np.int8, np.float64, bool, np.complex64])
    arrays = {'w': np.ones((2, 3), draw(dtypes)) if draw(st.booleans()) else np.ones((2, 3), np.float32)}
    contents = [bytearray(file_content(kind, arrays)) for _ in range(3)]
    bad = contents[draw(st.integers(0, 2))]
    if draw(st.booleans()):
        del bad[draw(st.integers(0, len(bad))) :]
    for _ in range(draw(st.integers(0, 4))):
        if bad:
            bad[draw(st.integers(0, min(len(bad) - 1, draw(st.sampled_from([8, 150, 10**6])))))] = draw(
                st.integers(0, 255)
            )
    return kind, [bytes(content) for content in contents]


@settings(max_examples=100)
@given(hostile_files(), st.sampled_from(['a{}', '{}', 'x', '-{}', '9999999999{}', '{0}-2']))
def test_hostile_files_are_refused_or_compared(tmp_path_factory, files, name):
    kind, contents = files
    folder = tmp_path_factory.mktemp('hostile')
    for number, content in enumerate(contents):
        (folder / f'{name.format(number)}{"z" * number if name == "x" else ""}{kind}').write_bytes(content)
    try:
        found = series.find(str(folder), None)
        pair = series.together(found, found)
        layers, are_codes = matching.layers(found, found, [], [])
        rounding = Rounding(quantizer(2), None if are_codes else SharedRange('max_abs'), None)
        sums = following.follow(pair, layers, rounding, [list(pair.a)[-1]])
        result = report.summarize(found, found, pair, layers, rounding, next(iter(sums.values())))
        json.dumps(result, allow_nan=False)
        assert result['twins'][UNMAPPED]['quantized_weight_agreement'] == 1
    except UserError as error:
        assert str(error)


def blocks(language: str) -> list[str]:
    return re.findall(rf'```{language}\n(.*?)```', (ROOT / 'docs/compare.md').read_text(), re.DOTALL)


def test_the_callback_for_jax_saves_what_compare_finds_in_the_weights(run, tmp_path):
    dumps, _ = run
    (program,) = [block for block in blocks('python') if 'import jax' in block]
    names = {}
    exec(program, names)
    ranges = {name: np.abs(dumps['reference'][0][name]).max() for name in LAYERS}
    for name, snapshots in dumps.items():
        save = names['SaveCodes'](snapshots[0], tmp_path / f'codes_{name}', 2, every=5, ranges=ranges)
        for params in snapshots:
            save(params)
        dumped(tmp_path / name, snapshots, as_safetensors, range(0, STEPS + 1, 5))
    by_codes = compared(tmp_path, tmp_path / 'codes_reference', tmp_path / 'codes_ste')['twins'][UNMAPPED]
    arguments = [tmp_path / 'reference', tmp_path / 'ste', '--bits=2', '--range=max_abs']
    by_weights = compared(tmp_path, *arguments)['twins'][UNMAPPED]
    assert {key: by_weights[key] for key, value in by_codes.items() if value is not None} == {
        key: value for key, value in by_codes.items() if value is not None
    }
    assert by_codes['changed_codes'] > 0


def test_the_callback_for_pytorch_saves_codes(tmp_path):
    (program,) = [block for block in blocks('python') if 'import torch' in block]
    code = compile(program, 'docs/compare.md', 'exec')
    torch = pytest.importorskip('torch')
    names = {}
    exec(code, names)
    model = torch.nn.Linear(4, 3)
    save = names['SaveCodes'](model, tmp_path / 'codes', 2, every=2)
    for _ in range(3):
        save()
    with np.load(tmp_path / 'codes/2.npz', allow_pickle=False) as found:
        weight = model.weight.detach().numpy()
        expected = np.round((weight / np.abs(weight).max() + 1) / 2 * 3)
        np.testing.assert_array_equal(found['weight'], expected)
    assert sorted(path.name for path in (tmp_path / 'codes').iterdir()) == ['0.npz', '2.npz']


MEASURED = """
import resource, sys
from experiments.comparison import following, matching, parts, series
from experiments.comparison.following import Rounding
from experiments.comparison.shared_ranges import SharedRange
from qat.grids import quantizer
found = series.find(sys.argv[1], None)
pair = series.together(found, found)
layers, _ = matching.layers(found, found, [], [])
following.follow(pair, layers, Rounding(quantizer(2), SharedRange('max_abs'), None), [list(pair.a)[-1]], 2**18)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_memory_grows_neither_with_layers_nor_with_steps_nor_with_their_size(tmp_path):
    """In MiB: 2^18 weights are followed at once, of 2^20 in a small series and of 2^24 in a large one, or 20 steps."""

    def peak(name: str, layers: int, rows: int, steps: int) -> float:
        arrays = {f'{layer}': np.ones((rows, 2**10), np.float32) for layer in range(layers)}
        where = dumped(tmp_path / name, [arrays] * steps, as_safetensors, range(steps))
        command = [sys.executable, '-c', MEASURED, where]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return float(done.stdout)

    small = peak('small', 4, 2**8, 3)
    assert peak('layers', 64, 2**8, 3) < small + 60
    assert peak('rows', 1, 2**14, 3) < small + 60
    assert peak('steps', 4, 2**8, 40) < small + 60
