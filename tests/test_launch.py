"""The launch scripts against stand-ins: a gcloud whose workers are folders, an sbatch that records.

The stand-in gcloud copies and runs for real what the script wants copied and run, one folder a worker. Only
Python is a stand-in there: it makes a .venv of itself, records how it is called to train, and then does what
the variable FATE_<worker> says.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

SCRIPTS = pathlib.Path(__file__).parent.parent / 'scripts'
POD, SLURM = 'launch_tpu_pod.sh', 'launch_slurm.sh'
SLICE = ['pod', '--zone', 'us-central2-b']
RUN = ['--config=configs/mnist.py', '--workdir=/nfs/run']
AWKWARD = [
    '--config.estimator=dsq(k=6.5)',
    '--config.optimizer=sgd(momentum=0.9)',
    '--config.dataset=my  "own" data/it\'s.npz',
    '--config.init_from=$HOME/*;`exit` \\ & # ü',
    '--config.twins=',
]
SECONDS = 600  # longer than any test takes, and how long the next two run if nobody ends them
HANG = f'trap "echo > saved; exit 143" TERM; echo > hangs; for i in {{1..{10 * SECONDS}}}; do sleep 0.1; done'
DEAF = f'trap "" TERM; echo $$ > pid; echo > hangs; for i in {{1..{10 * SECONDS}}}; do sleep 0.1; done'

GCLOUD = r"""#!/usr/bin/env bash
printf '%s\0' "$@" >"$FAKE/calls/$(date +%s%N)-$$"
for argument; do
  case $argument in --worker=*) workers=${argument#*=} ;; --command=*) command=${argument#*=} ;; esac
done
[ "$4" != describe ] || { printf '%b\n' "$ENDPOINTS" && exit; }
[ "$workers" != all ] || workers=$(cd "$FAKE" && echo worker-* | sed 's/worker-//g')
for worker in $workers; do
  if [ "$4" = scp ]; then cp "$5" "$FAKE/worker-$worker/${6#*:}" && continue; fi
  cd "$FAKE/worker-$worker"
  HOME=$PWD TMPDIR=$PWD WORKER=$worker PATH=$FAKE/worker_bin:$PATH bash -c "$command" || code=$?
done
exit "${code:-0}"
"""

PYTHON = r"""#!/usr/bin/env bash
case "$1 $2" in
  '-c '*) exit ;;
  '-m venv') mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  '-m pip') printf '%s\n' "$*" >>pip && exit "${PIP:-0}" ;;
  '-m experiments.train')
    printf '%s\0' "$@" >>argv
    fate=FATE_${WORKER:-0}
    eval "${!fate:-echo trained on worker ${WORKER:-0}}"
    ;;
