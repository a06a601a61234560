"""The tiny ImageNet has the real one's layout and oddities, and tfds's real builder prepares it."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from experiments.data import prepared
from scripts import make_tiny_imagenet
from scripts.make_tiny_imagenet import CLASSES, CMYK, PNG
from tests.tiny_imagenet import TRAIN, VALIDATION, archive, make, read_classes, read_validation

TRAINING, VALIDATING = 40, 5
SMALL = [f'--train={TRAINING}', f'--validation={VALIDATING}']


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@pytest.fixture(scope='module')
def tiny(tmp_path_factory) -> pathlib.Path:
    return make(tmp_path_factory.mktemp('tiny') / 'a directory', *SMALL)


@pytest.fixture(scope='module')
def training_images(tiny) -> dict[str, bytes]:
    return {name: content for files in read_classes(tiny).values() for name, content in files.items()}


def test_the_layout_is_the_real_one(tiny, training_images):
    assert {path.name for path in archive(tiny, TRAIN).parent.iterdir()} == {TRAIN, VALIDATION}
    classes = read_classes(tiny)
    assert len(classes) == CLASSES and len(training_images) == TRAINING
    for name, images in classes.items():
        assert all(image.startswith(name.replace('.tar', '_')) and image.endswith('.JPEG') for image in images)
    expected = [f'ILSVRC2012_val_{number:08}.JPEG' for number in range(1, VALIDATING + 1)]
    assert sorted(read_validation(tiny)) == expected != list(read_validation(tiny))


def test_the_odd_files_are_what_their_names_promise(training_images):
    images = {name: opened(content) for name, content in training_images.items()}
    assert images[PNG].format == 'PNG' and images[CMYK].mode == 'CMYK'
    assert {image.format for name, image in images.items() if name != PNG} == {'JPEG'}
    assert {image.mode for name, image in images.items() if name != CMYK} == {'RGB', 'L'}


def test_an_image_shows_its_class(training_images):
    """Most images are nearest to another of their class by their mean colour."""
    images = {name: opened(content) for name, content in training_images.items()}
    assert len({image.size for image in images.values()}) > 3
    colours = {name: np.mean(image, (0, 1)) for name, image in images.items() if image.mode == 'RGB'}
    right = []
    for name, colour in colours.items():
        nearest = min(colours.keys() - {name}, key=lambda other: np.linalg.norm(colours[other] - colour))
        right.append(nearest.split('_')[0] == name.split('_')[0])
    assert np.mean(right) > 0.7


def test_making_it_again_is_harmless_and_other_content_is_kept(tmp_path, capsys):
    make(tmp_path, *SMALL)
    before = {name: archive(tmp_path, name).read_bytes() for name in (TRAIN, VALIDATION)}
    make(tmp_path, *SMALL)
    refused(['--train=12'], 'holds something else', tmp_path, capsys)
    assert {name: archive(tmp_path, name).read_bytes() for name in (TRAIN, VALIDATION)} == before
    archive(tmp_path, TRAIN).unlink()
    (tmp_path / 'imagenet2012' / '5.1.0').mkdir(parents=True)
    (tmp_path / 'imagenet2012' / '5.1.0' / 'dataset_info.json').touch()
    refused([], 'another imagenet2012 prepared', tmp_path, capsys)


def refused(arguments: list[str], message: str, directory: pathlib.Path, capsys) -> None:
    capsys.readouterr()
    assert make_tiny_imagenet.main([f'--out={directory}', *SMALL, *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith('error: ') and err.count('\n') == 1 and message in err


def test_mistakes_are_one_line(tmp_path, capsys):
    (tmp_path / 'file').touch()
    refused(['--train=7'], '--train=7: give 8', tmp_path / 'new', capsys)
    refused(['--validation=50001'], '--validation=50001: give 1 to 50000', tmp_path / 'new', capsys)
    refused([], 'cannot write in', tmp_path / 'file', capsys)
    assert [path.name for path in tmp_path.iterdir()] == ['file']


@pytest.mark.filterwarnings('ignore')  # TensorFlow's own
def test_the_real_builder_prepares_it(tiny, training_images, monkeypatch):
    tfds = prepared.import_tfds()
    monkeypatch.setattr(tfds.core.utils.gcs_utils, '_is_gcs_disabled', True)  # or it looks for the set online
    builder = tfds.builder('imagenet2012', data_dir=str(tiny))
    builder.download_and_prepare()
    labels = make_tiny_imagenet.read_labels()[1]
    for split, files in (('train', training_images), ('validation', read_validation(tiny))):
        examples = list(builder.as_dataset(split=split).as_numpy_iterator())
        assert sorted(example['file_name'].decode() for example in examples) == sorted(files)
        for example in examples:
            name = example['file_name'].decode()
            start, number = name.removesuffix('.JPEG').rsplit('_', 1)
            synset = start if split == 'train' else labels[int(number) - 1]
            assert builder.info.features['label'].int2str(example['label']) == synset
            original = np.asarray(opened(files[name]).convert('RGB'), float)
            assert abs(example['image'] - original).mean() < 3, name  # CMYK the right way round, too
