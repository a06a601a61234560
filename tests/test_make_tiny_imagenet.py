"""The tiny ImageNet has the real one's layout and oddities, and tfds's real builder prepares it."""

import collections
import io
import pathlib
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from experiments.data import prepared
from scripts import make_tiny_imagenet
from scripts.make_tiny_imagenet import CMYK, PNG, TRAIN, VALIDATION

TRAINING, VALIDATING, CLASSES = 12, 5, 4
SMALL = [f'--train={TRAINING}', f'--validation={VALIDATING}', f'--classes={CLASSES}']


def make(directory: pathlib.Path, *arguments: str) -> pathlib.Path:
    """The folder of the archives of a small set."""
    assert make_tiny_imagenet.main([f'--out={directory}', *SMALL, *arguments]) == 0
    return directory / 'downloads' / 'manual'


def read_tar(file: io.IOBase) -> dict[str, bytes]:
    with tarfile.open(fileobj=file) as tar:
        assert all(member.isfile() for member in tar)
        return {member.name: tar.extractfile(member).read() for member in tar}


def read_archives(manual: pathlib.Path) -> tuple[dict[str, dict[str, bytes]], dict[str, bytes]]:
    """The training files by class, and the validation files."""
    with (manual / TRAIN).open('rb') as train, (manual / VALIDATION).open('rb') as validation:
        synsets = {name: read_tar(io.BytesIO(content)) for name, content in read_tar(train).items()}
        return synsets, read_tar(validation)


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@pytest.fixture(scope='module')
def manual(tmp_path_factory) -> pathlib.Path:
    return make(tmp_path_factory.mktemp('tiny') / 'a directory')


@pytest.fixture(scope='module')
def builder(manual):
    """tfds's own, prepared; kept from asking the internet, which makes it want the real set's disk space."""
    tfds = prepared.import_tfds()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfds.core.utils.gcs_utils, '_is_gcs_disabled', True)
        builder = tfds.builder('imagenet2012', data_dir=str(manual.parent.parent))
        builder.download_and_prepare()
    return builder


def test_the_layout_is_the_real_one(manual):
    assert sorted(path.name for path in manual.iterdir()) == [TRAIN, VALIDATION]
    synsets, validation = read_archives(manual)
    assert len(synsets) == CLASSES and sum(map(len, synsets.values())) == TRAINING
    for archive, images in synsets.items():
        synset = archive.removesuffix('.tar')
        assert archive.endswith('.tar') and synset in make_tiny_imagenet.read_labels()[0]
        for name in images:
            start, number = name.removesuffix('.JPEG').split('_')
            assert name.endswith('.JPEG') and start == synset and number == str(int(number))
    assert sorted(validation) == [f'ILSVRC2012_val_{number:08}.JPEG' for number in range(1, VALIDATING + 1)]
    assert list(validation) != sorted(validation)  # the labels follow the names, not the order in the tar


def test_the_odd_files_are_what_their_names_promise(manual):
    images = {name: content for files in read_archives(manual)[0].values() for name, content in files.items()}
    assert images[PNG[0]].startswith(b'\x89PNG\r\n\x1a\n') and opened(images[CMYK[0]]).mode == 'CMYK'
    kinds = collections.Counter((opened(content).format, opened(content).mode) for content in images.values())
    assert kinds == {('PNG', 'RGB'): 1, ('JPEG', 'CMYK'): 1, ('JPEG', 'L'): 1, ('JPEG', 'RGB'): TRAINING - 3}


def test_images_have_many_shapes_and_their_class_shows(tmp_path):
    synsets, validation = read_archives(make(tmp_path, '--train=48', '--validation=60'))
    labels = make_tiny_imagenet.read_labels()[1]
    train = [(archive[:-4], opened(content)) for archive, files in synsets.items() for content in files.values()]
    held_out = [(labels[int(name[-13:-5]) - 1], opened(content)) for name, content in validation.items()]
    held_out = [(label, image) for label, image in held_out if f'{label}.tar' in synsets]
    shapes = {image.size for _, image in train}
    assert len(shapes) >= 5 and any(w > h for w, h in shapes) and any(w < h for w, h in shapes)
    assert len(held_out) >= 4
    assert nearest_neighbour_accuracy(train, train) > 0.8 and nearest_neighbour_accuracy(train, held_out) > 0.7


def nearest_neighbour_accuracy(train, test) -> float:
    """How often the other image of the nearest mean colour is of the same class, grayscale apart."""
    (names, colours), (expected, seen) = (
        (
            np.array([label for label, image in images if image.mode == 'RGB']),
            np.array([np.asarray(image, float).mean((0, 1)) for _, image in images if image.mode == 'RGB']),
        )
        for images in (train, test)
    )
    distances = np.linalg.norm(seen[:, None] - colours, axis=-1)
    distances[distances == 0] = np.inf  # itself
    return (names[distances.argmin(1)] == expected).mean()