esac
"""

CURL = r"""#!/usr/bin/env bash
cat <<'END'
mkdir -p ~/.local/bin
printf '#!/bin/sh\n[ "$2" = install ] || echo "$FAKE/uv_python"\n' >~/.local/bin/uv
chmod +x ~/.local/bin/uv
END
"""

RECORD = r"""#!/usr/bin/env bash
printf '%s\0' "$@" >"$FAKE/${0##*/}"
"""
SBATCH = RECORD + """cat >"$FAKE/job.sh" && echo '4242;cluster'"""
SRUN = RECORD + """while [ "$1" != python ]; do shift; done && "$@" """


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def arguments_in(path):
    return path.read_text().split('\0')[:-1]


def once_hangs(*workers):
    """What a worker does first to go on only when these others hang."""
    return ''.join(
        f'until [ -e "$FAKE/worker-{each}/ste-in-disguise/hangs" ]; do sleep 0.1; done; ' for each in workers
    )


def wait_for(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Sandbox:
    """A repository with the launch scripts, a slice of three workers, and the stand-ins first on PATH."""

    def __init__(self, folder):
        self.fake, self.repository = folder / 'fake', folder / 'a repository'
        workers = [self.fake / f'worker-{worker}' for worker in range(3)]
        self.copies = [worker / 'ste-in-disguise' for worker in workers]
        for part in (self.fake / 'calls', *workers, self.repository / 'scripts'):
            part.mkdir(parents=True)
        for name, text in {'gcloud': GCLOUD, 'sbatch': SBATCH, 'srun': SRUN, 'scontrol': RECORD}.items():
            write_program(self.fake / 'bin' / name, text)
        write_program(self.fake / 'worker_bin' / 'python3.13', PYTHON)
        write_program(self.repository / '.venv' / 'bin' / 'python', PYTHON)
        # On this PATH is nothing but what the scripts take to refuse a command or to print one.
        bare = self.fake / 'bare'
        bare.mkdir()
        for name in ('bash', 'dirname', 'sed', 'date', 'seq', 'cat'):
            (bare / name).symlink_to(shutil.which(name))
        self.bare_path = str(bare)
        self.environment = {
            'PATH': f'{self.fake}/bin:{os.environ["PATH"]}',
            'FAKE': str(self.fake),
            'ENDPOINTS': '3\\t0',
            'HOME': str(folder),
        }
        for script in (POD, SLURM, 'setup.sh'):
            shutil.copy(SCRIPTS / script, self.repository / 'scripts')
        (self.repository / 'requirements.txt').write_text('# "jax[tpu]==0.0.1"\njax==9.8.7  # pinned\njaxtyping==1.0\n')
        (self.repository / 'requirements.lock').write_text('jax==9.8.7\n')
        (self.repository / '.gitignore').write_text('.venv/\nruns/\n')
        self.run('git', 'init', '--quiet')
        self.run('git', 'add', '.')
        self.run('git', '-c', 'user.name=a', '-c', 'user.email=a@b', 'commit', '--quiet', '--message=all')

    def run(self, *command):
        reading, writing = os.pipe()  # a standard input that does not end, as in a terminal
        with open(reading), open(writing, 'w'):
            subprocess.run(
                command, cwd=self.repository, env=self.environment, check=True, stdin=reading, capture_output=True
            )

    @contextlib.contextmanager
    def start(self, script, *arguments, **environment):
        with subprocess.Popen(
            ['bash', self.repository / 'scripts' / script, *arguments],
            env=self.environment | environment,
            cwd=self.fake,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def launch(self, script, *arguments, **environment):
        """The exit code, the output and the errors of a launch."""
        with self.start(script, *arguments, **environment) as process:
            output, errors = process.communicate(timeout=SECONDS)
        return process.returncode, output, errors

    def calls(self):
        return [arguments_in(path) for path in sorted((self.fake / 'calls').iterdir())]

    def trained(self):
        return [(copy / 'argv').exists() for copy in self.copies]


@pytest.fixture
def sandbox(tmp_path):
    return Sandbox(tmp_path)


def test_every_worker_gets_copy_install_and_start(sandbox):
    (sandbox.repository / 'requirements.txt').write_text('jax==9.8.7\n# edited\n')
    (sandbox.repository / 'my_file.py').write_text('added')
    sandbox.run('git', 'add', 'my_file.py')
    (sandbox.repository / 'untracked.py').write_text('not added')
    code, output, errors = sandbox.launch(POD, *SLICE, '--project=mine', '--', *RUN, *AWKWARD)
    assert (code, errors) == (0, '')
    assert 'trained on worker 0' in output and 'trained on worker 1' not in output
    for number, copy in enumerate(sandbox.copies):
        assert (copy / 'my_file.py').read_text() == 'added'
        assert (copy / 'requirements.txt').read_text().endswith('# edited\n')
        assert not (copy / 'untracked.py').exists()
        assert (copy / 'pip').read_text().splitlines()[-1] == '-m pip install --quiet jax[tpu]==9.8.7'
        assert arguments_in(copy / 'argv') == ['-m', 'experiments.train', *RUN, *AWKWARD, '--config.distributed=auto']
        log = sandbox.repository / 'runs' / 'launch' / 'pod' / f'worker-{number}.log'
        assert log.read_text() == f'trained on worker {number}\n'
    calls = sandbox.calls()
    assert all(call[:3] == ['compute', 'tpus', 'tpu-vm'] for call in calls)
    assert all(call[-4:] == ['--zone', 'us-central2-b', '--project', 'mine'] for call in calls)
    assert [call[3] for call in calls] == ['describe', 'scp', 'ssh', 'ssh', 'ssh', 'ssh']
    workers = [flag for call in calls for flag in call if flag.startswith('--worker=')]
    assert workers[:2] == ['--worker=all'] * 2
    assert sorted(workers[2:]) == ['--worker=0', '--worker=1', '--worker=2']


@pytest.mark.slow
def test_workers_with_several_networks_count_once(sandbox):
    assert sandbox.launch(POD, *SLICE, '--', *RUN, ENDPOINTS='4\\t2')[0] == 0
    assert sandbox.trained() == [True, True, False]


@pytest.mark.slow
def test_a_second_launch_starts_again(sandbox):
    for _ in range(2):
        assert sandbox.launch(POD, *SLICE, '--log_folder', sandbox.fake / 'logs', '--', *RUN)[0] == 0
    assert (sandbox.fake / 'logs' / 'worker-2.log').read_text() == 'trained on worker 2\n'


def test_a_failing_worker_is_named_and_ends_the_others(sandbox):
    fates = {'FATE_0': HANG, 'FATE_1': f'{once_hangs(0, 2)} echo out of memory >&2; exit 3', 'FATE_2': HANG}
    code, _, errors = sandbox.launch(POD, *SLICE, '--', *RUN, **fates)
    assert code == 3 and 'error: worker 1 failed with exit code 3' in errors
    assert 'worker-1.log ends with:\nout of memory\n' in errors
    assert [(copy / 'saved').exists() for copy in sandbox.copies] == [True, False, True]


@pytest.mark.slow
def test_a_worker_that_does_not_stop_is_killed(sandbox):
    fates = {'FATE_0': f'{once_hangs(1)} exit 1', 'FATE_1': DEAF}
    assert sandbox.launch(POD, *SLICE, '--', *RUN, GRACE_SECONDS='1', **fates)[0] == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int((sandbox.copies[1] / 'pid').read_text()), 0)


@pytest.fixture
def hangup():
    """SIGHUP does what it does by default, even where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures('hangup')
