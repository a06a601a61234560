"""Batches are a pure function of (seed, step), and every validation example comes once."""

import gzip
import struct

import ml_collections
import numpy as np
import pytest
from sklearn.datasets import load_digits

from configs import common
from experiments.data import registry
from experiments.data.arrays import SPLITS, ArrayBatches, Arrays
from experiments.data.batches import Share
from experiments.errors import UserError
from experiments.setup import settings
from qat.models.convnet import ConvNet
from scripts import prepare_mnist
from tests.tiny_imagenet import make

FETCHED = {'mnist', 'fashion_mnist', 'cifar10', 'imagenet2012', 'tiny_shakespeare'}  # not there by themselves


def config(**values):
    return ml_collections.ConfigDict({**common.get_config(), 'model': 'resnet50', **values})


def numbered(size: int, seed: int = 0, batch_size: int = 10, reshuffle: bool = True) -> ArrayBatches:
    """Images that carry their own number."""
    images = np.arange(size, dtype=np.float32).reshape(-1, 1, 1, 1)
    labels = np.arange(size, dtype=np.int32)
    return ArrayBatches(
        Arrays(dict.fromkeys(SPLITS, images), dict.fromkeys(SPLITS, labels), reshuffle),
        seed,
        batch_size,
    )


def epoch(batches: ArrayBatches, number: int) -> list[int]:
    count = batches.steps_in_data
    stream = batches.train(number * count, count)
    return [int(label) for _ in range(count) for label in next(stream)['label']]


def test_digits():
    batches = registry.load(config())
    assert batches.steps_in_data == 15 and batches.image_shape == (8, 8, 1) and batches.classes == 10
    assert [len(labels) for labels in batches.arrays.labels.values()] == [1500, 297]
    images, labels = next(batches.train(3, 15)).values()
    assert images.shape == (100, 8, 8, 1) and images.dtype == np.float32 and labels.dtype == np.int32
    assert images.min() >= 0 and images.max() == 1
    assert set(np.unique(images * 16)) <= set(range(17))
    assert epoch(batches, 0) == epoch(batches, 5)  # a fixed permutation


def test_digits_are_those_that_scikit_learn_reads():
    theirs, found = load_digits(), registry.load(config()).arrays
    order = np.random.default_rng(0).permutation(len(theirs.target))
    assert np.array_equal(np.concatenate([*found.images.values()])[..., 0] * 16, theirs.images[order])
    assert np.array_equal(np.concatenate([*found.labels.values()]), theirs.target[order])


@pytest.mark.parametrize('name', sorted(registry.DATASETS.keys() - FETCHED))
def test_a_data_set_in_memory_is_the_same_twice_and_can_be_trained_on(name):
    one, two = (registry.load(config(dataset=name)).arrays for _ in range(2))
    for split in SPLITS:
        images, labels = one.images[split], one.labels[split]
        assert images.dtype in (np.uint8, np.float32) and images.shape[1:] == one.images['train'].shape[1:]
        assert labels.shape == (len(images),) and labels.dtype == np.int32 and labels.min() >= 0
        assert (images == two.images[split]).all() and (labels == two.labels[split]).all()


def test_an_epoch_shows_every_example_once_and_each_epoch_anew():
    batches = numbered(100)
    assert sorted(epoch(batches, 0)) == sorted(epoch(batches, 1)) == list(range(100))
    assert epoch(batches, 0) != epoch(batches, 1)
    assert epoch(batches, 1) == epoch(numbered(100), 1)
    assert epoch(batches, 1) != epoch(numbered(100, seed=1), 1)


def test_any_step_by_itself_equals_the_step_in_the_stream():
    stream = [batch['label'].tolist() for _, batch in zip(range(40), numbered(95).train(0, 9))]
    for step in (39, 0, 17, 18, 8, 9):
        assert next(numbered(95).train(step, 9))['label'].tolist() == stream[step]


@pytest.mark.parametrize('size', [1, 9, 10, 11, 25])
def test_validation_counts_every_example_once(size):
    seen = []
    for images, labels, mask in map(dict.values, numbered(size).validation()):
        assert len(images) == len(labels) == len(mask) == 10
        seen += labels[mask].tolist()
    assert seen == list(range(size))


@pytest.mark.parametrize(('most', 'seen'), [(-1, range(297)), (297, range(297)), (1000, range(297)), (1, [0])])
def test_validation_on_at_most_so_many_examples(most, seen):
    everything, fewer = (registry.load(config(max_validation_examples=at_most)).arrays for at_most in (-1, most))
    for one, other in ((everything.images, fewer.images), (everything.labels, fewer.labels)):
        assert np.array_equal(one['train'], other['train'])
        assert np.array_equal(one['validation'][list(seen)], other['validation'])


def test_validation_on_fewer_examples_spreads_them_over_all():
    def images(most):
        return registry.load(config(max_validation_examples=most)).arrays.images['validation']

    rows = [next(row for row, image in enumerate(images(-1)) if np.array_equal(image, one)) for one in images(99)]
    assert rows == list(range(0, 297, 3))


