"""The terminal, notebook, pipe and locale that a command is called from: none changes what it does, or what it says."""

import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import jax
import pytest

from experiments import command, terminal
from experiments.errors import USERS_ERROR, UserError, tell
from experiments.results import summary
from experiments.results.metrics import METRICS
from experiments.sweeps import report as sweeps_report
from experiments.workdir import environment

ROOT = pathlib.Path(__file__).parent.parent
PATIENCE_SECONDS = 600  # for a process that should have ended long before
SMALL = '--config=configs/digits.py --config.max_steps=3 --config.twins=self --config.batch_size=100'
OF_A_RUN = {'summary.json', 'metrics.jsonl', 'weights.npz', 'report.html'}
PRINTING = """
import sys
from experiments.command import run

def main(argv):
    for number in range(3):
        print(f'\\u00e9 {{number}}', flush=True)
        print('aside', file=sys.stderr)
    print('trained', file=open({proof!r}, 'w'))
    return 0

run(main, is_answer={is_answer})
"""


def shell(line: str, **variables: str) -> subprocess.CompletedProcess:
    """A line of bash; its exit code is that of the first program in a pipe."""
    given = {'env': {**os.environ, 'XLA_FLAGS': '', **variables}, 'cwd': ROOT, 'timeout': PATIENCE_SECONDS}
    argv = ['bash', '-c', f'{line}; exit ${{PIPESTATUS[0]}}']
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, **given)


def python(code: str) -> str:
    return f'{shlex.quote(sys.executable)} -c {shlex.quote(code)}'


def experiment(arguments: str) -> str:
    return f'{shlex.quote(sys.executable)} -m experiments.{arguments}'


FULL = 'standard output: No space left on device; make room there: some of what was printed is lost\n'
PIPES = {  # where the output goes: what arrives on stdout and on stderr
    '': ('é 0\né 1\né 2\n', 'aside\n' * 3),
    '>/dev/full': ('', 'aside\n' * 3 + f'warning: {FULL}'),
    '2>/dev/full': ('é 0\né 1\né 2\n', ''),
    '>/dev/full 2>&1': ('', ''),
    '2>&-': ('é 0\né 1\né 2\n', ''),
    '>&-': ('', 'aside\n' * 3),
    '<&- >&- 2>&-': ('', ''),
    '| head -1': ('é 0\n', 'aside\n' * 3),
    '2>&1 | true': ('', ''),
}


@pytest.mark.parametrize('where', PIPES)
def test_output_that_goes_away_ends_nothing(where, tmp_path):
    done = shell(f'{python(PRINTING.format(proof=str(tmp_path / "proof"), is_answer=False))} {where}')
    assert (done.returncode, done.stdout, done.stderr) == (0, *PIPES[where])
    assert (tmp_path / 'proof').read_text() == 'trained\n'


def test_what_is_said_last_arrives():
    """A thread that gives up ends the process without another flush."""
    code = 'import os, sys; from experiments.command import run; '
    code += 'run(lambda _: print("gone", file=sys.stderr) or os._exit(2))'
    done = shell(python(code))
    assert (done.returncode, done.stderr) == (2, 'gone\n')


def test_an_answer_that_cannot_be_written_is_an_error(tmp_path):
    done = shell(f'{python(PRINTING.format(proof=str(tmp_path / "proof"), is_answer=True))} >/dev/full')
    assert done.returncode == USERS_ERROR and done.stderr == 'aside\n' * 3 + f'error: {FULL}'


@pytest.mark.parametrize(
    'variables', [{'PYTHONIOENCODING': 'ascii'}, {'LC_ALL': 'C', 'PYTHONCOERCECLOCALE': '0', 'PYTHONUTF8': '0'}]
)
def test_what_an_encoding_lacks_is_escaped(variables, tmp_path):
    done = shell(python(PRINTING.format(proof=str(tmp_path / 'proof'), is_answer=True)), **variables)
    assert (done.returncode, done.stdout) == (0, '\\xe9 0\n\\xe9 1\n\\xe9 2\n')


@pytest.mark.slow
@pytest.mark.parametrize('where', ['>/dev/full 2>/dev/full', '>&- 2>&-', '2>&1 | true', '2>&1 | head -1'])
def test_a_training_outlives_its_output(where, tmp_path):
    done = shell(f'{experiment(f"train {SMALL} --workdir={tmp_path}")} {where}')
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} >= OF_A_RUN


@pytest.fixture(scope='module')
def in_an_odd_place(tmp_path_factory) -> tuple[pathlib.Path, subprocess.CompletedProcess, dict]:
    """A run in an ASCII locale, in a notebook's environment, with a matplotlibrc, and jax told to be strict."""
    folder = tmp_path_factory.mktemp('odd')
    (folder / 'matplotlibrc').write_text('text.usetex: True\nsavefig.dpi: 600\nfont.size: 40\n')
    variables = {
        'LC_ALL': 'C',
        'PYTHONCOERCECLOCALE': '0',
        'PYTHONUTF8': '0',
        'PYTHONIOENCODING': 'ascii',
        'MPLBACKEND': 'of_a_notebook',
        'MATPLOTLIBRC': str(folder),
        'JAX_NUMPY_RANK_PROMOTION': 'raise',
        'JAX_ENABLE_X64': '1',
    }
    flags = f'{SMALL} --config.twins=ste,self --config.range=channel_max_abs --workdir={folder}/run'
    done = shell(experiment(f'train {flags}'), **variables)
    return folder / 'run', done, variables


