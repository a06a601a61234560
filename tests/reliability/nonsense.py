"""What is thrown at the command line: flags, workdirs and files, sensible and not, for hypothesis to draw from."""

import pathlib

from hypothesis import strategies as st

from configs import common
from qat.optimizers import FAMILIES
from qat.slopes import CATALOGUE
from scripts.noise import save_noise
from tests.reliability.processes import ROOT

_SLOPES = """
import os, time
import numpy as np, jax.numpy as jnp
def fine(r, *, h=1.5): return h - abs(r)
def raises(r): raise KeyError('r')
def nan(r): return r / 0
def wrong_shape(r): return r[:3]
def branches(r): return r if r[0] > 0 else -r
def with_numpy(r): return np.abs(r)
def of_integers(r): return r.astype(int)
def zero(r): return 0 * r
def huge(r): return 1e38 + 0 * r
def text(r): return 'x'
def not_elementwise(r): return r.mean()
def ends(r): os._exit(0)
def leaves(r): raise SystemExit(0)
def positional(r, a, b): return r
def with_progress(r, *, progress): return 1 + progress * jnp.cos(r)
def nan_later(r, *, progress): return jnp.where(progress > 0.4, jnp.nan, 1.0) + 0 * r
constant = 3
"""
_NEVER = 'while True: pass\n'
_CONFIG = """
import ml_collections, numpy as np
from ml_collections import config_dict
from configs import digits
def get_config({takes}):
    config = digits.get_config()
    {statements}
"""

_numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 1, 2, 10**9, 2**31, 2**63, 10**400, 1e308, 1e-320, float('inf'), float('nan'), True, None]),
)
_text = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ['', ' ', '..', '../..', 'a b', 'ä/ö', '🙂', '\x00', '\n', '-', '--', '%s', '$(id)', "'", '"', 'x' * 300]
    ),
    st.characters(categories=['Cs']),
)
_names = st.sampled_from(
    [
        *CATALOGUE,
        *FAMILIES,
        *('', 'dqs', '__import__'),
    ]
)
_arguments = st.dictionaries(
    st.sampled_from(
        ['k', 'a', 'lam', 'A', 'clamp', 'd', 'b', 'o_end', 'momentum', 'b1', 'b2', 'eps', 'h', 'nesterov', 'x']
    ),
    st.one_of(_numbers, st.text(max_size=5), st.lists(_numbers, max_size=2)),
    max_size=2,
)


@st.composite
def calls(draw) -> str:
    """'name(key=value)', more or less."""
    inside = ', '.join(f'{key}={value!r}' for key, value in draw(_arguments).items())
    return draw(st.sampled_from(['{0}', '{0}({1})', '{0}({1}', '{0}(**{{}})', '{0}({1})({1})'])).format(
        draw(_names), inside
    )


def _slope_calls(folder: pathlib.Path) -> st.SearchStrategy[str]:
    names = [line.removeprefix('def ').partition('(')[0] for line in _SLOPES.splitlines() if line.startswith('def ')]
    files = [f'{folder}/slopes.py:{name}' for name in [*names, 'constant', 'missing', 'fine(h=2)', 'fine(h=nan)', '']]
    return st.sampled_from([*files, f'{folder}/none.py:f', f'{folder}:f', f'{folder}/data.npz:f', ':', 'x:'])


_SENSIBLE = {  # values that may well run, so that not all are refused
    'dataset': st.sampled_from(['digits', 'synthetic']),
    'estimator': st.sampled_from(
        ['ste', 'sine', 'mad', 'ewgs', 'ede', 'dsq(k=2)', 'dsq(k=1e30)', 'soft_round(a=1e-9)']
    ),
    'optimizer': st.sampled_from(['adam', 'sgd', 'lion', 'muon', 'adafactor', 'adamw(b2=0.5)', 'rmsprop(eps=0)']),
    'model': st.sampled_from(['convnet', 'convnet', 'resnet']),
    'name': st.sampled_from(['x', 'a b', '..']),
    'image_size': st.sampled_from([1, 224]),
    'corrupt_images': st.sampled_from(['refuse', 'skip']),
    'compute_dtype': st.sampled_from(['float32', 'bfloat16']),
    'sync_batch_norm': st.sampled_from([True, False]),
    'bits': st.sampled_from([1, 2, 4, 8, 0, 9]),
    'range': st.sampled_from(['he_uniform', 'max_abs', 'channel_max_abs']),
    'placement': st.sampled_from(['gradient', 'update']),
    'learning_rate': st.sampled_from([1e-3, 0.1, 1e30, 1e-30]),
    'weight_decay': st.sampled_from([0.0, 1e-4, 1e30]),
    'twins': st.sampled_from(
        ['ste,self', 'naive_ste,jitter', 'self', 'ste,naive_ste,map_ste,jitter,self', 'ste,', ',']
    ),
    'warmup_fraction': st.sampled_from([0.0, 0.5, 1.0]),
    'batch_size': st.sampled_from([8, 7, 1, 24]),
    'seed': st.sampled_from([0, 2**32 - 1]),
    'eval_every_epochs': st.sampled_from([1, 2**31 - 1]),
    'num_epochs': st.sampled_from([1, 2**31 - 1]),
    'epochs_scale': st.sampled_from([1.0, 1e-9, 1e300]),
    'checkpoint_every_steps': st.sampled_from([1, 2, 10**9]),
    'track_change_points': st.sampled_from([True, False]),
}
_NEVER_DRAWN = {'max_steps', 'data_dir', 'distributed'}  # the first bounds the run; the others reach for the network