def write_idx(directory, counts, compress):
    random = np.random.default_rng(0)
    written = {}
    for split, (image_file, label_file) in prepare_mnist.FILES.items():
        images = random.integers(0, 256, (counts[split], 28, 28), np.uint8)
        labels = random.integers(0, 10, counts[split]).astype(np.uint8)
        for name, array in ((image_file, images), (label_file, labels)):
            raw = b'\0\0\x08' + bytes([array.ndim]) + struct.pack(f'>{array.ndim}i', *array.shape) + array.tobytes()
            path = directory / (f'{name}.gz' if compress else name)
            path.write_bytes(gzip.compress(raw) if compress else raw)
        written[split] = (images, labels)
    return written


@pytest.mark.parametrize('compress', [True, False])
def test_idx_files_are_read_back(compress, tmp_path):
    written = write_idx(tmp_path, {'train': 12, 'test': 5}, compress)
    for split, (images, labels) in prepare_mnist.read_splits(tmp_path).items():
        assert np.array_equal(images[..., 0], written[split][0]) and np.array_equal(labels, written[split][1])


def test_damaged_idx_files_are_refused(tmp_path, capsys):
    assert prepare_mnist.main(['--idx-dir', str(tmp_path)]) == 2
    assert 'no train-images-idx3-ubyte' in capsys.readouterr().err
    write_idx(tmp_path, {'train': 12, 'test': 5}, compress=False)
    path = tmp_path / 'train-images-idx3-ubyte'
    path.write_bytes(path.read_bytes()[:-1])
    assert prepare_mnist.main(['--idx-dir', str(tmp_path)]) == 2
    assert 'cut off' in capsys.readouterr().err


def test_a_bit_that_flipped_in_a_gz_is_one_line_or_harmless(tmp_path):
    written = write_idx(tmp_path, {'train': 12, 'test': 5}, compress=True)
    path = tmp_path / 't10k-images-idx3-ubyte.gz'
    whole, refused = path.read_bytes(), 0
    for place in [*range(20), *range(20, len(whole), 97), *range(len(whole) - 8, len(whole))]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            images, _ = prepare_mnist.read_splits(tmp_path)['test']
            assert np.array_equal(images[..., 0], written['test'][0])  # as in the time that the header gives
        except UserError as error:
            # Of 13 GB, as the header then says, a machine may have that much left or not.
            assert any(text in str(error) for text in ('cannot read', 'GB of memory'))
            assert len(str(error)) - len(str(path)) < 200
            refused += 1
    assert refused > 40


