"""What a run compiles, it compiles once: before its first step."""

import jax
import pytest

from experiments import train
from experiments.training import session, trainer


@pytest.fixture
def compiled():
    """Grows by one with every program that XLA makes."""
    found = []

    def listen(event, duration, **_):
        if event == '/jax/core/compile/backend_compile_duration':
            found.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def test_nothing_is_compiled_from_the_first_step_on(compiled, tmp_path, monkeypatch):
    advance, counts = trainer.Trainer.advance, []

    def counting(self, *arguments):
        counts.append(len(compiled))
        return advance(self, *arguments)

    monkeypatch.setattr(trainer.Trainer, 'advance', counting)
    monkeypatch.setattr(session, '_finish', lambda *_: counts.append(len(compiled)))
    monkeypatch.setattr(session, '_conclude', lambda *_: None)
    options = ['--config.num_epochs=2', '--config.eval_every_epochs=1', '--config.checkpoint_every_steps=7']
    assert train.main(['--config=configs/digits.py', *options, f'--workdir={tmp_path}']) == 0
    assert len(counts) == 31 and counts[0] > 0
    assert set(counts) == {counts[0]}
