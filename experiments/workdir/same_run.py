"""Whether a workdir, and each checkpoint in it, belongs to a run.

identity.json holds what the run is, as `setup/identity.py` says: the resolved config, and the content of the files that
it names. Each checkpoint is sealed with a digest of that and its own step. A workdir that an earlier version began has
neither: there the config in config.json decides, and every checkpoint is its own.
"""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Mapping

from configs import common
from experiments.errors import UserError
from experiments.workdir.files import read_json, write_json
from experiments.workdir.seals import IDENTITY, RUN, seals

_NAMES = 'identity'  # in identity.json, beside the digest
_CONTENT = 'content of '  # begins the names of files, beside those of config keys
# May change when a run continues: what it has seen stays the same.
_MAY_DIFFER = {
    *('name', 'data_dir', 'corrupt_images', 'distributed', 'checkpoint_every_steps', 'ladder', 'ladder_seeds'),
    f'{_CONTENT}init_from',
}
_MAY_GROW = {'num_epochs'}  # may grow when a run continues: the learning rate then follows the longer schedule


def check_same_run(workdir: pathlib.Path, identity: Mapping[str, str]) -> None:
    """Refuses a workdir that holds another run, or this one with other files; only num_epochs may have grown.

    Raises:
      UserError: naming what differs.
    """
    there = _identity_there(workdir)
    keys = [key for key in {**there, **identity} if there.get(key, identity.get(key)) != identity.get(key)]
    keys = [key for key in keys if key not in _MAY_DIFFER and not (key in _MAY_GROW and _grows(there, identity, key))]
    _refuse_files(workdir, keys)
    if keys:
        raise UserError(
            f'workdir {workdir} holds a run with another config; these keys differ: {", ".join(keys)}. '
            'Choose another --workdir'
        )
    others = [step for step, seal in seals(workdir).items() if seal and seal[RUN] not in ('', digest(identity))]
    if others and not (workdir / IDENTITY).exists():
        raise UserError(
            f'workdir {workdir} holds a checkpoint of another run, of step {max(others)}: its config or its files were '
            'others. Choose another --workdir'
        )


def check_same_part(workdir: pathlib.Path, part: Mapping[str, str]) -> None:
    """Refuses a config or files that are not what they were for the run in a workdir.

    Args:
      workdir: of the run.
      part: of its identity; nothing else is compared.

    Raises:
      UserError: naming the keys or the files.
    """
    there = _identity_there(workdir)
    names = [name for name in part if there.get(name, part[name]) != part[name] and name not in _MAY_DIFFER]
    _refuse_files(workdir, names)
    if names:
        raise UserError(
            f'{workdir / "config.json"} is not what the run wrote there: {", ".join(names)}; put the old one back'
        )


def write_identity(workdir: pathlib.Path, identity: Mapping[str, str]) -> None:
    """Writes identity.json, unless an earlier version began the run: its checkpoints have no seals to compare."""
    if (workdir / IDENTITY).exists() or None not in seals(workdir).values():
        write_json(workdir / IDENTITY, {RUN: digest(identity), _NAMES: identity})


def digest(identity: Mapping[str, str]) -> str:
    """Returns what stands for an identity in a seal: the same while the run may go on, also after a key is new."""
    defaults = _texts(common.get_config())
    free = _MAY_DIFFER | _MAY_GROW
    own = {key: text for key, text in identity.items() if key not in free and defaults.get(key) != text}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def _identity_there(workdir: pathlib.Path) -> dict[str, str]:
    """The identity of the run in a workdir, as far as it is known; a key may be newer than the run."""
    path, older = workdir / IDENTITY, workdir / 'config.json'
    if path.exists():
        found = _read_identity(path)
    elif older.exists():
        found = _texts(read_json(older))
    else:
        return {}
    return _texts(common.get_config()) | found


def _read_identity(path: pathlib.Path) -> dict[str, str]:
    found = read_json(path).get(_NAMES)
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise UserError(f'{path} holds no identity of a run; put back what the run wrote there')
    return found


def _grows(there: Mapping[str, str], here: Mapping[str, str], key: str) -> bool:
    with contextlib.suppress(ValueError):  # edited by hand: another
        before, now = json.loads(there[key]), json.loads(here[key])
        return isinstance(before, int) and before < now
    return False


def _refuse_files(workdir: pathlib.Path, names: list[str]) -> None:
    files = [name.removeprefix(_CONTENT) for name in names if name.startswith(_CONTENT)]
    if files:
        raise UserError(
            f'{", ".join(files)}: not what it was when the run in {workdir} began; put the old content back, '
            'or choose another --workdir'
        )


def _texts(config: Mapping) -> dict[str, str]:
    return {key: json.dumps(value) for key, value in config.items()}
