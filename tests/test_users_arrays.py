"""A user's own .npz: what is plain is taken, what is likely is taken with a remark, all else is one line."""

import io
import pathlib
import re
import zipfile

import ml_collections
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from configs import common
from experiments.data import memory, npz, registry
from experiments.data.arrays import SPLITS
from experiments.errors import UserError, tell

WORDS = {'float64': np.float64, 'float16': np.float16, 'big-endian': np.dtype('>f4'), 'bool': np.bool_}
OURS = [f'{split}_{kind}' for kind in ('images', 'labels') for split in SPLITS]
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (40, 6, 6, 1), np.uint8)
CLASSES = np.arange(40) % 10


@pytest.fixture(autouse=True)
def told_anew():
    npz._note_once.cache_clear()


def saved(path: pathlib.Path, **changes) -> str:
    """A sound file of our names but for what is changed; None leaves an array out."""
    arrays = {name: PIXELS if name.endswith('images') else CLASSES for name in OURS} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return str(path)


def batch(path: str) -> dict:
    config = ml_collections.ConfigDict({**common.get_config(), 'dataset': path, 'batch_size': 20})
    return next(registry.load(config).train(0, 2))


def both(kind: str, array) -> dict:
    return {f'{split}_{kind}': array for split in SPLITS}


def changed(array, index, value):
    made = np.array(array)
    made[index] = value
    return made


@pytest.mark.parametrize('images', [*WORDS.values(), np.uint8])
def test_images_of_a_usual_scale_are_taken_without_a_word(images, tmp_path, capsys):
    unit = PIXELS if images == np.uint8 else (PIXELS / 255).round() if images == np.bool_ else PIXELS / 255
    found = batch(saved(tmp_path / 'x.npz', **both('images', unit.astype(images))))
    assert found['image'].dtype == np.float32 and found['image'].shape == (20, 6, 6, 1)
    assert found['image'].min() >= 0 and 0.9 < found['image'].max() <= 1
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize('scale', [1, 3])
def test_standardized_images_are_left_alone(scale, tmp_path, capsys):
    images = scale * RANDOM.standard_normal((40, 6, 6, 3)).astype(np.float32)
    images[0, 0, 0, 0] = 40  # a pixel that is seldom lit
    found = npz.read(saved(tmp_path / 'x.npz', **both('images', images)))
    assert (found.images['train'] == images).all() and capsys.readouterr().err == ''


@pytest.mark.parametrize(
    'labels', [CLASSES.astype(np.uint64), CLASSES.astype('>i2'), CLASSES[:, None], CLASSES % 2 == 1], ids=str
)
def test_labels_of_any_integer_dtype_are_taken(labels, tmp_path, capsys):
    found = npz.read(saved(tmp_path / 'x.npz', **both('labels', labels))).labels['train']
    assert found.dtype == np.int32 and found.tolist() == labels.ravel().tolist() and capsys.readouterr().err == ''


NAMES = {
    'keras': ('x_train', 'x_test', 'y_train', 'y_test'),
    'scikit-learn': ('X_train', 'X_val', 'y_train', 'y_val'),
    'medmnist': ('train_images', 'val_images', 'train_labels', 'val_labels'),
    'camel case': ('trainX', 'testX', 'trainY', 'testY'),
    'folders': ('train/images', 'valid/images', 'train/labels', 'valid/labels'),
    'capitals': ('TRAIN_DATA', 'VALIDATION_DATA', 'TRAIN_TARGETS', 'VALIDATION_TARGETS'),
}


@pytest.mark.parametrize('names', NAMES.values(), ids=NAMES)
def test_the_names_of_other_conventions_are_taken_and_told(names, tmp_path, capsys):
    train, validation = PIXELS, PIXELS[:30]
    arrays = dict(zip(names, (train, validation, CLASSES, CLASSES[:30])))
    path = str(tmp_path / 'x.npz')
    np.savez(path, **arrays)
    found = npz.read(path)
    assert (found.images['train'] == train).all() and (found.images['validation'] == validation).all()
    assert found.labels['train'].tolist() == CLASSES.tolist() and len(found.labels['validation']) == 30
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'note: dataset: {path}: trains on {names[0]!r} and {names[2]!r}, ')
    npz.read(path)
    assert capsys.readouterr().err == ''  # once


def test_of_validation_and_test_it_is_validation(tmp_path, capsys):
    others = {'test_images': PIXELS[:5], 'test_labels': CLASSES[:5]}
    found = npz.read(saved(tmp_path / 'x.npz', **others, x_train=PIXELS[:5], y_train=CLASSES[:5]))
    assert [len(found.labels[split]) for split in SPLITS] == [40, 40] and capsys.readouterr().err == ''


