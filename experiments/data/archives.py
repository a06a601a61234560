"""ImageNet's two archives, checked before tensorflow-datasets spends hours on them."""

import pathlib
import tarfile

from tqdm import tqdm

from experiments.errors import UserError

ARCHIVES = ('ILSVRC2012_img_train.tar', 'ILSVRC2012_img_val.tar')


def check(folder: pathlib.Path) -> None:
    """Refuses archives that are missing, cut off, or not tar files.

    Raises:
      UserError: naming the archive.
    """
    if not all((folder / name).is_file() for name in ARCHIVES):
        raise UserError(
            f'dataset: imagenet2012 is not prepared. Put {" and ".join(ARCHIVES)} in {folder}, '
            'or try python -m scripts.make_tiny_imagenet --out DIR'
        )
    for name in ARCHIVES:
        reason = _damage(folder / name)
        if reason:
            raise UserError(f'dataset: {name} in {folder} {reason}. Get it again')


def _damage(archive: pathlib.Path) -> str | None:
    """Returns what is wrong with a tar, judging by its headers, or None.

    tarfile takes a damaged or missing header for the end, but a real end is a block of zeros.
    """
    try:
        with archive.open('rb') as file, tarfile.open(fileobj=file, mode='r:') as tar:
            for _ in tqdm(tar, f'Checking {archive.name}', unit=' files', leave=False, disable=None):
                pass
            file.seek(tar.offset)
            ended = file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    except tarfile.ReadError as error:
        return f'is cut off or no tar ({error})'
    except OSError as error:
        return f'cannot be read ({error.strerror})'
    return None if ended else 'is cut off or damaged (it has no end)'