@pytest.mark.slow
def test_a_run_in_an_odd_place_is_whole(in_an_odd_place):
    workdir, done, _ = in_an_odd_place
    assert done.returncode == 0 and 'Traceback' not in done.stderr, done.stderr
    assert done.stdout.isascii() and '| reference | ' in done.stdout
    assert 'data:image/png' in (workdir / 'report.html').read_text(encoding='utf-8')
    said = json.loads((workdir / 'environment.json').read_text())
    assert said['jax_enable_x64'] and said['variables']['JAX_NUMPY_RANK_PROMOTION'] == 'raise'


@pytest.mark.slow
def test_a_report_looks_alike_everywhere(in_an_odd_place):
    workdir, _, _ = in_an_odd_place
    odd = {path.name: path.read_bytes() for path in workdir.glob('figures/*.png')}
    assert shell(experiment(f'report {workdir}')).returncode == 0
    assert odd and odd == {path.name: path.read_bytes() for path in workdir.glob('figures/*.png')}


@pytest.mark.slow
@pytest.mark.parametrize(
    'line', [f'explain {SMALL} --out={{}}/out', f'sweep {SMALL} --seeds=1 --out={{}}/out', 'report {}/run']
)
def test_the_other_commands_run_in_an_odd_place(line, in_an_odd_place, tmp_path):
    workdir, _, variables = in_an_odd_place
    (tmp_path / 'run').symlink_to(workdir)
    done = shell(experiment(line.format(tmp_path)), **variables)
    assert done.returncode == 0 and 'Traceback' not in done.stderr, done.stderr


def drawn() -> str:
    from experiments.results import figures

    figure = figures.empty(2, 1)
    figure.subplots().set_title('a title')
    return hashlib.sha256(figures.png(figure)).hexdigest()


def test_a_notebooks_backend_and_a_matplotlibrc_do_not_matter(tmp_path):
    (tmp_path / 'matplotlibrc').write_text('text.usetex: True\nsavefig.dpi: 600\nfont.size: 40\n')
    code = """
from experiments.command import run

def main(argv):
    from tests.test_command import drawn
    print(drawn())
    return 0

run(main)
"""
    odd = shell(python(code), MPLBACKEND='of_a_notebook', MATPLOTLIBRC=str(tmp_path))
    assert odd.returncode == 0, odd.stderr
    assert odd.stdout == f'{drawn()}\n'


ABSENT = {  # what jax says, and what of it is told
    "Unable to initialize backend 'x': no such\nlibrary. (set JAX_PLATFORMS='' to ...)": (
        " (Unable to initialize backend 'x': no such library.)"
    ),
    '': '',
}


@pytest.mark.parametrize('said', ABSENT)
def test_devices_that_are_not_there_are_one_line(said, monkeypatch, capsys):
    def absent():
        raise RuntimeError(said)

    @command.told
    def main(argv):
        raise AssertionError

    monkeypatch.setenv('JAX_PLATFORMS', 'x')
    with pytest.raises(AssertionError):  # a bug of ours stays a traceback
        main([])
    monkeypatch.setattr(jax, 'local_devices', absent)
    assert main([]) == USERS_ERROR
    advice = '; unset the variable, or set it to cpu\n'
    assert capsys.readouterr().err == f'error: JAX_PLATFORMS=x: jax finds no such device here{ABSENT[said]}{advice}'


@pytest.mark.slow
@pytest.mark.parametrize('platform', ['cuda', 'tpu', 'nonsense'])
@pytest.mark.parametrize('line', [f'explain {SMALL} --out={{}}/out', f'train {SMALL} --workdir={{}}/out'])
def test_a_command_without_its_devices(line, platform, tmp_path):
    done = shell(experiment(line.format(tmp_path)), JAX_PLATFORMS=platform)
    if platform != 'nonsense' and done.returncode == 0:
        pytest.skip(f'this machine has {platform}')
    assert done.returncode == USERS_ERROR and done.stderr.count('\n') == 1, done.stderr
    assert f'JAX_PLATFORMS={platform}: ' in done.stderr and len(done.stderr) <= 301
    assert not (tmp_path / 'out').exists()


INTERRUPTED_IN = {
    'the command': 'signal.raise_signal(signal.SIGINT)',
    'an import': 'import interrupting',
    'a library that tells it otherwise': """
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise RuntimeError('INTERNAL: interrupted')""",
    'a destructor': """
    class Swallowing:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)
    Swallowing()""",
    'a library that hears nothing': """
    for _ in range(2):
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            pass""",
}


