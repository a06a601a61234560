"""Runs of which every test needs one: unbroken, to compare with, and interrupted, to continue."""

import functools
import pathlib
import shutil
from collections.abc import Callable

import pytest

from tests.reliability.processes import INTERRUPTED_AT, finish, kill_after, start


@pytest.fixture(scope='session')
def unbroken(tmp_path_factory) -> Callable[[int], pathlib.Path]:
    """Number of devices -> the workdir of a small run that nothing has happened to; each is made once."""

    @functools.cache
    def make(devices: int) -> pathlib.Path:
        workdir = tmp_path_factory.mktemp(f'unbroken-{devices}')
        code, error = finish(start(workdir, devices=devices))
        assert code == 0, error
        return workdir

    return make


@pytest.fixture(scope='session')
def interrupted(tmp_path_factory) -> pathlib.Path:
    """The workdir of a small run that was killed after a checkpoint late in it."""
    workdir = tmp_path_factory.mktemp('interrupted')
    kill_after(workdir, INTERRUPTED_AT)
    return workdir


@pytest.fixture
def workdir(interrupted, tmp_path) -> pathlib.Path:
    """A copy of the interrupted run, to be damaged and continued."""
    return shutil.copytree(interrupted, tmp_path / 'run')
