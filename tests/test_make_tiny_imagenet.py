"""The tiny ImageNet has the real one's layout and oddities, and tfds's real builder prepares it."""

import collections
import io
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

from experiments.data import prepared
from scripts import make_tiny_imagenet
from scripts.make_tiny_imagenet import CMYK, PNG, TRAIN, VALIDATION
from tests.tiny_imagenet import archive, make, read_classes, read_validation

TRAINING, VALIDATING, CLASSES = 12, 5, 4
SMALL = [f'--train={TRAINING}', f'--validation={VALIDATING}', f'--classes={CLASSES}']


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def files_below(directory: pathlib.Path) -> dict[pathlib.Path, bytes]:
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob('*') if path.is_file()}


@pytest.fixture(scope='module')
def tiny(tmp_path_factory) -> pathlib.Path:
    return make(tmp_path_factory.mktemp('tiny') / 'a directory', *SMALL)


@pytest.fixture(scope='module')
def builder(tiny):
    """tfds's own, prepared; kept from asking the internet, which makes it want the real set's disk space."""
    tfds = prepared.import_tfds()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfds.core.utils.gcs_utils, '_is_gcs_disabled', True)
        builder = tfds.builder('imagenet2012', data_dir=str(tiny))
        builder.download_and_prepare()
    return builder


def test_the_layout_is_the_real_one(tiny):
    assert {path.name for path in archive(tiny, TRAIN).parent.iterdir()} == {TRAIN, VALIDATION}
    classes, validation = read_classes(tiny), read_validation(tiny)
    assert len(classes) == CLASSES and sum(map(len, classes.values())) == TRAINING
    for name, images in classes.items():
        synset, ending = name.split('.')
        assert ending == 'tar' and synset in make_tiny_imagenet.read_labels()[0]
        for image in images:
            start, number = image.removesuffix('.JPEG').split('_')
            assert image.endswith('.JPEG') and start == synset and number == str(int(number))
    assert sorted(validation) == [f'ILSVRC2012_val_{number:08}.JPEG' for number in range(1, VALIDATING + 1)]
    assert list(validation) != sorted(validation)  # the labels follow the names, not the order in the tar


def test_the_odd_files_are_what_their_names_promise(tiny):
    images = {name: content for files in read_classes(tiny).values() for name, content in files.items()}
    assert images[PNG[0]].startswith(b'\x89PNG\r\n\x1a\n') and opened(images[CMYK[0]]).mode == 'CMYK'
    kinds = collections.Counter((opened(content).format, opened(content).mode) for content in images.values())
    assert kinds == {('PNG', 'RGB'): 1, ('JPEG', 'CMYK'): 1, ('JPEG', 'L'): 1, ('JPEG', 'RGB'): TRAINING - 3}


def test_images_have_many_shapes_and_their_class_shows(tmp_path):
    """The nearest mean colour of a training image tells the class of a validation image."""
    make(tmp_path, *SMALL, '--train=48', '--validation=60')
    labels = make_tiny_imagenet.read_labels()[1]
    classes = read_classes(tmp_path)
    train = [(name, opened(content)) for name, files in classes.items() for content in files.values()]
    validation = [
        (f'{labels[int(name[-13:-5]) - 1]}.tar', opened(content)) for name, content in read_validation(tmp_path).items()
    ]
    shapes = {image.size for _, image in train}
    assert len(shapes) >= 5 and any(w > h for w, h in shapes) and any(w < h for w, h in shapes)
    known, asked = (
        [(name, np.asarray(image, float).mean((0, 1))) for name, image in images if image.mode == 'RGB']
        for images in (train, validation)
    )
    right = [
        name == min(known, key=lambda other: np.linalg.norm(other[1] - colour))[0]
        for name, colour in asked
        if name in classes
    ]
    assert len(right) >= 4 and np.mean(right) > 0.7


def test_the_same_seed_gives_the_same_bytes(tiny, tmp_path):
    for seed in (0, 1):
        make(tmp_path / str(seed), *SMALL, f'--seed={seed}')
    for name in (TRAIN, VALIDATION):
        zero, one = (archive(tmp_path / seed, name).read_bytes() for seed in '01')
        assert archive(tiny, name).read_bytes() == zero != one


def test_every_class_and_every_odd_file(tmp_path):
    synsets, labels = make_tiny_imagenet.read_labels()
    assert sorted(make_tiny_imagenet.choose_classes(1000, synsets, labels[:20])) == sorted(synsets)
    for name in (*PNG, *CMYK):
        synset = name.split('_')[0]
        assert make_tiny_imagenet.training_names(synset, 1, np.random.default_rng(0)) == [name]
        assert len(set(make_tiny_imagenet.training_names(synset, 1300, np.random.default_rng(0)))) == 1300


def test_making_it_again_is_harmless_and_other_archives_are_not_overwritten(tmp_path, capsys):
    before = files_below(make(tmp_path, *SMALL))
    make(tmp_path, *SMALL)
    (tmp_path / 'imagenet2012' / '5.1.0').mkdir(parents=True)
    info = tmp_path / 'imagenet2012' / '5.1.0' / 'dataset_info.json'
    info.touch()
    make(tmp_path, *SMALL)
    refused(['--seed=1'], 'holds something else', tmp_path, capsys)
    assert files_below(tmp_path) == before | {info.relative_to(tmp_path): b''}
    archive(tmp_path, TRAIN).unlink()
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
    assert not files_below(tmp_path)


@pytest.mark.filterwarnings('ignore')  # TensorFlow's own
def test_the_real_builder_prepares_it(builder, tiny):
    files = read_validation(tiny)
    for images in read_classes(tiny).values():
        files |= images
    labels = make_tiny_imagenet.read_labels()[1]
    name_of = builder.info.features['label'].int2str
    for split, size in (('train', TRAINING), ('validation', VALIDATING)):
        examples = list(builder.as_dataset(split=split).as_numpy_iterator())
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
    module = sys.modules[type(builder).__module__]
    assert sorted(module.CMYK_IMAGES) == sorted(CMYK) and tuple(module.PNG_IMAGES) == PNG
    skip = {'image': prepared.import_tfds().decode.SkipDecoding()}
    examples = builder.as_dataset(split='train', decoders=skip).as_numpy_iterator()
    stored = {example['file_name'].decode(): opened(example['image']) for example in examples}
    assert all(image.format == 'JPEG' for image in stored.values())
    assert stored[PNG[0]].mode == stored[CMYK[0]].mode == 'RGB'
    assert 'L' in {image.mode for image in stored.values()}  # tfds leaves grayscale to whoever decodes
