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

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scripts.trials.nonsense_drawn import base, command_lines, prepare, workdirs
from scripts.trials.trial import Finding, Trial, finish, start

EXAMPLES, PROCESSES = 300, 10
SECONDS = 20  # the longest that one may take
_LONGEST_LINE = 301  # with its end
_RAN, _REFUSED = (0, 3), 2


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