@pytest.mark.parametrize(
    'file, content, said',
    [
        ('train-labels-idx1-ubyte', struct.pack('>2I', 0x801, 12) + bytes([3, 10] * 6), 'label 1 is 10, above 9'),
        ('train-labels-idx1-ubyte', struct.pack('>2I', 0x801, 11) + bytes(11), '12 train images and 11 labels'),
        ('train-images-idx3-ubyte', struct.pack('>4I', 0x803, 2**32 - 1, 28, 28), 'GB of memory'),
        ('train-images-idx3-ubyte', struct.pack('>4I', 0x803, 12, 28, 28) + bytes(9409), 'longer than it says'),
        ('train-images-idx3-ubyte', struct.pack('>4I', 0x803, 12, 32, 32) + bytes(12 * 1024), 'no idx file of nx28x28'),
        ('train-images-idx3-ubyte', struct.pack('>4I', 0xD03, 12, 28, 28) + bytes(9408), 'begins with 0xd03'),
        ('t10k-labels-idx1-ubyte', b'', 'no idx file of n bytes'),
    ],
    ids=['class', 'counts', 'too large', 'longer', 'shape', 'floats', 'empty'],
)
@pytest.mark.parametrize('compress', [True, False])
def test_idx_files_that_are_not_mnists_are_refused(file, content, said, compress, tmp_path, capsys):
    write_idx(tmp_path, {'train': 12, 'test': 5}, compress)
    (tmp_path / (f'{file}.gz' if compress else file)).write_bytes(gzip.compress(content) if compress else content)
    assert prepare_mnist.main(['--idx-dir', str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count('\n') == 1


@pytest.mark.filterwarnings('ignore')  # TensorFlow's own
def test_prepared_idx_files_come_back_through_tfds(tmp_path, capsys):
    written = write_idx(tmp_path, {'train': 12, 'test': 5}, compress=True)
    command = ['--idx-dir', str(tmp_path), '--data-dir', str(tmp_path / 'data'), '--name', 'fashion_mnist']
    assert prepare_mnist.main(command) == 0
    shown = capsys.readouterr()
    assert 'ownload' not in shown.out + shown.err and shown.out.startswith('Preparing fashion_mnist from the files in')
    assert prepare_mnist.main(command) == 0 and 'already prepared' in capsys.readouterr().out
    arrays = registry.load(config(dataset='fashion_mnist', data_dir=str(tmp_path / 'data'), batch_size=4)).arrays
    for split, name in (('train', 'train'), ('validation', 'test')):
        images, labels = written[name]
        expected = sorted((label, image.tobytes()) for image, label in zip(images, labels))
        assert (
            sorted((label, image.tobytes()) for image, label in zip(arrays.images[split], arrays.labels[split]))
            == expected
        )


@pytest.fixture(scope='module')
def tiny_imagenet(tmp_path_factory) -> str:
    """Archives in ImageNet's real layout, which tfds's real builder prepares."""
    return str(make(tmp_path_factory.mktemp('imagenet'), '--train=27', '--validation=11'))


def imagenet(data_dir: str, **values):
    return registry.load(
        config(dataset='imagenet2012', data_dir=data_dir, **{'image_size': 24, 'batch_size': 4, **values})
    )


@pytest.mark.filterwarnings('ignore')  # TensorFlow's own
def test_imagenet_continues_at_any_step_as_the_unbroken_stream(tiny_imagenet):
    batches = imagenet(tiny_imagenet)
    assert batches.steps_in_data == 6 and batches.image_shape == (24, 24, 3)
    stream = [batch for _, batch in zip(range(15), batches.train(0, 6))]
    assert all(batch['image'].shape == (4, 24, 24, 3) and batch['image'].dtype == np.uint8 for batch in stream)
    for start in (1, 5, 6, 8):  # within an epoch, at its end, across it
        for batch, expected in zip(imagenet(tiny_imagenet).train(start, 6), stream[start:]):
            assert all(np.array_equal(batch[key], expected[key]) for key in ('image', 'label'))
    other = next(imagenet(tiny_imagenet, seed=1).train(0, 6))['image']
    assert not np.array_equal(stream[0]['image'], other)
    assert not np.array_equal(stream[0]['image'], stream[6]['image'])  # another epoch, another order and other crops


@pytest.mark.filterwarnings('ignore')
def test_imagenet_reshuffled_is_the_same_images_in_another_order(tiny_imagenet):
    batches = imagenet(tiny_imagenet, batch_size=27)
    one, other, later = (
        next(b.train(start, 1)) for b, start in ((batches, 0), (batches.reshuffled(), 0), (batches, 1))
    )
    assert sorted(one['label']) == sorted(other['label']) and not np.array_equal(one['label'], other['label'])
    assert not np.array_equal(other['image'], later['image'])  # epoch 0 of the one is not epoch 1 of the other
    assert np.array_equal(other['image'], next(batches.reshuffled().train(0, 1))['image'])
    assert np.array_equal(one['image'], next(batches.train(0, 1))['image'])


@pytest.mark.filterwarnings('ignore')
def test_imagenet_validation_counts_every_image_once(tiny_imagenet):
    seen, again = ([batch['image'][batch['mask']] for batch in imagenet(tiny_imagenet).validation()] for _ in range(2))
    assert [len(images) for images in seen] == [4, 4, 3]
    assert all(np.array_equal(a, b) for a, b in zip(seen, again))
    for most, sizes in {5: [4, 1], 11: [4, 4, 3], 12: [4, 4, 3]}.items():
        fewer = imagenet(tiny_imagenet, max_validation_examples=most).validation()
        assert [int(batch['mask'].sum()) for batch in fewer] == sizes


@pytest.mark.filterwarnings('ignore')
def test_imagenet_that_does_not_fill_a_batch_or_the_processes_is_refused(tiny_imagenet):
    with pytest.raises(UserError, match='batch_size=28: imagenet2012 has fewer training examples than that'):
        imagenet(tiny_imagenet, batch_size=28)
    with pytest.raises(UserError, match='fewer validation images than the 12 processes'):
        registry.load(
            config(dataset='imagenet2012', data_dir=tiny_imagenet, image_size=24, batch_size=12), Share(0, 12)
        )


def test_a_batch_that_does_not_divide_among_the_processes_is_refused():
    with pytest.raises(UserError, match='batch_size=100 must be a multiple of the 3 processes'):
        registry.load(config(), Share(0, 3))


@pytest.mark.parametrize('size', [1, 3, 4])
def test_images_too_small_for_the_model_are_refused(size, tmp_path):
    arrays = {f'{split}_images': np.zeros((4, 28, size, 1), np.float32) for split in SPLITS}
    np.savez(tmp_path / 'narrow.npz', **arrays, **{f'{split}_labels': np.arange(4) for split in SPLITS})
    batches = registry.load(config(dataset=str(tmp_path / 'narrow.npz'), batch_size=4))
    assert batches.image_shape == (28, size, 1)
    if size < 4:
        with pytest.raises(
            UserError, match=f'model: ConvNet does not take images of 28x{size}x1: .* 4x4 pixels or more'
        ):
            batches.task(lambda classes: ConvNet(classes=classes))
    else:
        assert batches.task(lambda classes: ConvNet(classes=classes)).image_shape == (28, size, 1)


@pytest.mark.parametrize('values', [{'image_size': 0}, {'image_size': 2049}, {'corrupt_images': 'ignore'}])
def test_settings_of_imagenet_outside_their_domain_are_refused(values):
    (key,) = values
    with pytest.raises(UserError, match=key):
        settings.resolve(ml_collections.ConfigDict({**common.get_config(), **values}))


def test_missing_imagenet_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r'downloads/manual, or try python -m scripts\.make_tiny_imagenet'):
        imagenet(str(tmp_path))