@pytest.mark.parametrize(
    ('number', 'code'),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, -1, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
)
def test_the_run_ends_with_its_launcher(sandbox, number, code):
    with sandbox.start(POD, *SLICE, '--', *RUN, FATE_0=HANG, FATE_1=HANG, FATE_2=HANG) as process:
        wait_for(lambda: all((copy / 'hangs').exists() for copy in sandbox.copies))
        process.send_signal(number)
        assert process.wait(timeout=SECONDS) == code
    wait_for(lambda: all((copy / 'saved').exists() for copy in sandbox.copies))


@pytest.mark.slow
def test_a_command_that_gcloud_repeats_trains_once(sandbox):
    sandbox.launch(POD, *SLICE, '--', *RUN)
    (sandbox.copies[1] / 'argv').unlink()
    again = next(call for call in sandbox.calls() if '--worker=1' in call)
    result = subprocess.run(['gcloud', *again], env=sandbox.environment, capture_output=True, text=True)
    assert result.returncode == 1 and 'connection to this worker broke' in result.stdout
    assert sandbox.trained() == [True, False, True]


@pytest.mark.slow
def test_a_failed_installation_starts_nothing(sandbox):
    assert sandbox.launch(POD, *SLICE, '--', *RUN, PIP='1')[0] != 0
    assert not any(sandbox.trained())


@pytest.mark.slow
def test_a_worker_without_a_suitable_python_gets_one(sandbox):
    for name in ('python3.13', 'python3.12', 'python3.11', 'python3'):
        write_program(sandbox.fake / 'worker_bin' / name, '#!/bin/sh\nexit 1\n')
    write_program(sandbox.fake / 'worker_bin' / 'curl', CURL)
    write_program(sandbox.fake / 'uv_python', PYTHON)
    assert sandbox.launch(POD, *SLICE, '--', *RUN)[0] == 0
    assert all(sandbox.trained())


def test_a_dry_run_prints_commands_and_runs_none(sandbox):
    code, output, errors = sandbox.launch(POD, *SLICE, '--dry_run', '--', *RUN, *AWKWARD, PATH=sandbox.bare_path)
    assert (code, errors) == (0, '')
    *commands, last = output.splitlines()
    assert all(command.startswith('gcloud compute tpus tpu-vm ') for command in commands) and last.startswith('#')
    assert sandbox.calls() == [] and not (sandbox.repository / 'runs').exists()
    # What it printed works, pasted into a shell in which the archive lies.
    sandbox.run('git', 'archive', '--format=tar.gz', '--output=ste-in-disguise.tar.gz', 'HEAD')
    sandbox.run('bash', '-ec', output)
    assert arguments_in(sandbox.copies[0] / 'argv')[2:-1] == [*RUN, *AWKWARD]