def test_the_same_seed_gives_the_same_bytes(manual, tmp_path):
    same, other = make(tmp_path / 'same', '--seed=0'), make(tmp_path / 'other', '--seed=1')
    for name in (TRAIN, VALIDATION):
        assert (same / name).read_bytes() == (manual / name).read_bytes() != (other / name).read_bytes()


def test_every_class_and_every_odd_file(tmp_path):
    synsets, labels = make_tiny_imagenet.read_labels()
    assert sorted(make_tiny_imagenet.choose_classes(1000, synsets, labels[:20])) == sorted(synsets)
    for name in (*PNG, *CMYK):
        synset = name.split('_')[0]
        assert make_tiny_imagenet.training_names(synset, 1, np.random.default_rng(0)) == [name]
        assert len(set(make_tiny_imagenet.training_names(synset, 1300, np.random.default_rng(0)))) == 1300


def test_making_it_again_is_harmless_and_other_archives_are_not_overwritten(tmp_path, capsys):
    manual = make(tmp_path)
    before = {path: path.read_bytes() for path in manual.iterdir()}
    make(tmp_path)
    (tmp_path / 'imagenet2012' / '5.1.0').mkdir(parents=True)
    (tmp_path / 'imagenet2012' / '5.1.0' / 'dataset_info.json').touch()
    make(tmp_path)
    refused(['--seed=1'], 'holds something else', tmp_path, capsys)
    assert {path: path.read_bytes() for path in manual.iterdir()} == before
    (manual / TRAIN).unlink()
    refused([], 'another imagenet2012 prepared', tmp_path, capsys)


def refused(arguments: list[str], message: str, directory: pathlib.Path, capsys) -> None:
    capsys.readouterr()
    assert make_tiny_imagenet.main([f'--out={directory}', *SMALL, *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith('error: ') and err.count('\n') == 1 and len(err) <= 301
    assert message in err


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--train=many'], '--train: invalid int value'),
        (['--train=3'], '--train=3: 4 classes take 4 to 5200'),
        (['--train=5201'], '--train=5201'),
        (['--validation=0'], '--validation=0: give 1 to 50000'),
        (['--validation=50001'], '--validation=50001'),
        (['--classes=1'], '--classes=1: give 2'),
        (['--classes=1001'], '--classes=1001'),
        (['--seed=-1'], '--seed=-1'),
        (['--colour'], 'unrecognized arguments: --colour'),
    ],
)
def test_mistakes_are_one_line(arguments, message, tmp_path, capsys):
    refused(arguments, message, tmp_path / 'new', capsys)
    assert not (tmp_path / 'new').exists()


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / 'file').touch()
    refused([], 'cannot write in', tmp_path / 'file', capsys)
    refused([], 'cannot write in', tmp_path / 'file' / 'below', capsys)


def test_nothing_is_left_of_what_fails_midway(tmp_path, capsys, monkeypatch):
    def full_disk(*_):
        yield 'ILSVRC2012_val_00000001.JPEG', b'image'
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(make_tiny_imagenet, 'validation_set', full_disk)
    refused([], 'No space left on device', tmp_path, capsys)
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]


@pytest.mark.filterwarnings('ignore')  # TensorFlow's own
def test_the_lists_of_odd_files_are_those_of_the_builder(builder):
    module = sys.modules[type(builder).__module__]
    assert sorted(module.CMYK_IMAGES) == sorted(CMYK) and tuple(module.PNG_IMAGES) == PNG


@pytest.mark.filterwarnings('ignore')  # TensorFlow's own
def test_the_real_builder_prepares_it(builder, manual):
    synsets, validation = read_archives(manual)
    files = {**validation, **{name: content for images in synsets.values() for name, content in images.items()}}
    labels = make_tiny_imagenet.read_labels()[1]
    name_of = builder.info.features['label'].int2str
    tfds = prepared.import_tfds()
    for split, size in (('train', TRAINING), ('validation', VALIDATING)):
        examples = list(tfds.as_numpy(builder.as_dataset(split=split)))
        assert len(examples) == builder.info.splits[split].num_examples == size
        for example in examples:
            name = example['file_name'].decode()
            number = int(name.removesuffix('.JPEG').split('_')[-1])
            assert name_of(example['label']) == (name.split('_')[0] if split == 'train' else labels[number - 1])
            original = np.asarray(opened(files[name]).convert('RGB'), float)
            assert example['image'].shape == original.shape and example['image'].dtype == np.uint8
            assert abs(example['image'] - original).mean() < 3, name  # CMYK the right way round, too


@pytest.mark.filterwarnings('ignore')  # TensorFlow's own
def test_the_builder_mends_the_odd_files(builder):
    skip = {'image': prepared.import_tfds().decode.SkipDecoding()}
    examples = builder.as_dataset(split='train', decoders=skip).as_numpy_iterator()
    stored = {example['file_name'].decode(): opened(example['image']) for example in examples}
    assert all(image.format == 'JPEG' for image in stored.values())
    assert stored[PNG[0]].mode == stored[CMYK[0]].mode == 'RGB'
    assert 'L' in {image.mode for image in stored.values()}  # tfds leaves grayscale to whoever decodes
