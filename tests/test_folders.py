"""A folder of images: classes and pixels are those of its files, and whatever is wrong with it is one line."""

import os
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import common
from experiments.data import folders, memory, prepared, registry
from experiments.data.arrays import ArrayBatches
from experiments.data.batches import ALONE, Share
from experiments.errors import UserError
from qat.models.convnet import ConvNet

SIZES = {'train': 20, 'test': 10}  # of a CIFAR-10

CLASSES = ('Bird', 'ape', 'cat')  # in alphabetical order of computers


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path: pathlib.Path, array: np.ndarray, mode: str = 'RGB', **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).convert(mode).save(path, **options)


@pytest.fixture
def root(tmp_path) -> pathlib.Path:
    """Three images of 12x10 a class to train on, one to validate."""
    for number, name in enumerate(CLASSES):
        for index in range(3):
            save(tmp_path / 'data/train' / name / f'{index}.png', pixels(12, 10, 3, seed=10 * number + index))
        save(tmp_path / 'data/test' / name / 'only.PNG', pixels(12, 10, 3, seed=100 + number))
    return tmp_path / 'data'


def load(root: pathlib.Path, share: Share = ALONE, **values) -> ArrayBatches:
    folders.read.cache_clear()  # a test edits the folder
    config = common.get_config()
    config.update({'dataset': f'folder:{root}', 'batch_size': 4, **values})
    return registry.load(config, share)


def refused(root: pathlib.Path, **values) -> str:
    with pytest.raises(UserError) as raised:
        load(root, **values)
    message = str(raised.value)
    assert message.startswith('dataset: ') and '\n' not in message
    assert len(message.replace(str(root), '')) < 200
    return message


def test_labels_are_the_folders_and_pixels_the_files(root):
    batches = load(root)
    found = batches.arrays
    assert (batches.classes, batches.image_shape, batches.steps_in_data) == (3, (12, 10, 3), 2)
    assert found.images['train'].dtype == np.uint8 and found.labels['train'].dtype == np.int32
    assert found.labels['train'].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert found.labels['validation'].tolist() == [0, 1, 2]
    for row, label in enumerate(found.labels['train']):
        assert np.array_equal(found.images['train'][row], pixels(12, 10, 3, seed=10 * label + row % 3))
    assert np.array_equal(found.images['validation'][2], pixels(12, 10, 3, seed=102))


def test_the_task_normalizes_as_for_imagenet(root):
    batches = load(root)
    task, (batch,) = batches.task(lambda classes: ConvNet(classes=classes)), batches.validation()
    assert batch['image'].dtype == np.uint8 and batch['mask'].tolist() == [True, True, True, False]
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (batch['image'] / 255 - mean) / deviation
    assert np.allclose(task.normalize(jnp.asarray(batch['image'])), expected, atol=1e-5)
    config = common.get_config()
    config.dataset = f'folder:{root}'
    assert registry.task(config, lambda classes: ConvNet(classes=classes)) == task


def test_what_is_no_image_is_ignored_and_links_are_followed(root, tmp_path):
    before = load(root).arrays
    for name in ('README', 'Thumbs.db', '.DS_Store', '.hidden.png', 'labels.csv'):
        (root / 'train/cat' / name).write_text('x', encoding='utf-8')
        (root / 'train' / name).write_text('x', encoding='utf-8')
    (root / 'train/.ipynb_checkpoints').mkdir()
    (root / 'train/ape').rename(tmp_path / 'elsewhere')
    (root / 'train/ape').symlink_to(tmp_path / 'elsewhere')
    (root / 'train/cat/1.png').rename(tmp_path / 'one.png')
    (root / 'train/cat/1.png').symlink_to(tmp_path / 'one.png')
    after = load(root).arrays
    assert all(np.array_equal(before.images[split], after.images[split]) for split in before.images)
    assert all(np.array_equal(before.labels[split], after.labels[split]) for split in before.labels)


def test_of_several_validation_splits_the_first_is_taken(root):
    for place, split in enumerate(('val', 'validation')):
        for name in CLASSES:
            save(root / split / name / 'x.png', np.full((12, 10, 3), place, np.uint8))
        assert (load(root).arrays.images['validation'] == place).all()


