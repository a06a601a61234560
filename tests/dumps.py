"""Series of weights as other programs leave them, written for tests."""

import pathlib

import numpy as np
import orbax.checkpoint as ocp
from safetensors.numpy import save_file

ARRAYS = {
    'layer/kernel': np.random.default_rng(2).normal(size=(3, 8, 6)).astype(np.float32),  # the first axis is time
    'other/kernel': np.random.default_rng(3).normal(size=(3, 4, 2, 2)).astype(np.float32),
    'layer/bias': np.zeros((3, 6), np.float32),
}
SNAPSHOTS = [{name: array[step] for name, array in ARRAYS.items()} for step in range(3)]


def as_safetensors(folder: pathlib.Path, step: int, arrays) -> None:
    save_file(dict(arrays), folder / f'step-{step}.safetensors')


def as_npz(folder: pathlib.Path, step: int, arrays) -> None:
    (np.savez, np.savez_compressed)[step % 2](folder / f'{step}.npz', **arrays)


def as_orbax(folder: pathlib.Path, step: int, arrays) -> None:
    nested = {}
    for name, array in arrays.items():
        layer, _, leaf = name.partition('/')
        nested.setdefault(layer, {})[leaf] = array
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute() / 'checkpoints' / str(step), nested)


def dumped(folder: pathlib.Path, snapshots, write=as_npz, steps=None) -> str:
    folder.mkdir(parents=True)
    for step in range(len(snapshots)) if steps is None else steps:
        write(folder, step, snapshots[step])
    return str(folder)
