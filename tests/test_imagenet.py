"""The large experiment in small: a ResNet-50 pair on archives of ImageNet's layout, through the real command."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from experiments.workdir.files import read_json
from experiments.workdir.rows import read_rows
from tests.tiny_imagenet import make

pytestmark = pytest.mark.slow
COMMAND = [
    '--config=configs/imagenet_resnet50.py',
    '--config.image_size=64',
    '--config.batch_size=16',
    '--config.compute_dtype=float32',
    '--config.num_epochs=1',
    '--config.twins=ste',
    '--config.checkpoint_every_steps=1',
]


def train(devices: int, *argv) -> subprocess.Popen:
    environment = {**os.environ, 'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'}
    return subprocess.Popen([sys.executable, '-m', 'experiments.train', *argv], stderr=subprocess.PIPE, env=environment)


def finish(*processes: subprocess.Popen, code: int = 0) -> None:
    for process in processes:
        _, error = process.communicate(timeout=600)
        assert process.returncode == code, error.decode()[-2000:]


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory) -> str:
    directory = make(tmp_path_factory.mktemp('imagenet'), '--train=32', '--validation=16')
    return f'--config.data_dir={directory}'


def test_a_pair_trains_evaluates_checkpoints_and_resumes(data_dir, tmp_path):
    """Two steps at once, and one that is continued to two."""
    command = [*COMMAND, data_dir, f'--workdir={tmp_path}']
    finish(train(1, *command))
    rows, result = read_rows(tmp_path), read_json(tmp_path / 'summary.json')
    assert result['steps'] == 2 and result['config'] == 'imagenet_resnet50'
    assert all(np.isfinite(rows[-1][key]) for key in ('train/loss', 'eval/loss', 'ste/eval_loss'))
    assert 0 < result['twins']['ste']['weight_alignment_error'] < 1
    assert (
        len([key for key in rows[-1] if key.startswith('ste/') and key.endswith('conv2/weight_alignment_error')]) == 16
    )
    (tmp_path / 'summary.json').unlink()
    newest = tmp_path / 'checkpoints' / '2'
    newest.rename(tmp_path / 'set aside')
    rest = (tmp_path / 'metrics.jsonl').read_text()
    finish(train(1, *command))
    assert read_json(tmp_path / 'summary.json') == result
    assert (tmp_path / 'metrics.jsonl').read_text() == rest


def test_two_processes_give_the_losses_of_one(tmp_path):
    """Batch norm is synchronised over all devices, so five steps agree to 1e-4."""
    random = np.random.default_rng(0)
    arrays = {f'{split}_images': random.random((80, 32, 32, 3), np.float32) for split in ('train', 'validation')}
    arrays |= {f'{split}_labels': random.integers(0, 10, 80) for split in ('train', 'validation')}
    np.savez(tmp_path / 'data.npz', **arrays)
    command = [
        *COMMAND,
        f'--config.dataset={tmp_path / "data.npz"}',
        '--config.learning_rate=0.01',
        '--config.checkpoint_every_steps=9',
    ]
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{listener.getsockname()[1]}'
    two = [*command, f'--workdir={tmp_path / "two"}']
    finish(*[train(2, *two, f'--config.distributed={address},2,{index}') for index in (0, 1)])
    finish(train(4, *command, f'--workdir={tmp_path / "one"}'))
    one, two = (read_rows(tmp_path / name)[-1] for name in ('one', 'two'))
    for key in ('train/loss', 'ste/train_loss', 'eval/loss'):
        assert one[key] == pytest.approx(two[key], abs=1e-4), key
