"""ImageNet that is cut off, damaged or corrupt: one line that names the file, or exactly that image left out."""

import itertools
import pathlib
import shutil
import tarfile

import numpy as np
import pytest

from configs import imagenet_resnet50
from experiments import train
from experiments.data import prepared, registry
from experiments.data.archives import ARCHIVES
from experiments.errors import UserError
from scripts.make_tiny_imagenet import tar
from tests.tiny_imagenet import TRAIN, VALIDATION, archive, make, read_classes, read_validation, unpacked

STEPS = 6  # an epoch: 27 images in batches of 4
CORRUPT_VALIDATION = 'ILSVRC2012_val_00000007.JPEG'
pytestmark = pytest.mark.filterwarnings('ignore')  # TensorFlow's own


def load(data_dir: pathlib.Path, **values):
    config = imagenet_resnet50.get_config()
    config.update({'data_dir': str(data_dir), 'batch_size': 4, 'image_size': 24, **values})
    return registry.load(config)


def read(data_dir: pathlib.Path, steps: int = STEPS, start: int = 0, **values) -> list:
    """So many training batches."""
    return list(itertools.islice(load(data_dir, **values).train(start, STEPS), steps))


def refusal(action) -> str:
    """The one line of an action's error."""
    with pytest.raises(UserError) as caught:
        action()
    message = ' '.join(f'error: {caught.value}'.split())
    assert len(message) <= 300
    return message


@pytest.fixture(scope='module')
def sound(tmp_path_factory) -> pathlib.Path:
    """A prepared set and its archives."""
    directory = make(tmp_path_factory.mktemp('sound'), '--train=27', '--validation=11')
    load(directory)
    return directory


@pytest.fixture
def copy(sound, tmp_path) -> pathlib.Path:
    return shutil.copytree(sound, tmp_path / 'copy')


@pytest.fixture
def unprepared(copy) -> pathlib.Path:
    shutil.rmtree(copy / 'imagenet2012')
    return copy


