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

from experiments import train
from tests.reliability.nonsense import base, command_lines, prepare, workdirs
from tests.reliability.processes import finish, start

SECONDS = 600  # what takes longer does not end by itself; a few on an idle machine, but others may be at work on it
LONGEST_LINE = 300
RAN, REFUSED = (0, 3), 2


@pytest.fixture
def place(tmp_path) -> pathlib.Path:
    """A folder with the files that nonsense may point to."""
    prepare(tmp_path)
    return tmp_path


def ran_or_was_refused(argv: list[str], code: int, error: str, seconds: float) -> None:
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
    @given(command_lines(place), workdirs(place), st.sampled_from([False] * 5 + [True]))
    def throw(flags, workdir, as_json):
        shutil.rmtree(out)
        out.mkdir()
        argv = [*base(place), *flags, f'--workdir={workdir}']
        argv = through_json(place, argv) if as_json else argv
        error, began = io.StringIO(), time.monotonic()
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
            code = exit_code(argv)
        ran_or_was_refused(argv, code, error.getvalue(), time.monotonic() - began)
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


def through_json(place: pathlib.Path, argv: list[str]) -> list[str]:
    """The same settings, as far as they are settings, out of a config.json."""
    pairs = [flag.removeprefix('--config.').partition('=') for flag in argv if flag.startswith('--config.')]
    content = {}
    for key, _, value in pairs:
        try:
            content[key] = json.loads(value)
        except ValueError:
            content[key] = value
    with contextlib.suppress(UnicodeEncodeError):
        (place / 'nonsense.json').write_text(json.dumps(content))
    return [f'--config={place / "nonsense.json"}', argv[-1]]


def listing(place: pathlib.Path) -> set[pathlib.Path]:
    """Files beside the workdirs, and where the command is given."""
    return {*place.iterdir(), *(place / 'here').iterdir()} - {place / 'nonsense.json'}


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
    began = time.monotonic()
    code, error = finish(start(place / 'out', *argv))
    assert code == REFUSED
    ran_or_was_refused(argv, code, error, time.monotonic() - began)