def command_lines(folder: pathlib.Path) -> st.SearchStrategy[list[str]]:
    """Flags beside --workdir and those of the small run."""
    special = {
        'estimator': calls() | _slope_calls(folder),
        'optimizer': calls(),
        'dataset': st.sampled_from(['digits', 'synthetic', 'imagenet', str(folder), f'{folder}/broken.npz']) | _text,
        'init_from': st.sampled_from([str(folder), '/', '..']) | _text,
    }
    flags = []
    for key in common.get_config():
        if key not in _NEVER_DRAWN:
            sensible, wild = _SENSIBLE.get(key), special.get(key, _numbers | _text)
            value = _mostly(sensible, wild) if sensible is not None else wild
            flags.append(value.map(lambda drawn, key=key: f'--config.{key}={drawn}'))
    stray = _text | _text.map(lambda text: f'--{text}') | st.just('--config.seed')
    return st.lists(st.one_of(*flags, *flags, *flags, stray), max_size=2)


def _mostly(sensible: st.SearchStrategy, wild: st.SearchStrategy) -> st.SearchStrategy:
    return st.sampled_from([sensible] * 4 + [wild]).flatmap(lambda chosen: chosen)


_values = st.one_of(
    (_numbers | _text).map(repr).map(lambda written: written.replace('inf', 'np.inf').replace('nan', 'np.nan')),
    st.sampled_from(
        [
            *(
                'None',
                'print',
                'get_config',
                'config',
                'lambda: 1',
                'object()',
                '[1]',
                '(0.1,)',
                '{}',
                "{'a': {}}",
                "b''",
            ),
            *('config_dict.placeholder(int)', 'config_dict.required_placeholder(float)', "config.get_ref('seed')"),
            *("config.get_ref('seed') // 0", 'np.float32(0.1)', 'np.int8(3)', 'np.ones(3)', '10**5000', '1j', "'~/x'"),
        ]
    ),
)
_ends = st.sampled_from(
    [
        *['return config'] * 3,
        *('return dict(config)', 'return config.to_dict()', 'return ml_collections.FrozenConfigDict(config)'),
        *(
            'return config.lock()',
            'return',
            'pass',
            'return {}',
            'return get_config',
            'return get_config()',
            'raise',
            'exit()',
        ),
    ]
)


@st.composite
def config_files(draw) -> str:
    """The text of a config file in Python, with keys of any value, missing, or of its own."""
    key = st.sampled_from([*common.get_config()] * 3 + ['lr', 'a.b', '', 3]).map(repr)
    change = st.one_of(
        st.tuples(key, _values).map('with config.unlocked(), config.ignore_type(): config[{0[0]}] = {0[1]}'.format),
        st.tuples(key, _values).map('config = {{**config, {0[0]}: {0[1]}}}'.format),
        key.map('del config[{}]'.format),
    )
    statements = [*draw(st.lists(change, max_size=2)), draw(_ends)]
    takes = draw(st.sampled_from(['', '', '', 'size', 'size=1', '*sizes']))
    return _CONFIG.format(takes=takes, statements='\n    '.join(statements))


def workdirs(folder: pathlib.Path) -> st.SearchStrategy[str]:
    """Of runs; most are below the folder, some in places where nobody can write."""
    below = st.sampled_from(['run', 'a b', 'ä🙂', 'down/../run', 'slopes.py/run', 'y' * 300, 'deep/' * 20, "it's", '-'])
    return below.map(lambda name: f'{folder}/out/{name}') | st.sampled_from(
        ['/dev/null', '/proc/nowhere', '/dev/null/x']
    )


def prepare(folder: pathlib.Path) -> None:
    """The files that nonsense may point to."""
    data = save_noise(folder / 'data.npz', (4, 4, 1), 3, training=24, validation=24)
    (folder / 'broken.npz').write_bytes(data.read_bytes()[:500])
    (folder / 'slopes.py').write_text(_SLOPES)
    (folder / 'never.py').write_text(_NEVER)


def base(folder: pathlib.Path) -> list[str]:
    """Flags of a run that takes seconds; what is drawn comes behind them and overrides them."""
    data = f'--config.dataset={folder}/data.npz'
    small = ['--config.batch_size=8', '--config.max_steps=2', '--config.twins=self']
    return [f'--config={ROOT}/configs/digits.py', data, *small]