@pytest.mark.parametrize('side', [6, 8])
def test_larger_images_become_squares_of_the_size_asked_for(side, root):
    slope = np.broadcast_to(20 * np.arange(12, dtype=np.uint8)[:, None, None], (12, 10, 3))
    save(root / 'train/Bird/0.png', slope)
    found = load(root, image_size=side).arrays.images['train']
    assert found.shape == (9, side, side, 3)
    centres = 1 + (np.arange(side) + 0.5) * 10 / side - 0.5  # in rows of the file, the first and last of which are cut
    assert np.abs(found[0] - 20 * centres[:, None, None])[1:-1].max() <= 2


def test_images_of_several_sizes_become_squares(root):
    save(root / 'test/cat/only.PNG', np.full((30, 20, 3), 7, np.uint8))
    found = load(root, image_size=16).arrays.images
    assert found['train'].shape == (9, 16, 16, 3) and (found['validation'][2] == 7).all()


@pytest.mark.parametrize('mode', ['L', '1', 'LA', 'P', 'RGBA'])
@pytest.mark.parametrize('suffix', ['png', 'tiff'])
def test_gray_palette_and_transparent_images_become_rgb(mode, suffix, root):
    array = np.repeat(pixels(12, 10, 1) // 128 * 255, 3, axis=2)  # black and white, which every mode has
    save(root / 'train/Bird' / f'0.{suffix}', array, mode)
    options = {'transparency': bytes(range(3))} if (mode, suffix) == ('P', 'png') else {}
    save(root / 'train/Bird/0.png', array, mode, **options)
    assert np.array_equal(load(root).arrays.images['train'][0], array)


def test_a_photograph_as_jpeg(root):
    smooth = np.broadcast_to(np.linspace(0, 250, 12)[:, None, None], (12, 10, 3)).astype(np.uint8)
    (root / 'train/Bird/0.png').unlink()
    save(root / 'train/Bird/0.JpEg', smooth, quality=95)
    assert np.abs(load(root).arrays.images['train'][0].astype(int) - smooth).max() < 12


def test_the_shares_of_processes_are_the_whole_batch(root):
    whole = next(load(root).train(1, 2))
    parts = [next(load(root, Share(index, 2)).train(1, 2)) for index in range(2)]
    assert all(np.array_equal(whole[key], np.concatenate([part[key] for part in parts])) for key in whole)


def remove(path: pathlib.Path) -> None:
    for file in path.iterdir():
        file.unlink()


def rename(path: pathlib.Path, name: str) -> None:
    path.rename(path.with_name(name))


def only_one_class(root: pathlib.Path) -> None:
    for split in ('train', 'test'):
        for name in CLASSES[1:]:
            remove(root / split / name)
            (root / split / name).rmdir()


def no_classes(root: pathlib.Path) -> None:
    rename(root / 'train', 'classes')
    save(root / 'train/0.png', pixels(12, 10, 3))


LAYOUTS = {
    'no folder': (lambda root: rename(root, 'gone'), r'cannot read the folder .*/data: No such file'),
    'no train': (lambda root: rename(root / 'train', 'training'), r'no folder train in .*, which has test, training'),
    'no validation': (lambda root: rename(root / 'test', 'tests'), r'no folder validation, val or test in .*/data'),
    'no classes': (no_classes, r'data/train needs a folder of images for each of two .*, which has no folders'),
    'one class': (only_one_class, r'data/train needs a folder of images for each of two .*, which has Bird$'),
    'an empty class': (lambda root: remove(root / 'train/cat'), r'no images in .*/train/cat'),
    'an empty class to validate': (lambda root: remove(root / 'test/ape'), r'no images in .*/test/ape'),
    'a class less': (lambda root: rename(root / 'test/ape', '.ape'), r'data/test lacks ape\. Both need'),
    'other names': (lambda root: rename(root / 'test/ape', 'dog'), r'train lacks dog, and .*/test lacks ape\. Both'),
    'many other names': (
        lambda root: [(root / 'test' / str(number)).mkdir() for number in range(9)],
        r'data/train lacks 0, 1, 2 and 6 more\.',
    ),
}


@pytest.mark.parametrize('name', LAYOUTS)
def test_another_layout_is_refused(name, root):
    change, said = LAYOUTS[name]
    change(root)
    with pytest.raises(UserError, match=said):
        raise UserError(refused(root))


def cmyk(path: pathlib.Path) -> None:
    save(path, pixels(12, 10, 3), 'CMYK', format='JPEG')


def animated(path: pathlib.Path) -> None:
    frames = [Image.fromarray(pixels(12, 10, 3, seed=seed)) for seed in range(2)]
    frames[0].save(path, format='GIF', save_all=True, append_images=frames[1:])


def cut_off(path: pathlib.Path) -> None:
    save(path, pixels(64, 64, 3), format='JPEG')
    path.write_bytes(path.read_bytes()[:900])


FILES = {
    'CMYK': (cmyk, 'is CMYK, not 8-bit gray or RGB. Save it as RGB'),
    '16 bits': (lambda path: Image.fromarray(np.full((12, 10), 700, np.uint16)).save(path), 'is I;16, not 8-bit gray'),
    'animated': (animated, 'has 2 frames. Save one of them'),
    'cut off': (cut_off, 'image file is truncated'),
    'text': (lambda path: path.write_text('no image', encoding='utf-8'), 'cannot identify image file'),
    'PostScript': (lambda path: path.write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'), 'identify'),
    'empty': (lambda path: path.write_bytes(b''), 'cannot identify image file'),
    'a broken link': (lambda path: path.symlink_to('nowhere'), 'no such file'),
    'a pipe': (os.mkfifo, 'no such file'),
    'a folder': (lambda path: path.mkdir(), 'no such file'),
}


@pytest.mark.parametrize('name', FILES)
def test_a_file_that_is_no_image_is_refused_by_name(name, root):
    make, said = FILES[name]
    path = root / 'train/ape/1.png'
    path.unlink()
    make(path)
    message = refused(root)
    assert str(path) in message and said in message


def test_what_does_not_fit_in_memory_is_refused(root, monkeypatch):
    monkeypatch.setattr(memory, 'available', lambda: 12 * 12 * 10 * 3 - 1)  # twelve images less a byte
    assert '12 images of 12x10, needs' in refused(root) and 'Lower --config.image_size' in refused(root)
    load(root, image_size=9)


def test_a_folder_is_read_once(root, monkeypatch):
    one = load(root).arrays
    monkeypatch.setattr(folders.pictures, 'read', lambda *_: pytest.fail('read again'))
    config = common.get_config()
    config.update({'dataset': f'folder:{root}', 'batch_size': 2})
    assert registry.load(config).arrays is one


def test_cifar10_comes_from_the_splits_of_tfds(monkeypatch):
    made = {name: {'image': pixels(size, 32, 32, 3), 'label': np.arange(size) % 10} for name, size in SIZES.items()}
    monkeypatch.setattr(registry, 'is_prepared', lambda *_: True)
    monkeypatch.setattr(prepared, 'prepare', lambda directory, name, splits, source: (name, *splits))
    monkeypatch.setattr(prepared, 'read', lambda builder, split: builder == ('cifar10', *SIZES) and made[split])
    config = common.get_config()
    config.update({'dataset': 'cifar10', 'batch_size': 5})
    batches = registry.load(config)
    assert batches.arrays.images == {'train': made['train']['image'], 'validation': made['test']['image']}
    task = batches.task(lambda classes: ConvNet(classes=classes))
    assert registry.task(config, lambda classes: ConvNet(classes=classes)) == task
    batch, stored = next(batches.train(0, 4))['image'], made['train']['image']
    assert batch.shape == (5, 32, 32, 3) and batch.dtype == np.uint8
    assert not any(np.array_equal(image, whole) for image in batch for whole in stored)  # cropped and flipped


def test_missing_cifar10_is_refused_with_the_two_ways_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, '_can_fetch', lambda url: False)
    monkeypatch.setattr(prepared, 'import_tfds', lambda: pytest.fail('seconds for nothing'))
    config = common.get_config()
    config.update({'dataset': 'cifar10', 'data_dir': str(tmp_path)})
    with pytest.raises(UserError, match=r'connect to the internet, or .* --config\.dataset=folder:DIR'):
        registry.load(config)