def cut_off(content: bytes) -> bytes:
    return content[: len(content) // 4]


def no_image(content: bytes) -> bytes:
    return b'<html>not found</html>'


def corrupted_copy(sound: pathlib.Path, directory: pathlib.Path, damage: dict) -> pathlib.Path:
    """The set with what `damage` makes of the files it names."""

    def corrupted(files: dict[str, bytes]) -> bytes:
        return tar({name: damage.get(name, bytes)(content) for name, content in files.items()})

    archive(directory, TRAIN).parent.mkdir(parents=True)
    classes = {name: corrupted(images) for name, images in read_classes(sound).items()}
    archive(directory, TRAIN).write_bytes(tar(classes))
    archive(directory, VALIDATION).write_bytes(corrupted(read_validation(sound)))
    return directory


@pytest.fixture(scope='module')
def training_files(sound) -> list[str]:
    """Two training images that the builder does not decode."""
    return [list(images)[-1] for images in list(read_classes(sound).values())[-2:]]


@pytest.fixture(scope='module')
def corrupt(sound, training_files, tmp_path_factory) -> pathlib.Path:
    damage = {training_files[0]: cut_off, training_files[1]: no_image, CORRUPT_VALIDATION: cut_off}
    return corrupted_copy(sound, tmp_path_factory.mktemp('corrupt'), damage)


def second_member(path: pathlib.Path) -> int:
    with tarfile.open(path) as opened:
        return opened.getmembers()[1].offset


@pytest.mark.parametrize('name', ARCHIVES)
@pytest.mark.parametrize(
    'damage, reason',
    [
        (lambda path: path.read_bytes()[: path.stat().st_size // 2], 'cut off or no tar'),
        (lambda path: path.read_bytes()[: second_member(path)], 'cut off or damaged'),  # tarfile would not mind
        (lambda path: no_image(b'') * 100, 'cut off or no tar'),
        (lambda path: b'', 'cut off or no tar'),
    ],
    ids=['in a file', 'between files', 'no tar', 'empty'],
)
def test_a_cut_off_archive_is_named_before_anything_is_prepared(name, damage, reason, unprepared):
    path = archive(unprepared, name)
    path.write_bytes(damage(path))
    message = refusal(lambda: load(unprepared))
    assert name in message and str(path.parent) in message and reason in message and 'Get it again' in message
    assert not (unprepared / 'imagenet2012').exists()


def test_a_failed_preparation_leaves_nothing_that_is_taken_as_whole(unprepared):
    path = archive(unprepared, TRAIN)
    whole = path.read_bytes()
    classes = unpacked(whole)
    path.write_bytes(tar(classes | {next(iter(classes)): no_image(b'')}))  # a sound tar of a damaged one
    message = refusal(lambda: load(unprepared))
    assert 'tfds cannot prepare imagenet2012' in message and TRAIN in message and 'ReadError' in message
    assert not prepared.is_prepared(unprepared, 'imagenet2012')
    assert list((unprepared / 'imagenet2012').iterdir()) == []
    path.write_bytes(whole)
    assert load(unprepared).steps_in_data == STEPS


def test_what_a_killed_preparation_leaves_is_not_taken_as_whole(copy):
    (version,) = (copy / 'imagenet2012').iterdir()
    version.rename(version.with_name(f'incomplete.ABC123_{version.name}'))
    shutil.rmtree(copy / 'downloads')
    assert 'is not prepared' in refusal(lambda: load(copy))


def test_a_prepared_folder_without_its_description_is_refused(copy):
    (description,) = copy.glob('imagenet2012/*/dataset_info.json')
    description.write_text('{"name": "imag')
    message = refusal(lambda: load(copy))
    assert f'cannot be opened (ParseError) in {copy / "imagenet2012"}. Delete that folder' in message
    description.unlink()
    assert f'no split train in {description.parent}. Delete that folder' in refusal(lambda: load(copy))


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def first_record(content: bytes) -> bytes:
    return content[: 16 + int.from_bytes(content[:8], 'little')]


@pytest.mark.parametrize(
    'damage, reason',
    [
        (lambda content: content[: len(content) // 2], 'truncated record at'),
        (flipped, 'corrupted record at'),
        (first_record, '1 of its 27 records'),
        (None, 'No such file'),
    ],
    ids=['cut off', 'a bit flipped', 'cut off between records', 'missing'],
)
def test_a_damaged_file_of_the_prepared_set_is_named(damage, reason, copy):
    (path,) = copy.glob('imagenet2012/*/*-train.tfrecord-*')
    content = path.read_bytes()
    path.unlink()
    if damage:
        path.write_bytes(damage(content))
    message = refusal(lambda: read(copy))
    assert f'damaged file {path.name} ({reason}' in message
    assert f'in {path.parent}. Delete that folder and start again' in message


def test_an_error_that_no_file_explains_is_told_as_it_is(sound):
    class PassingError(Exception):
        message = '{{node A}} connection reset; try later [Op:IteratorGetNext]'

    builder = prepared.prepare(sound, 'imagenet2012', (), '')
    message = str(prepared.unreadable(builder, 'train', PassingError()))
    assert 'failed (try later), though every file is whole' in message


def test_a_corrupt_image_is_refused_by_name(corrupt, training_files):
    message = refusal(lambda: read(corrupt))
    assert any(f'corrupt train image {name} in' in message for name in training_files)
    assert message.endswith('--config.corrupt_images=skip')
    message = refusal(lambda: list(load(corrupt).validation()))
    assert f'corrupt validation image {CORRUPT_VALIDATION} in' in message


def test_a_skipped_image_makes_way_for_another_of_its_batch(sound, corrupt, training_files, capsys):
    replaced = 0
    for found, expected in zip(read(corrupt, 5 * STEPS, corrupt_images='skip'), read(sound, 5 * STEPS), strict=True):
        (images, labels), (sound_images, sound_labels) = found.values(), expected.values()
        kept = (images == sound_images).all(axis=(1, 2, 3))
        replaced += np.sum(~kept)
        assert np.array_equal(labels[kept], sound_labels[kept])
        for image, label in zip(images[~kept], labels[~kept]):
            assert any(np.array_equal(image, images[row]) and label == labels[row] for row in np.flatnonzero(kept))
    assert 5 <= replaced <= 10  # two images, five epochs that leave three of 27 out
    warnings = capsys.readouterr().err.splitlines()
    for name in training_files:
        assert sum(f'warning: corrupt train image {name}: another of its batch' in line for line in warnings) == 1
    assert [f'({count} so far)' in line for count, line in enumerate(warnings, 1)] == [True, True]


def test_with_skipped_images_any_step_continues_as_the_unbroken_stream(corrupt):
    count = 2 * STEPS + 2
    stream = read(corrupt, count, corrupt_images='skip')
    for start in (1, 3, 5, 6, 9):
        rest = read(corrupt, count - start, start, corrupt_images='skip')
        for batch, expected in zip(rest, stream[start:], strict=True):
            assert all(np.array_equal(batch[key], expected[key]) for key in ('image', 'label'))


def test_a_batch_without_a_sound_image_is_refused(corrupt):
    stream = load(corrupt, corrupt_images='skip', batch_size=1).train(0, 27)
    assert 'use larger batches' in refusal(lambda: [next(stream) for _ in range(27)])


def test_a_skipped_validation_image_is_masked_and_named_once(sound, corrupt, capsys):
    batches = load(corrupt, corrupt_images='skip')
    for _ in range(2):
        found, expected = list(batches.validation()), list(load(sound).validation())
        assert sum(int(batch['mask'].sum()) for batch in found) == 10
        for batch, intact in zip(found, expected, strict=True):
            mask = batch['mask']
            assert np.array_equal(batch['label'], intact['label']) and not np.any(mask & ~intact['mask'])
            assert np.array_equal(batch['image'][mask], intact['image'][mask])
    (warning,) = capsys.readouterr().err.splitlines()
    assert f'corrupt validation image {CORRUPT_VALIDATION}: it is left out' in warning and '(1 so far)' in warning


def test_validation_without_a_sound_image_is_refused(sound, tmp_path):
    damage = {f'ILSVRC2012_val_{number:08}.JPEG': cut_off for number in range(1, 12)}
    batches = load(corrupted_copy(sound, tmp_path, damage), corrupt_images='skip')
    assert 'no validation image' in refusal(lambda: list(batches.validation()))


@pytest.mark.slow
def test_the_command_refuses_or_skips_corrupt_images(corrupt, training_files, tmp_path, capsys):
    command = ['--config=configs/imagenet_resnet50.py', f'--config.data_dir={corrupt}', '--config.model=convnet']
    command += ['--config.batch_size=4', '--config.image_size=8', '--config.twins=self', '--config.max_steps=1']
    assert train.main([*command, f'--workdir={tmp_path / "refused"}']) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error')]
    assert len(errors) == 1 and len(errors[0]) <= 300
    assert any(name in errors[0] for name in (CORRUPT_VALIDATION, *training_files))  # whichever is read first
    assert train.main([*command, f'--workdir={tmp_path / "skipped"}', '--config.corrupt_images=skip']) == 0
    assert capsys.readouterr().err.count(f'warning: corrupt validation image {CORRUPT_VALIDATION}') == 1
    assert (tmp_path / 'skipped' / 'summary.json').exists()