@pytest.mark.parametrize(
    ('shape', 'meant', 'made'),
    [
        ((40, 6, 6), 'gray', (6, 6, 1)),
        ((40, 1, 6, 6), 'channels first', (6, 6, 1)),
        ((40, 3, 6, 6), 'channels first', (6, 6, 3)),
        ((40, 6, 6, 5), '', (6, 6, 5)),
        ((40, 3, 3, 64), '', (3, 3, 64)),
        ((40, 28, 1, 1), '', (28, 1, 1)),
    ],
)
def test_layouts_that_are_not_in_doubt_are_taken(shape, meant, made, tmp_path, capsys):
    images = RANDOM.integers(0, 256, shape, np.uint8)
    found = npz.read(saved(tmp_path / 'x.npz', **both('images', images))).images['train']
    assert found.shape == (40, *made)
    assert (np.moveaxis(found, -1, 1).ravel() if meant == 'channels first' else found.ravel()).tolist() == (
        images.ravel().tolist()
    )
    error = capsys.readouterr().err
    assert error.count('\n') == 2 * bool(meant) and (not meant or f'is taken as {meant}' in error)


FLOATS = PIXELS.astype(np.float32)
ONE_HOT = np.eye(10)[CLASSES]
REFUSED = {
    'floats of 0 to 255': (
        both('images', FLOATS),
        'train_images holds floats of 0 to 255, .*Divide it by 255, or.*uint8',
    ),
    'floats of 0 to 65535': (both('images', 257 * FLOATS), r'Divide it by 6\.?553'),
    'floats of 0 to 16': (both('images', FLOATS // 16 + 1), 'Divide it by 16$'),
    'floats of -128 to 127': (both('images', FLOATS - 128), 'Subtract the mean'),
    'uint16': (both('images', PIXELS.astype(np.uint16)), r'holds uint16, .*\.astype\(np\.uint8\)'),
    'int64': (both('images', PIXELS.astype(np.int64)), 'holds int64'),
    'int8': ({'validation_images': PIXELS.astype(np.int8)}, 'validation_images holds int8'),
    'other scales': ({'validation_images': FLOATS / 255**2}, 'validation_images of 0 to 0.003922, are on different'),
    'standardized train': ({'train_images': FLOATS / 80 - 1.5, 'validation_images': FLOATS / 255}, 'different scales'),
    'standardized validation': ({'validation_images': FLOATS / 80 - 1.5}, 'different scales'),
    'NaN': (
        {'train_images': changed(FLOATS / 255, (3, 0, 5, 0), np.nan)},
        r'train_images\[3, 0, 5, 0\] is nan, not fin',
    ),
    'infinity': (
        {'validation_images': changed(FLOATS / 255, (39, 5, 0, 0), -np.inf)},
        r'validation_images\[39, 5, 0, 0\] is -i',
    ),
    'beyond float32': (
        {'train_images': changed(PIXELS / 255, (1, 2, 3, 0), 1e300)},
        r'\[1, 2, 3, 0\] is 1e\+300, not fin',
    ),
    'no channels': (both('images', PIXELS[..., :0]), r'\(40, 6, 6, 0\): an axis has length 0'),
    'flat': (both('images', np.zeros((40, 784))), r'\(40, 784\): flat images.*\.reshape\(-1, 28, 28, 1\)$'),
    'flat in colour': (both('images', np.zeros((40, 3072))), r'reshape\(-1, 32, 32, 3\), or .*\(0, 2, 3, 1\)$'),
    'flat and odd': (both('images', np.zeros((40, 13))), r'reshape\(-1, height, width, channels\)$'),
    'channels first or last': (both('images', np.zeros((40, 1, 6, 9))), 'the channels may be first or last'),
    'one axis': (both('images', np.zeros(40)), r'\(40,\), which is not of images'),
    'video': (both('images', np.zeros((40, 2, 6, 6, 1))), 'not of images'),
    'text as images': (both('images', np.full((40, 6, 6, 1), 'a')), 'holds text, no pixels'),
    'records': (both('images', np.zeros((40, 6, 6, 1), [('r', 'u1'), ('g', 'u1')])), 'holds records, no pixels'),
    'complex': (both('images', np.zeros((40, 6, 6, 1), complex)), 'holds complex128, no pixels'),
    'bfloat16': (both('images', np.zeros((40, 6, 6, 1), 'V2')), r'holds \|V2, no pixels'),
    'objects': ({'train_images': np.array([{}] * 40)}, 'train_images holds Python objects'),
    'two shapes': ({'validation_images': np.zeros((40, 3, 3, 1))}, r'another shape, \(3, 3, 1\)'),
    'no images': ({'train_images': PIXELS[:0], 'train_labels': CLASSES[:0]}, '0 images'),
    'fewer labels': ({'train_labels': np.arange(3)}, 'train_images has 40 images, and train_labels 3 labels'),
    'int64 beyond int32': (
        {'train_labels': changed(CLASSES, 7, 2**32 + 1)},
        r'train_labels\[7\] is 4294967297, which makes',
    ),
    'uint64': (
        {'validation_labels': changed(CLASSES.astype(np.uint64), 7, 2**64 - 1)},
        r'_labels\[7\] is 18446744073709551615',
    ),
    'an idle label': (
        {'train_labels': changed(CLASSES, 0, 2_000_000_000)},
        r'2000000001 classes, more than the 80 images',
    ),
    'ignored': (
        {'train_labels': changed(CLASSES.astype(np.uint8), 4, 255)},
        r'\[4\] is 255.* the next is 9\. If 255 .*leave',
    ),
    'negative': ({'validation_labels': changed(CLASSES, 2, -1)}, r'validation_labels\[2\] is -1: negative'),
    'one-hot': (both('labels', ONE_HOT), r'\(40, 10\): one-hot\. .*argmax\(axis=1\)'),
    'one-hot integers': (both('labels', ONE_HOT.astype(np.uint8)), 'one-hot'),
    'scores': (both('labels', ONE_HOT / 2), 'one class number'),
    'no axis': (both('labels', np.int32(3)), r'shape \(\)'),
    'text': (both('labels', np.full(40, 'cat')), "holds text, as 'cat'.*np.unique"),
    'bytes': (both('labels', np.full(40, b'cat')), 'holds text'),
    'whole floats': (both('labels', CLASSES.astype(np.float32)), r'holds floats.*\.astype\(np\.int32\)'),
    'halves': ({'train_labels': CLASSES + 0.5}, r'train_labels\[0\] is 0\.5, which is no class'),
    'NaN as a label': ({'train_labels': changed(CLASSES.astype(float), 9, np.nan)}, r'train_labels\[9\] is nan'),
    'dates': (both('labels', CLASSES.astype('datetime64[D]')), r'holds datetime64\[D\]'),
    'records as labels': (both('labels', np.zeros(40, [('a', 'i4')])), 'holds records'),
    'no labels': ({'train_labels': None}, "no train_images with train_labels.*'train_images', 'validation_images', "),
    'no validation': (dict.fromkeys(OURS[1::2]), 'no validation_images with validation_labels'),
    'two of one kind': (
        {'train_images': None, 'x_train': PIXELS, 'train_x': PIXELS},
        "'x_train' and 'train_x' may both be",
    ),
}


@pytest.mark.parametrize(('changes', 'said'), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_refused_with_what_was_found(changes, said, tmp_path):
    path = saved(tmp_path / 'x.npz', **changes)
    with pytest.raises(UserError, match=said) as refused:
        npz.read(path)
    message = str(refused.value)
    assert message.startswith(f'dataset: {path}: ') and len(message) - len(path) < 230 and '\n' not in message


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        (both('images', PIXELS // 16), r'train_images spans only 0 to 0\.05882'),
        (both('images', FLOATS / 255**2), 'train_images spans only'),
        (
            both('labels', changed(CLASSES, 5, 60)),
            r'labels\[5\] is 60, which makes 61 classes, and only 11 of them occur',
        ),
        (both('labels', CLASSES + 1), r'no label is 0, and .*\. If they are numbered from 1, subtract 1'),
        ({'train_labels': CLASSES % 5}, 'class 5 is validated and not in train_labels'),
    ],
    ids=['faint bytes', 'faint floats', 'gaps', 'from one', 'unseen'],
)
def test_what_is_likely_wrong_is_told(changes, said, tmp_path, capsys):
    npz.read(saved(tmp_path / 'x.npz', **changes))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('note: ') and re.search(said, line)


def claiming(path: pathlib.Path, shape: tuple[int, ...]) -> str:
    """A small file that claims to hold images of a shape, as a bomb would unpack to."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {'descr': '|u1', 'fortran_order': False, 'shape': shape})
    saved(path, train_images=None)
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr('train_images.npy', header.getvalue())
    return str(path)


def test_what_does_not_fit_in_memory_is_not_read(tmp_path, monkeypatch):
    path = claiming(tmp_path / 'x.npz', (10**9, 100, 100, 3))
    monkeypatch.setattr(npz._File, 'array', lambda *_: pytest.fail('it is read'))
    with pytest.raises(UserError, match=r'x\.npz needs 3e\+04 GB of memory, and [\d.]+ are left'):
        npz.read(path)


def test_memory_is_what_the_machine_has(monkeypatch):
    assert 10**8 < memory.available() < 10**14
    monkeypatch.setattr(pathlib.Path, 'read_text', lambda *_: '')
    assert 10**8 < memory.available() < 10**14
    config = ml_collections.ConfigDict({**common.get_config(), 'dataset': 'synthetic', 'batch_size': 2**40})
    with pytest.raises(UserError, match=r'batch_size=1099511627776: .*GB'):
        registry.load(config)


def damaged(path: pathlib.Path, how: str) -> None:
    whole = path.read_bytes()
    match how:
        case 'cut off':
            path.write_bytes(whole[: len(whole) // 2])
        case 'a bit':
            path.write_bytes(whole[:700] + bytes([whole[700] ^ 1]) + whole[701:])
        case 'an array alone':
            path.unlink()
            with path.open('wb') as file:
                np.save(file, PIXELS)
        case 'empty':
            path.write_bytes(b'')
        case 'cut off inside':
            claiming(path, (40, 6, 6, 1))
        case 'a folder':
            path.unlink()
            path.mkdir()
        case 'a header without end':
            with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
                for name in OURS:
                    archive.writestr(f'{name}.npy', b'\x93NUMPY\x02\x00\xff\xff\xff\x7f' + bytes(10**6))


@pytest.mark.parametrize(
    'how', ['cut off', 'a bit', 'an array alone', 'empty', 'cut off inside', 'a folder', 'a header without end']
)
def test_a_damaged_file_is_one_line(how, tmp_path):
    path = tmp_path / 'x.npz'
    saved(path)
    damaged(path, how)
    with pytest.raises(UserError, match=r'cannot read .*x\.npz'):
        npz.read(str(path))


DTYPES = st.one_of(
    npst.scalar_dtypes(), npst.array_dtypes(max_size=2), npst.byte_string_dtypes(), npst.unicode_string_dtypes()
)


WILD = DTYPES.flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
)


def likely(n: int, kind: str) -> st.SearchStrategy[np.ndarray]:
    """What people have, right or nearly."""
    if kind == 'labels':
        dtypes = st.sampled_from([np.uint8, np.int64, np.uint64, np.int32, np.float32, np.bool_])
        values = st.lists(st.integers(0, 3), min_size=n, max_size=n)
        return st.builds(lambda dtype, drawn: np.array(drawn).astype(dtype), dtypes, values)
    shapes = st.sampled_from([(n, 4, 4, 1)] * 4 + [(n, 4, 4), (n, 1, 4, 5), (n, 3, 5, 5), (n, 16)])
    scales = [(np.uint8, 1), (np.uint8, 1), (np.float32, 255), (np.float64, 255), (np.float32, 1), (np.uint16, 1)]
    return st.builds(
        lambda shape, scale, seed: (np.random.default_rng(seed).integers(0, 256, shape) / scale[1]).astype(scale[0]),
        shapes,
        st.sampled_from(scales),
        st.integers(0, 9),
    )


@st.composite
def any_file(draw) -> dict[str, np.ndarray]:
    """Of every dtype, shape and convention, most of them nearly right."""
    n = draw(st.integers(1, 4))
    names = draw(st.sampled_from([OURS, OURS, *NAMES.values()]))
    arrays = {name: draw(likely(n, ours.partition('_')[2])) for name, ours in zip(names, OURS)}
    if draw(st.booleans()):
        arrays[draw(st.sampled_from(names))] = draw(WILD)
    if draw(st.integers(0, 9)) == 9:
        del arrays[draw(st.sampled_from(names))]
    return arrays


@pytest.mark.filterwarnings('ignore:Stored array in format')
def test_any_arrays_are_finite_batches_or_one_line(tmp_path, capsys):
    """Whatever the dtypes, shapes and names of the arrays are."""
    ends = []

    @settings(max_examples=200)
    @given(any_file())
    def throw(arrays):
        np.savez(tmp_path / 'x.npz', **arrays)
        config = ml_collections.ConfigDict({**common.get_config(), 'dataset': str(tmp_path / 'x.npz'), 'batch_size': 1})
        try:
            batches = registry.load(config)
        except UserError as error:
            capsys.readouterr()
            assert tell(error) == 2
            line = capsys.readouterr().err
            assert line.count('\n') == 1 and len(line) <= 301 and '…' not in line
            ends.append('refused')
            return
        for part in (next(batches.train(0, 1)), *batches.validation()):
            image, label = part['image'], part['label']
            assert image.dtype == np.float32 and np.isfinite(image).all() and image.ndim == 4 and image.size
            assert label.dtype == np.int32 and label.min() >= 0 and label.max() < batches.classes
            assert batches.classes <= 10_000 and image.shape == (len(label), *batches.image_shape)
        ends.append('ran')

    throw()
    assert min(ends.count('ran'), ends.count('refused')) > 20  # both are seen
