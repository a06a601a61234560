"""A tiny ImageNet for tests: made, and its archives read and written."""

import io
import pathlib
import tarfile

from scripts import make_tiny_imagenet


def make(directory: pathlib.Path, *flags: str) -> pathlib.Path:
    """The data_dir with the archives of a set."""
    assert make_tiny_imagenet.main([f'--out={directory}', *flags]) == 0
    return directory


def archive(data_dir: pathlib.Path, name: str) -> pathlib.Path:
    return data_dir / 'downloads' / 'manual' / name


def unpacked(content: bytes) -> dict[str, bytes]:
    """Name to content of the files in a tar, which holds nothing else."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert all(member.isfile() for member in tar)
        return {member.name: tar.extractfile(member).read() for member in tar}


def packed(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    make_tiny_imagenet.write_tar(content, files.items())
    return content.getvalue()


def read_classes(data_dir: pathlib.Path) -> dict[str, dict[str, bytes]]:
    """The training files by the name of their class's archive."""
    classes = unpacked(archive(data_dir, make_tiny_imagenet.TRAIN).read_bytes())
    return {name: unpacked(content) for name, content in classes.items()}


def read_validation(data_dir: pathlib.Path) -> dict[str, bytes]:
    return unpacked(archive(data_dir, make_tiny_imagenet.VALIDATION).read_bytes())
