"""The arrays of one checkpoint of orbax, by their paths in the tree, an array at a time."""

import dataclasses
import logging
import pathlib
from collections.abc import Sequence

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.comparison.snapshots import Header, Wanted, blame_file

_MARK = '_METADATA'  # of a folder that holds a tree
logging.getLogger('absl').addFilter(lambda record: 'orbax' not in pathlib.Path(record.pathname).parts)


def tree_in(folder: pathlib.Path) -> pathlib.Path | None:
    """The folder of the tree in a checkpoint: itself, or its only part that holds one; None where there is none."""
    if (folder / _MARK).is_file():
        return folder
    parts = [path.parent for path in folder.glob(f'*/{_MARK}')]
    return parts[0] if len(parts) == 1 else None


@dataclasses.dataclass(frozen=True)
class Orbax:
    """A checkpoint, the folder named after its step."""

    path: pathlib.Path

    def headers(self) -> dict[str, Header]:
        with blame_file(self.path), ocp.PyTreeCheckpointer() as checkpointer:
            leaves = jax.tree_util.tree_leaves_with_path(self._tree(checkpointer))
        return {_name(keys): Header(tuple(leaf.shape), np.dtype(leaf.dtype).name) for keys, leaf in leaves}

    def read(self, parts: Sequence[Wanted]) -> list[np.ndarray]:
        names = {name for name, _ in parts}
        with blame_file(self.path), ocp.PyTreeCheckpointer() as checkpointer:
            tree = self._tree(checkpointer)
            item = jax.tree_util.tree_map_with_path(
                lambda keys, _: 0 if _name(keys) in names else ocp.PLACEHOLDER, tree
            )
            as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            arguments = ocp.args.PyTreeRestore(item=item, restore_args=as_arrays)
            restored = checkpointer.restore(tree_in(self.path).absolute(), args=arguments)
        found = {_name(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(restored)}
        return [np.asarray(found[name])[index] for name, index in parts]

    def _tree(self, checkpointer: ocp.PyTreeCheckpointer):
        found = checkpointer.metadata(tree_in(self.path).absolute()).item_metadata
        return getattr(found, 'tree', found)


def _name(keys) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator='/')