def test_slurm_runs_one_task_a_node_with_the_arguments_intact(sandbox):
    flags = ['--nodes', '2', '--gpus_per_node=4', '--time=2:00:00', '--partition', 'gpu']
    code, output, errors = sandbox.launch(SLURM, *flags, '--', *RUN, *AWKWARD)
    assert (code, errors) == (0, '')
    log = f'{sandbox.repository}/runs/launch/slurm-4242.log'
    assert '4242' in output and log in output and pathlib.Path(log).parent.is_dir()
    options = arguments_in(sandbox.fake / 'sbatch')
    expected = {'--nodes=2', '--ntasks-per-node=1', '--gpus-per-node=4', '--time=2:00:00', '--partition=gpu'}
    expected |= {'--requeue', '--signal=TERM@120', f'--output={log.replace("4242", "%j")}'}
    assert expected <= set(options)
    assert run_job(sandbox, 'echo $JAX_LOCAL_DEVICE_IDS >devices') == 0
    assert '--ntasks-per-node=1' in arguments_in(sandbox.fake / 'srun')
    assert arguments_in(sandbox.repository / 'argv')[2:] == [*RUN, *AWKWARD, '--config.distributed=auto']
    # Left alone, JAX takes only the first GPU for the one process of a node.
    assert (sandbox.repository / 'devices').read_text() == '0,1,2,3\n'


def run_job(sandbox, fate):
    """The exit code of the job that was submitted."""
    variables = sandbox.environment | {'SLURM_JOB_ID': '4242', 'FATE_0': fate}
    return subprocess.run(['bash', sandbox.fake / 'job.sh'], cwd='/', env=variables, capture_output=True).returncode


@pytest.mark.parametrize(('code', 'queued_again'), [(0, False), (1, False), (2, False), (143, True)])
def test_a_slurm_job_that_was_stopped_is_queued_again(sandbox, code, queued_again):
    sandbox.launch(SLURM, '--', *RUN)
    assert run_job(sandbox, f'exit {code}') == code
    assert (sandbox.fake / 'scontrol').exists() == queued_again


def test_a_slurm_dry_run_prints_what_would_be_submitted(sandbox):
    flags = ['--nodes=2', '--gpus_per_node=4', '--cpus_per_node=8', '--', *RUN, *AWKWARD]
    code, output, errors = sandbox.launch(SLURM, '--dry_run', *flags, PATH=sandbox.bare_path)
    assert (code, errors) == (0, '')
    assert not (sandbox.repository / 'runs').exists()
    sandbox.run('bash', '-ec', output)
    printed = arguments_in(sandbox.fake / 'sbatch'), (sandbox.fake / 'job.sh').read_text()
    sandbox.launch(SLURM, *flags)
    assert printed == (arguments_in(sandbox.fake / 'sbatch'), (sandbox.fake / 'job.sh').read_text())


@pytest.mark.parametrize(
    ('script', 'arguments', 'said'),
    [
        (POD, ['--zone', 'z', '--', *RUN], 'NAME'),
        (POD, ['pod', '--', *RUN], '--zone ZONE'),
        (POD, ['pod', '--zone', '--', *RUN], '--zone needs a value'),
        (POD, ['pod', '--zone=z', *RUN], '--'),
        (POD, [*SLICE, '--zones=z', '--', *RUN], '--zones=z'),
        (POD, [*SLICE, '--'], '--config=FILE'),
        (POD, [*SLICE, '--', RUN[0]], '--workdir=DIR'),
        (POD, [*SLICE, '--', *RUN], 'no gcloud on PATH'),
        (SLURM, RUN, '--'),
        (SLURM, ['--nodes', 'two', '--', *RUN], 'whole number'),
        (SLURM, ['--time', '--', *RUN], '--time needs a value'),
        (SLURM, ['--', RUN[1]], '--config=FILE'),
        (SLURM, ['--', RUN[0]], '--workdir=DIR'),
        (SLURM, ['--', *RUN], 'no sbatch on PATH'),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(sandbox, script, arguments, said):
    refused(sandbox.launch(script, *arguments, PATH=sandbox.bare_path), said)


def refused(ended, said):
    code, output, errors = ended
    assert (code, output) == (2, '')
    assert errors.startswith('error: ') and errors.count('\n') == 1 and said in errors


def test_a_slice_that_gcloud_does_not_know_is_a_users_error(sandbox):
    refused(sandbox.launch(POD, *SLICE, '--', *RUN, ENDPOINTS=''), 'pod')


def test_slurm_without_a_venv_is_a_users_error(sandbox):
    shutil.rmtree(sandbox.repository / '.venv')
    refused(sandbox.launch(SLURM, '--', *RUN), '.venv')
