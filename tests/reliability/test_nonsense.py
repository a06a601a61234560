"""Nonsense on the command line: every one either runs or is refused in one line, whatever it says."""

import collections
import contextlib
import io
import json
import pathlib
import shutil
import time
import traceback

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from configs import common
from experiments import train
from experiments.errors import UserError, tell
from experiments.setup import command_line
from experiments.setup.settings import resolve
from tests.reliability.nonsense import base, command_lines, config_files, prepare, workdirs
from tests.reliability.processes import finish, start

SECONDS = 60  # of a processor, the most that one may take; others may be at work on the machine
LONGEST_LINE = 300
RAN, REFUSED = (0, 3), 2


@pytest.fixture
def place(tmp_path) -> pathlib.Path:
    """A folder with the files that nonsense may point to."""
    prepare(tmp_path)
    return tmp_path


def ran_or_was_refused(argv: list[str], code: int, error: str, seconds: float = 0) -> None:
    lines = [line for line in error.splitlines() if line and '%|' not in line and not line.startswith('warning: ')]
    told = f'{argv!r} ended with {code} after {seconds:.0f} s: {error[-2000:]}'
    assert 'Traceback' not in error and code in (*RAN, REFUSED), told
    if code == REFUSED:
        assert len(lines) == 1 and len(lines[0]) <= LONGEST_LINE and lines[0].startswith('error: '), told
    assert seconds <= SECONDS, told


@pytest.mark.parametrize('examples', [8, pytest.param(300, marks=pytest.mark.slow)])
def test_generated_command_lines(examples, place, monkeypatch):
    """None leaves anything beside its workdir, nor where the command is given."""
    here, out = place / 'here', place / 'out'
    here.mkdir()
    out.mkdir()
    monkeypatch.chdir(here)
    ends, around = collections.Counter(), listing(place)

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # a run is too slow to be shrunk
    )
    @given(command_lines(place), workdirs(place), st.sampled_from([''] * 5 + ['json', 'py']))
    def throw(flags, workdir, kind):
        shutil.rmtree(out)
        out.mkdir()
        argv = [*base(place), *flags, f'--workdir={workdir}']
        argv = through_file(place, argv, kind) if kind else argv
        error, began = io.StringIO(), time.process_time()
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
            code = exit_code(argv)
        ran_or_was_refused(argv, code, error.getvalue(), time.process_time() - began)
        assert listing(place) == around, f'{argv!r} wrote outside its workdir'
        ends[code] += 1

    throw()
    assert ends.total() >= examples and {0, REFUSED} <= set(ends)


def exit_code(argv: list[str]) -> int:
    try:
        return train.main(argv)
    except Exception:
        traceback.print_exc()
        return 1


def through_file(place: pathlib.Path, argv: list[str], kind: str) -> list[str]:
    """The same settings, as far as they are settings, out of a config.json or a Python file."""
    pairs = [flag.removeprefix('--config.').partition('=') for flag in argv if flag.startswith('--config.')]
    content = {}
    for key, _, value in pairs:
        try:
            content[key] = json.loads(value)
        except ValueError:
            content[key] = value
    text = json.dumps(content)
    if kind == 'py':
        values = f'{{**common.get_config(), **json.loads({text!r})}}'
        text = f'import json\nfrom configs import common\ndef get_config():\n    return {values}\n'
    (place / f'nonsense.{kind}').write_text(text)
    return [f'--config={place}/nonsense.{kind}', argv[-1]]


def listing(place: pathlib.Path) -> set[pathlib.Path]:
    """Files beside the workdirs, and where the command is given."""
    return {*place.iterdir(), *(place / 'here').iterdir()} - {place / 'nonsense.json', place / 'nonsense.py'}


@pytest.mark.parametrize('examples', [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_generated_config_files(examples, tmp_path):
    """What comes out has the declared types, whatever goes in, and names something or is refused."""
    declared, path, ends = common.get_config(), tmp_path / 'nonsense.py', collections.Counter()

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(config_files(), st.sampled_from(['', '', '', ':', ':small']), st.sampled_from([[], ['--config.seed=1']]))
    def throw(text, argument, flags):
        path.write_text(text)
        try:
            config, _ = command_line.parse([f'--config={path}{argument}', *flags])
            assert {key: type(value) for key, value in config.items()} == {
                key: type(value) for key, value in declared.items()
            }
            json.loads(json.dumps(config.to_dict()))
            resolve(config)
            ends['accepted'] += 1
        except UserError as error:
            ends['refused'] += 1
            assert tell(error) == REFUSED

    throw()
    assert min(ends['accepted'], ends['refused']) >= examples / 20, ends


HOSTILE = [
    ['--config.seed=' + '9' * 5000],
    ['--config.estimator={place}/never.py:f'],
    ['--config.estimator={place}/slopes.py:ends'],
    ['--config.twins=\udc80'],
    ['--config.estimator=dsq(k=1e400)'],
    ['--config.num_epochs=2147483647', '--config.max_steps=-1'],
    ['--config.init_from={place}'],
    ['--help=1'],
    ['--config.name=../../elsewhere'],
    ['--config.optimizer=adam(b1=' + '(' * 500 + ')'],
]


@pytest.mark.parametrize(
    'flags',
    [
        pytest.param(flags, id=str(number), marks=pytest.mark.slow if number != 2 else [])
        for number, flags in enumerate(HOSTILE)
    ],
)
def test_the_command_as_a_process(flags, place):
    argv = [*base(place), *(flag.replace('{place}', str(place)) for flag in flags)]
    code, error = finish(start(place / 'out', *argv))  # by itself
    assert code == REFUSED
    ran_or_was_refused(argv, code, error)
