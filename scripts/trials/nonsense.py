"""Nonsense on the command line: every one either runs or is refused in one line, whatever it says."""

import contextlib
import functools
import io
import json
import pathlib
import shutil
import time
import traceback
from collections.abc import Callable, Iterator

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from configs import common
from scripts.trials.trial import Finding, Trial, finish, start

EXAMPLES, PROCESSES = 300, 10
SECONDS = 20  # the longest that one may take
_LONGEST_LINE = 301  # with its end
_RAN, _REFUSED = (0, 3), 2

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
        *('ste', 'dsq', 'soft_round', 'sine', 'rdfs', 'dge', 'mad', 'ewgs', 'ede', 'reste', 'swish_sign'),
        *('sgd', 'signsgd', 'adam', 'adamw', 'rmsprop', 'lion', 'adafactor', 'muon', '', 'dqs', '__import__'),
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


def workdirs(folder: pathlib.Path) -> st.SearchStrategy[str]:
    """Of runs; most are below the folder, some in places where nobody can write."""
    below = st.sampled_from(['run', 'a b', 'ä🙂', 'down/../run', 'slopes.py/run', 'y' * 300, 'deep/' * 20, "it's", '-'])
    return below.map(lambda name: f'{folder}/out/{name}') | st.sampled_from(
        ['/dev/null', '/proc/nowhere', '/dev/null/x']
    )


def prepare(folder: pathlib.Path) -> None:
    """The files that nonsense may point to."""
    generator, arrays = np.random.default_rng(0), {}
    for split in ('train', 'validation'):
        arrays[f'{split}_images'] = generator.random((24, 4, 4, 1)).astype(np.float32)
        arrays[f'{split}_labels'] = generator.integers(0, 3, 24).astype(np.int32)
    np.savez(folder / 'data.npz', **arrays)
    (folder / 'broken.npz').write_bytes((folder / 'data.npz').read_bytes()[:500])
    (folder / 'slopes.py').write_text(_SLOPES)
    (folder / 'never.py').write_text(_NEVER)


def base(folder: pathlib.Path) -> list[str]:
    """Flags of a run that takes seconds; what is drawn comes behind them and overrides them."""
    data = f'--config.dataset={folder}/data.npz'
    return ['--config=configs/digits.py', data, '--config.batch_size=8', '--config.max_steps=2', '--config.twins=self']


def verdict(argv: list[str], code: int, error: str, seconds: float) -> str:
    """What is wrong with how a command ended; '' where it ran or was refused in one line."""
    lines = [line for line in error.splitlines() if line and '%|' not in line and not line.startswith('warning: ')]
    if 'Traceback' in error or code not in (*_RAN, _REFUSED):
        return f'{argv!r} ended with {code}: {error[-2000:]}'
    if code == _REFUSED and (len(lines) != 1 or len(lines[0]) >= _LONGEST_LINE or not lines[0].startswith('error: ')):
        return f'{argv!r} was refused with {error!r}'
    return f'{argv!r} took {seconds:.0f} s' if seconds > SECONDS else ''


_settings = functools.partial(
    settings,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # a run is too slow to be shrunk
)


def throw_at_main(folder: pathlib.Path, examples: int) -> dict[int, int]:
    """Throws so many at `main`, in a process of its own; how many ended with which exit code.

    Raises:
      AssertionError: one did neither run nor get refused in one line, took too long, or wrote where it should not.
    """
    from experiments import train

    prepare(folder)
    out = folder / 'out'
    out.mkdir(exist_ok=True)
    ends, around = {}, _listing(folder)

    @_settings(max_examples=examples)
    @given(command_lines(folder), workdirs(folder), st.sampled_from([False] * 5 + [True]))
    def thrown(flags, workdir, as_json):
        shutil.rmtree(out)
        out.mkdir()
        argv = [*base(folder), *flags, f'--workdir={workdir}']
        argv = _as_json(folder, argv) if as_json else argv
        error, began = io.StringIO(), time.monotonic()
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
            code = _code(train.main, argv)
        wrong = verdict(argv, code, error.getvalue(), time.monotonic() - began)
        assert not wrong, wrong
        assert _listing(folder) == around, f'{argv!r} wrote outside its workdir'
        ends[code] = ends.get(code, 0) + 1

    thrown()
    return ends


def _code(main: Callable[[list[str]], int], argv: list[str]) -> int:
    try:
        return main(argv)
    except Exception:
        traceback.print_exc()
        return 1


def _as_json(folder: pathlib.Path, argv: list[str]) -> list[str]:
    """The same settings, as far as they are settings, out of a config.json."""
    pairs = [flag.removeprefix('--config.').partition('=') for flag in argv if flag.startswith('--config.')]
    content = {}
    for key, _, value in pairs:
        try:
            content[key] = json.loads(value)
        except ValueError:
            content[key] = value
    with contextlib.suppress(UnicodeEncodeError):
        (folder / 'nonsense.json').write_text(json.dumps(content))
    return [f'--config={folder / "nonsense.json"}', argv[-1]]


def _listing(folder: pathlib.Path) -> set[str]:
    """Files beside the workdirs: next to them, and where the command is given."""
    here = [path for path in (folder, pathlib.Path('.'), pathlib.Path('runs')) if path.is_dir()]
    return {str(each) for path in here for each in path.iterdir()} - {str(folder / 'nonsense.json')}


def at_processes(folder: pathlib.Path, count: int) -> Iterator[Finding]:
    """Throws so many at the real command."""
    prepare(folder)
    thrown = []
    hostile = [
        ['--config.seed=' + '9' * 5000],
        [f'--config.estimator={folder}/never.py:f'],
        [f'--config.estimator={folder}/slopes.py:ends'],
        ['--config.twins=\udc80'],
        ['--config.estimator=dsq(k=1e400)'],
        ['--config.num_epochs=2147483647', '--config.max_steps=-1'],
        [f'--config.init_from={folder}'],
        ['--help=1'],
        ['--config.name=../../elsewhere'],
        ['--config.optimizer=adam(b1=' + '(' * 500 + ')'],
    ]
    for flags in hostile[:count]:
        argv = [*base(folder), *flags]
        began = time.monotonic()
        code, error = finish(start(folder / 'out' / 'process', *argv))
        wrong = verdict(argv, code, error, time.monotonic() - began)
        thrown.append(code)
        yield Finding(f'the command with {flags[0][:60]!r}', not wrong, wrong or f'ended with {code}: {error[:200]}')


def nonsense(folder: pathlib.Path, examples: int = EXAMPLES, processes: int = PROCESSES) -> Iterator[Finding]:
    """Both."""
    place = folder / 'nonsense'
    place.mkdir(exist_ok=True)
    try:
        ends = throw_at_main(place, examples)
        seen = (
            f'{sum(ends[code] for code in _RAN if code in ends)} ran, {ends.get(_REFUSED, 0)} were refused in one line'
        )
        yield Finding(f'{examples} generated command lines at main', ends.keys() >= {0, _REFUSED}, seen)
    except AssertionError as error:
        yield Finding(f'{examples} generated command lines at main', False, str(error))
    yield from at_processes(place, processes)


TRIAL = Trial(
    'nonsense',
    f'Every command line runs or is refused in one line, within {SECONDS} s, and writes nothing outside its workdir.',
    nonsense,
)
