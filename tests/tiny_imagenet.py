"""A tiny ImageNet for tests: made, and its archives read and written."""

import io
import pathlib
import tarfile

from experiments.data.archives import ARCHIVES
from scripts import make_tiny_imagenet

TRAIN, VALIDATION = ARCHIVES


def make(directory: pathlib.Path, *flags: str) -> pathlib.Path:
    """Makes the archives of a set in a data_dir, and returns the data_dir."""
    assert make_tiny_imagenet.main([f'--out={directory}', *flags]) == 0
    return directory


def archive(data_dir: pathlib.Path, name: str) -> pathlib.Path:
    return data_dir / 'downloads' / 'manual' / name


def unpacked(content: bytes) -> dict[str, bytes]:
    """The content of the files in a tar, by name; the tar holds nothing but files."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert all(member.isfile() for member in tar)
        return {member.name: tar.extractfile(member).read() for member in tar}


def read_classes(data_dir: pathlib.Path) -> dict[str, dict[str, bytes]]:
    """The training files by the name of their class's archive."""
    classes = unpacked(archive(data_dir, TRAIN).read_bytes())
    return {name: unpacked(content) for name, content in classes.items()}


def read_validation(data_dir: pathlib.Path) -> dict[str, bytes]:
    return unpacked(archive(data_dir, VALIDATION).read_bytes())