@pytest.mark.parametrize('where', INTERRUPTED_IN)
def test_ctrl_c_is_an_exit_code_and_nothing_else(where, tmp_path):
    raising = 'import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept BaseException:\n    pass\n'
    (tmp_path / 'interrupting.py').write_text(raising)
    code = f"""
import signal
from experiments.command import run

def main(argv):
    {INTERRUPTED_IN[where]}
    print('went on')

run(main)
"""
    done = shell(python(code), PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (command.INTERRUPTED, '', '')


COMMANDS = [
    f'train {SMALL} --workdir={{}}',
    f'explain {SMALL} --out={{}}',
    f'sweep {SMALL} --out={{}}',
    'report {}',
    'convert --from={0} --to=ste --out={0}/out',
]


@pytest.mark.slow
@pytest.mark.parametrize('line', COMMANDS)
@pytest.mark.parametrize('module', ['jax', 'numpy', 'flax.linen', 'optax'])
def test_ctrl_c_while_a_command_loads(line, module, tmp_path):
    """The signal comes in the import of a module, whenever that is."""
    (tmp_path / 'sitecustomize.py').write_text(f"""
import signal, sys

class Finder:
    def find_spec(name, *_):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder)
""")
    done = shell(experiment(line.format(tmp_path / 'out')), PYTHONPATH=str(tmp_path))
    assert done.returncode == command.INTERRUPTED and not done.stderr, done.stderr
    assert not (tmp_path / 'out').exists()


HOSTILE = 'family[/b][bold]$\\frac\x1b[31m:smile:\x07'


def test_a_string_of_a_user_is_no_markup_and_no_command(capsys):
    shown = terminal.table(['name', 'value'], [[HOSTILE, '[/b]']])
    terminal.say(HOSTILE)
    assert tell(UserError(HOSTILE)) == USERS_ERROR
    said = capsys.readouterr()
    for text in (shown, said.out, said.err):
        assert 'family[/b][bold]$\\frac\\x1b[31m:smile:\\x07' in text and '\x1b' not in text


def test_a_runs_table_fits_80_columns():
    metrics = dict.fromkeys(METRICS, 123456.12345)
    result = {'reference': metrics, 'twins': dict.fromkeys(('ste', 'a_twin_with_a_long_name[/b]'), metrics)}
    lines = summary.table(result).splitlines()
    assert max(map(len, lines)) <= 80
    assert '…' not in ''.join(lines)


def test_a_sweeps_table_fits_80_columns():
    names = ('my_files/somewhere/slopes.py:family[/b](x=1)', '$\\frac')
    rows = [
        {'estimator': name, 'learning_rate': '0.0125', 'seed': str(seed), 'steps': 10, 'verdict': 'No', 'twin': twin}
        | dict.fromkeys([*METRICS, 'reference_accuracy', 'reference_loss'], 0.123 + seed / 7)
        for name in names
        for seed in range(5)
        for twin in ('ste', 'naive_ste', 'jitter')
    ]
    lines = sweeps_report.terminal_table(rows).splitlines()
    assert max(map(len, lines)) <= 80
    first = ''.join(line.split('│')[1].strip() for line in lines if '│' in line)
    assert all(first.count(name) == 1 for name in names)  # whole, and once for all its twins
    assert sum('jitter' in line for line in lines) == 2


def test_what_changes_numbers_is_in_the_environment(monkeypatch):
    monkeypatch.setenv('JAX_DEFAULT_MATMUL_PRECISION', 'highest')
    monkeypatch.setenv('UNRELATED', '1')
    with jax.enable_x64(True):
        said = environment.describe([], jax.devices())
    assert said['jax_enable_x64'] is True
    assert said['variables']['JAX_DEFAULT_MATMUL_PRECISION'] == 'highest' and 'UNRELATED' not in said['variables']


@pytest.mark.slow
def test_a_notebook(tmp_path):
    """The quickstart's command in a real kernel, and its report shown inline."""
    import nbclient
    import nbformat

    line = f'{sys.executable} -m experiments.train --config=configs/quickstart.py --config.ladder=1'
    cells = (
        f'!{line} --config.max_steps=3 --workdir={tmp_path}/run',
        'import os; (_exit_code, os.environ["MPLBACKEND"])',
        f'from IPython.display import HTML\nHTML(filename="{tmp_path}/run/report.html")',
    )
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    kernel = {'kernel_name': 'python3', 'resources': {'metadata': {'path': str(ROOT)}}}
    nbclient.NotebookClient(notebook, timeout=PATIENCE_SECONDS, **kernel).execute()
    ran, ended, shown = (cell.outputs for cell in notebook.cells)
    printed = ''.join(output.get('text', '') for output in ran)
    assert ended[0]['data']['text/plain'] == "(0, 'module://matplotlib_inline.backend_inline')", printed
    assert f'Report: {tmp_path}/run/report.html' in printed and 'Traceback' not in printed
    page = shown[0]['data']['text/html']
    assert re.search('<img[^>]*data:image/png', page)
