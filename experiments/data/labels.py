"""Which arrays are labels: a class number from 0 for every image, and what to do about those that are none.

Every refusal is a ValueError, a line that begins with the array's name.
"""

import numpy as np

_FEW = 10_000  # classes, for which there need not be as many images
_IGNORED = (255, 65535)  # what segmentation data and masks use for 'no class'
_WANTED = 'Wanted is one class number, a whole number from 0, for every image'
_RENUMBER = 'np.unique(LABELS, return_inverse=True)[1]'


def check(name: str, labels: np.ndarray) -> np.ndarray:
    """Returns labels as (n,) whole numbers, at least 0, of any integer dtype.

    Raises:
      ValueError: with what was found and what is wanted.
    """
    kind = labels.dtype.kind
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(_several(name, labels))
    if kind in 'US':
        example = str(labels[:1].tolist()[0])[:20] if len(labels) else ''
        raise ValueError(
            f'{name} holds text, as {example!r}. Wanted are class numbers from 0: '
            f'{_RENUMBER} of both splits together makes them'
        )
    if kind == 'f':
        raise ValueError(_floats(name, labels))
    if kind not in 'iub':
        raise ValueError(f'{name} holds {"records" if labels.dtype.names else labels.dtype}. {_WANTED}')
    labels = labels.astype(np.uint8) if kind == 'b' else labels
    if len(labels) and labels.min() < 0:
        index = int(labels.argmin())
        raise ValueError(
            f'{name}[{index}] is {labels[index]}: negative. Number the classes from 0; if it stands for '
            '"no class", leave those images out'
        )
    return labels


def _several(name: str, labels: np.ndarray) -> str:
    """What to say of labels that are not one number an image."""
    found = f'{name} has shape {labels.shape}'
    if labels.ndim == 2 and labels.size and labels.dtype.kind in 'iufb':
        ones = labels == 1
        if (ones | (labels == 0)).all() and (ones.sum(axis=1) == 1).all():
            return f'{found}: one-hot. Save class numbers, .argmax(axis=1)'
    return f'{found}. {_WANTED}'


def _floats(name: str, labels: np.ndarray) -> str:
    with np.errstate(invalid='ignore'):
        odd = np.flatnonzero(~np.isfinite(labels) | (labels != np.floor(labels)))
    if odd.size:
        return f'{name}[{odd[0]}] is {labels[odd[0]]:g}, which is no class. {_WANTED}'
    return f'{name} holds floats. {_WANTED}: save it as .astype(np.int32)'


def check_classes(names: dict[str, str], labels: dict[str, np.ndarray]) -> str:
    """Returns a remark on classes that never occur, or ''.

    Args:
      names: of the arrays, by split.
      labels: (n,) integers of at least 0, by split.

    Raises:
      ValueError: the largest label would make classes that cannot be meant.
    """
    occurring = sorted(set().union(*(np.unique(split).tolist() for split in labels.values())))
    examples = sum(map(len, labels.values()))
    top, below = occurring[-1], ([-1, *occurring])[-2]
    split = next(split for split in labels if int(labels[split].max()) == top)
    found = f'{names[split]}[{int(labels[split].argmax())}] is {top}, which makes {top + 1} classes'
    renumber = f'Number the classes from 0 without gaps: {_RENUMBER} of both splits together'
    if top in _IGNORED and below < top // 2:
        raise ValueError(f'{found}, and the next is {below}. If {top} stands for "no class", leave those images out')
    if top >= max(_FEW, examples):
        raise ValueError(f'{found}, more than the {examples} images. {renumber}')
    if 2 * len(occurring) <= top < examples:
        return f'{found}, and only {len(occurring)} of them occur. {renumber}'
    if occurring[0]:
        return f'no label is 0, and {found}. If they are numbered from {occurring[0]}, subtract {occurring[0]}'
    if unseen := set(labels['validation'].tolist()) - set(labels['train'].tolist()):
        return f'class {min(unseen)} is validated and not in {names["train"]}. Number both splits in the same way'
    return ''
