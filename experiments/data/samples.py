"""Samples of a fake-quantizer from a file of any framework's: columns w, q and, if there is one, dq/dw."""

import contextlib
import io
import pathlib
import zipfile
from collections.abc import Iterator

import numpy as np

from experiments.errors import UserError

COLUMNS = ('w', 'q', 'slope')
_HEADINGS = {'w': 'w', 'q': 'q', 'slope': 'slope', 'dq/dw': 'slope'}  # by which columns are known in any order
_MOST = 2**22  # samples
_SHOWN = 60  # characters of what a library says


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The columns by name: 'w', 'q' and, where there is a third, 'slope'; float64.

    Args:
      path: an .npz file with arrays w, q and slope, or a CSV file with two or three columns. They are taken by the
        names of its heading, where it has w, q and slope (or dq/dw) and nothing else; otherwise in this order.

    Raises:
      UserError: the file cannot be read, or does not have these columns.
    """
    if path.is_dir():
        raise UserError(f'{path} is a folder; give one file of samples in it, such as {path / "samples.csv"}')
    if not path.is_file():  # a fifo would be waited for
        raise UserError(f'{path}: no such file')
    suffix = path.suffix.lower()
    if suffix == '.npz':
        return _npz(path)
    if suffix in ('.csv', '.tsv', '.txt'):
        return _csv(path)
    raise UserError(f'{path}: give a .py, .csv or .npz file; docs/audit.md shows how to write one from PyTorch')


def _npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    with _told(path, 'np.savez(FILE, w=w, q=q, slope=slope)'), zipfile.ZipFile(path) as archive:
        names = {name.removesuffix('.npy') for name in archive.namelist()}
        missing = [name for name in COLUMNS[:2] if name not in names]
        if missing:
            raise ValueError(f'it has no array {missing[0]!r}')
        return {name: _array(archive, name) for name in COLUMNS if name in names}


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    info = archive.getinfo(f'{name}.npy')
    if info.file_size > 8 * _MOST + 2**16:
        raise ValueError(f'{name} has more than {_MOST} numbers')
    with archive.open(info) as member:
        content = io.BytesIO(member.read(8 * _MOST + 2**16))
    found = np.lib.format.read_array(content, allow_pickle=False)
    if np.iscomplexobj(found):
        raise ValueError(f'{name} must be an array of real numbers')
    return np.asarray(found, np.float64).ravel()


def _csv(path: pathlib.Path) -> dict[str, np.ndarray]:
    with _told(path, 'a line "w,q,slope" a sample'):
        if path.stat().st_size > 64 * _MOST:
            raise ValueError(f'it has more than {_MOST} samples')
        lines = [line for line in path.read_text(encoding='utf-8-sig').splitlines() if line.strip()]
        heading = []
        if lines and _numbers(lines[0]) is None:
            heading, lines = _parts(lines[0]), lines[1:]
        if not lines:
            raise ValueError('it has no samples')
        rows = [_numbers(line) for line in lines]
        width = len(rows[0] or ())
        wrong = next((place for place, row in enumerate(rows) if row is None or len(row) != width), None)
        if wrong is not None:
            raise ValueError(f'sample {wrong + 1} is not {width or "two or three"} numbers: {lines[wrong][:_SHOWN]!r}')
        if width not in (2, 3):
            raise ValueError(f'it has {width} columns, and two or three are asked for')
        return dict(zip(_names(heading, width), np.array(rows).T))


def strange_heading(path: pathlib.Path) -> str:
    """What an error on samples should say of a heading that was not understood; '' where there is none."""
    if path.suffix.lower() == '.npz':
        return ''
    with path.open(encoding='utf-8-sig') as file:
        heading = next((line for line in file if line.strip()), '')
    parts = [part.strip() for part in _parts(heading)]
    if _numbers(heading) is not None or all(map(_column, parts)):
        return ''
    return f', whose heading {",".join(parts)[:_SHOWN]!r} was not understood (w,q,slope is), so that the order decided'


def _numbers(line: str) -> list[float] | None:
    try:
        return [float(part) for part in _parts(line)]
    except ValueError:
        return None


def _parts(line: str) -> list[str]:
    return line.replace(';', ',').replace('\t', ',').split(',')


def _column(part: str) -> str | None:
    return _HEADINGS.get(part.strip(' "\'\r\n').lower())


def _names(heading: list[str], width: int) -> list[str]:
    """What each column is; without a heading that says so, the order decides."""
    names = [_column(part) for part in heading]
    if len(names) != width or None in names or len(set(names)) < width:
        return list(COLUMNS[:width])
    missing = [name for name in COLUMNS[:2] if name not in names]
    if missing:
        raise ValueError(f'it has no column {missing[0]!r}')
    return names


@contextlib.contextmanager
def _told(path: pathlib.Path, advice: str) -> Iterator[None]:
    """Whatever zipfile, zlib, numpy, a decoder or a file system raises, in one line."""
    try:
        yield
    except Exception as error:
        reason = ' '.join(str(error).split())[: _SHOWN * 2] or type(error).__name__
        raise UserError(f'{path}: {reason}. Write {advice}') from error
