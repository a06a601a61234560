"""Series of weights from every format, whole and in parts, with names, steps and ranges; bad input is one line."""

import io
import json
import re
import zipfile

import ml_dtypes
import numpy as np
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
from qat.grids import quantizer
from tests.dumps import ARRAYS, SNAPSHOTS, as_npz, as_orbax, as_safetensors, dumped


def refused(capsys, tmp_path, *arguments) -> str:
    """The one line in which a command is refused."""
    capsys.readouterr()
    assert compare.main([*map(str, arguments), f'--out={tmp_path / "refused/deep"}']) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith('note: ')]
    assert line.startswith('error: ') and len(line) <= 300
    return line


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
@pytest.mark.parametrize('largest', [3, 10, 1000])
def test_every_format_is_read_whole_and_in_parts(kind, largest, tmp_path):
    where = dumped(tmp_path / 'series', SNAPSHOTS, WRITERS[kind], range(3))
    found = series.find(f'{where}/*/*.safetensors' if kind == 'folders' else where, None)
    assert list(found.snapshots) == [0, 1, 2] and found.has_steps
    layers, are_codes = matching.layers(found, found, [], [])
    assert {layer.name for layer in layers} == {'layer/kernel', 'other/kernel'} and not are_codes
    for step, snapshot in found.snapshots.items():
        pieces = {layer.name: np.full(layer.shape, np.nan) for layer in layers}
        for group in parts.groups(layers, largest):
            assert sum(part.size for part in group) <= largest
            for part, piece in zip(group, parts.read(snapshot, step, group, is_b=False)):
                pieces[part.layer.name][np.ix_(*part.index)] = piece
        for name, found_pieces in pieces.items():
            np.testing.assert_array_equal(found_pieces, SNAPSHOTS[step][name])


@pytest.mark.parametrize('dtype', [ml_dtypes.bfloat16, np.float16, np.float64, '>f4'])
@pytest.mark.parametrize('write', [as_npz, as_safetensors, as_orbax])
def test_other_floats_are_read_as_float32(dtype, write, tmp_path):
    if dtype == '>f4' and write is not as_npz:
        pytest.skip('numpy alone writes it')
    weights = np.float32([[0.1, -2.0], [3.0, 0.5]]).astype(dtype)
    found = series.find(dumped(tmp_path / 'series', [{'w/k': weights}] * 2, write), None)
    ((part,),) = parts.groups([Layer('w/k', 'w/k', (2, 2))], 4)
    (read,) = parts.read(found.snapshots[1], 1, [part], is_b=True)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, weights.astype(np.float32))


def test_names_that_differ_are_mapped(tmp_path):
    renamed = [{f'module.{name}': array for name, array in arrays.items()} for arrays in SNAPSHOTS]
    a, b = dumped(tmp_path / 'a', renamed, steps=range(3)), dumped(tmp_path / 'b', SNAPSHOTS, steps=range(3))
    a, b = (series.find(where, None) for where in (a, b))
    layers, _ = matching.layers(a, b, ['*layer*kernel'], ['module.*=*'])
    assert layers == [Layer('module.layer/kernel', 'layer/kernel', (8, 6))]
    layers, _ = matching.layers(a, b, ['*layer*kernel'], ['module.layer/kernel=layer/kernel', '*=x*'])
    assert layers[0].name_in_b == 'layer/kernel'


