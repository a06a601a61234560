"""The folder of tensorflow-datasets (tfds): what is prepared there, how to prepare it, and how to find damage in it.

This is the only importer of TensorFlow, which is loaded only when it is needed and never uses an accelerator.
"""

import contextlib
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from tqdm import tqdm

from experiments.errors import UserError


def import_tensorflow():
    """Returns TensorFlow, without its log messages and without accelerators. The import costs seconds."""
    os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'  # jax has set it lower, and errors are told in one line of this project
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')  # TensorFlow only reads data here
    import tensorflow as tf

    tf.config.set_visible_devices([], 'GPU')
    tf.config.set_visible_devices([], 'TPU')
    return tf


def import_tfds():
    """Returns tensorflow_datasets, with TensorFlow imported as `import_tensorflow` does."""
    import_tensorflow()
    import tensorflow_datasets as tfds

    return tfds


def tfds_directory(data_dir: str) -> pathlib.Path:
    """Returns the directory of prepared data sets; '' stands for the default of tfds."""
    chosen = data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
    return pathlib.Path(os.path.expanduser(chosen))


def is_prepared(directory: pathlib.Path, name: str) -> bool:
    """Returns whether tfds has prepared a data set in a directory, without importing tfds."""
    return any((directory / name).glob('[0-9]*/dataset_info.json'))  # an unfinished one is called incomplete.*


def prepare(directory: pathlib.Path, name: str, splits: Iterable[str], source: str):
    """Returns the builder of tfds for a data set, and prepares the data set if it is not prepared yet.

    tfds works in a folder incomplete.* and renames it at the end, so a failure never leaves what looks complete.

    Args:
      directory: the directory of prepared data sets.
      name: the name of the data set.
      splits: the splits that it must have.
      source: what it is prepared from, for messages.

    Raises:
      UserError: it cannot be prepared, or the prepared one cannot be opened or lacks a split.
    """
    was_prepared = is_prepared(directory, name)
    try:
        builder = import_tfds().builder(name, data_dir=str(directory))
        builder.download_and_prepare()  # does nothing where it is prepared
    except Exception as error:  # whatever tfds or a file system raises
        kind = type(error).__name__
        if was_prepared:
            raise _prepare_anew(directory / name, f'a set that cannot be opened ({kind})') from error
        reason = f'{kind}: {" ".join(str(error).split())[:80]}'
        raise UserError(
            f'dataset: tfds cannot prepare {name} from {source} ({reason}). Mend it and start again'
        ) from error
    for split in splits:
        if split not in builder.info.splits:
            raise _prepare_anew(builder.data_dir, f'no split {split}')
    return builder


def store(
    directory: pathlib.Path,
    name: str,
    version: str,
    splits: Mapping[str, Iterable[tuple[object, dict]]],
    features_of: Callable,
) -> str:
    """Writes examples as a prepared data set, as if tfds had downloaded it, and returns its folder.

    Args:
      directory: of prepared data sets.
      name, version: of the data set in tfds.
      splits: by split, a key and the features of every example.
      features_of: the features that they have, as a function of `tfds.features`.

    Raises:
      UserError: the folder cannot be written.
    """
    tfds = import_tfds()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # tfds says that it downloads
            return tfds.dataset_builders.store_as_tfds_dataset(
                name=name,
                version=version,
                data_dir=str(directory),
                split_datasets=splits,
                features=tfds.features.FeaturesDict(features_of(tfds.features)),
            ).data_dir
    except Exception as error:  # whatever tfds or a file system raises
        raise UserError(f'--data-dir: cannot write {directory}: {" ".join(str(error).split())[:80]}') from error


def read(builder, split: str) -> dict[str, np.ndarray]:
    """Returns a small split as arrays, by feature.

    Raises:
      UserError: a file is damaged; it is named.
    """
    tf = import_tensorflow()
    try:
        return import_tfds().as_numpy(builder.as_dataset(split=split, batch_size=-1))
    except tf.errors.OpError as error:
        raise unreadable(builder, split, error) from error


def unreadable(builder, split: str, error: Exception) -> UserError:
    """Returns what to tell the user when TensorFlow cannot read a prepared split.

    TensorFlow seldom names the damaged file, so every file is read here to find it.
    """
    tf, info = import_tensorflow(), builder.info.splits[split]
    files = list(zip(info.filepaths, info.shard_lengths))
    for path, expected in tqdm(files, 'Looking for the damaged file', unit=' files', leave=False, disable=None):
        try:
            found = int(tf.data.TFRecordDataset(str(path)).reduce(0, lambda count, _: count + 1))
        except tf.errors.OpError as damage:
            return _prepare_anew(builder.data_dir, f'damaged file {path.name} ({_reason(damage)})')
        if found != expected:
            return _prepare_anew(builder.data_dir, f'damaged file {path.name} ({found} of its {expected} records)')
    return UserError(
        f'dataset: reading {split} in {builder.data_dir} failed ({_reason(error)}), though every file is whole. '
        'Start the same command again'
    )


def _prepare_anew(folder: str | os.PathLike, problem: str) -> UserError:
    return UserError(f'dataset: {problem} in {folder}. Delete that folder and start again, so that it is prepared anew')


def _reason(error: Exception) -> str:
    """Returns the message of an error of TensorFlow, without the names of nodes and files."""
    message = error.message.rpartition('}} ')[2].rpartition('; ')[2]
    return message.partition("' failed")[0].partition(' [Op:')[0][:80]