@pytest.mark.parametrize('prefix_of', 'ab')
def test_the_pair_of_names_that_an_error_gives_works(prefix_of, tmp_path, capsys):
    renamed = [{f'module.{name}': array for name, array in arrays.items()} for arrays in SNAPSHOTS]
    series_of = {name: renamed if name == prefix_of else SNAPSHOTS for name in 'ab'}
    a, b = (dumped(tmp_path / name, arrays, steps=range(3)) for name, arrays in series_of.items())
    line = refused(capsys, tmp_path, a, b, '--bits=2', '--range=1')
    (rule,) = re.findall(r"--names '(\S+)'", line)
    assert 'leave it out by --quantized' in line
    assert compare.main([a, b, '--bits=2', '--range=1', f'--names={rule}', f'--out={tmp_path / "out"}']) == 0


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
    'codes': (lambda arrays: {**arrays, 'layer/kernel': np.ones((8, 6), np.uint8)}, 'is uint8, codes, .* has weights'),
    'dtype': (lambda arrays: {**arrays, 'layer/kernel': np.zeros((8, 6), complex)}, 'layer/kernel is complex128'),
    'objects': (lambda arrays: {**arrays, 'layer/kernel': np.array([[{}]])}, 'layer/kernel has shape'),
}


@pytest.mark.parametrize('name', BAD)
def test_what_is_wrong_later_is_said_in_a_line_too(name, tmp_path, capsys):
    change, said = BAD[name]
    a = dumped(tmp_path / 'a', SNAPSHOTS)
    b = dumped(tmp_path / 'b', [*SNAPSHOTS[:2], change(SNAPSHOTS[2])], steps=range(3))
    line = refused(capsys, tmp_path, a, b, '--bits=2', '--range=max_abs')
    assert re.search(said, line) and '2.npz' in line
    assert not (tmp_path / 'refused').exists()


def test_mistakes_are_told_in_a_line(tmp_path, capsys):
    a = dumped(tmp_path / 'a', SNAPSHOTS)
    (tmp_path / 'torch').mkdir()
    (tmp_path / 'torch/1.pt').write_bytes(b'cos\nsystem\n(S"touch /tmp/unpickled"\ntR.')
    (tmp_path / 'empty').mkdir()
    one = dumped(tmp_path / 'one', SNAPSHOTS, steps=[1])
    later = dumped(tmp_path / 'later', SNAPSHOTS[:1] * 9, steps=[7, 8])
    codes = dumped(tmp_path / 'codes', [{'layer/kernel': np.zeros((8, 6), np.uint8)}] * 3, steps=range(3))
    zero = dumped(tmp_path / 'zero', [{'layer/kernel': np.zeros((8, 6), np.float32)}] * 3, steps=range(3))
    bomb, bombs = io.BytesIO(), tmp_path / 'bombs'
    np.lib.format.write_array_header_1_0(bomb, {'descr': '<f4', 'fortran_order': False, 'shape': (10**13, 2)})
    bombs.mkdir()
    for number in range(2):
        with zipfile.ZipFile(bombs / f'{number}.npz', 'w') as archive:
            archive.writestr('w.npy', bomb.getvalue())
    rounded = ['--bits=2', '--range=max_abs']
    for arguments, said in (
        ((a, tmp_path / 'torch', *rounded), 'safetensors.torch.save_file'),
        ((a, tmp_path / 'torch/1.pt', *rounded), 'safetensors.torch.save_file'),
        ((a, tmp_path / 'empty', *rounded), 'no .safetensors, .npz files'),
        ((a, tmp_path / 'none', *rounded), 'no .safetensors, .npz files'),
        ((a, a + '/*.npy', *rounded), 'no .safetensors, .npz files'),
        ((a, a + '/1.npz', *rounded), 'time must be the first axis'),
        ((a, one + '/*', *rounded), 'time must be the first axis'),
        ((bombs, bombs, *rounded), 'cannot read'),
        ((bombs / '0.npz', a, *rounded), 'would hold 10000000000000 snapshots'),
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
        ((a, a, *rounded, '--names=later/*=x/*', '--names=layer/*=x/*'), 'no later/*; the nearest of its names are'),
        ((codes, a, '--quantized=layer*', *rounded), '0.npz: layer/kernel is float32, weights, and the first'),
        ((a, codes, '--quantized=layer*', *rounded), '0.npz: layer/kernel is uint8, codes, and the first of'),
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
