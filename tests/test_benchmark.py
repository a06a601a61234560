"""The benchmark counts what the hand counts, times in turn, and writes what it says it writes."""

import dataclasses
import json
import types

import pytest

from scripts import benchmark
from scripts.benchmarks import images, memory, rows, steps
from scripts.benchmarks.rows import Effort, Limit, Row
from scripts.benchmarks.workloads import ALONE, CONVNET

WEIGHTS = 3 * 3 * 1 * 32 + 32 + 3 * 3 * 32 * 64 + 64 + 7 * 7 * 64 * 256 + 256 + 256 * 10 + 10
QUANTIZED = 3 * 3 * 1 * 32 + 3 * 3 * 32 * 64
RUN = 4 * WEIGHTS + 4 * WEIGHTS + 4  # weights, momentum, the sum of losses
STEP_AND_RANGES = 4 + 2 * 4


def convnet(**overrides):
    return memory.shapes(CONVNET, CONVNET.programs(**overrides))


def test_bytes_of_a_pair_are_those_counted_by_hand():
    histories, lags, starts, lengths = 2 * 5 * 4 * QUANTIZED, 4 * QUANTIZED, 4 * QUANTIZED, 2 * (4 + 4)
    counted = memory.count(convnet())
    assert counted['quantized_weights'] == QUANTIZED
    run = {'weights': 4 * WEIGHTS, 'batch_norm': 0, 'optimizer': 4 * WEIGHTS, 'loss': 4}
    assert counted['runs'] == {'reference': run, 'ste': run}
    assert counted['tracking'] == {
        'histories': dict.fromkeys(('reference', 'ste'), histories // 2),
        'lags': {'ste': lags},
        'paths': {'ste': starts + lengths},
    }
    assert counted['total'] == 2 * RUN + histories + lags + starts + lengths + STEP_AND_RANGES


def test_bytes_of_a_run_alone_are_those_counted_by_hand():
    assert memory.count(convnet(**ALONE))['total'] == RUN + STEP_AND_RANGES


def test_tracking_keeps_its_budget_whatever_the_twins():
    for twins in ('ste', 'ste,naive_ste,jitter,self'):
        without, start = memory.bytes_a_weight(convnet(twins=twins))
        assert 20 < without <= memory.BYTES_A_WEIGHT_AND_RUN and start == memory.BYTES_A_WEIGHT_AND_TWIN


def test_a_peak_counts_only_where_it_is_the_highest_of_the_process():
    programs, told = CONVNET.programs(**ALONE), []
    programs.devices = [types.SimpleNamespace(memory_stats=lambda: {'peak_bytes_in_use': told.pop(0)})]
    for before, after, peak in ((5, 9, 9), (9, 9, None)):
        told += [before, before, after]
        assert memory.peak(CONVNET, programs) == peak


def test_every_benchmark_has_its_own_name():
    names = [each.name for each in benchmark.BENCHMARKS]
    assert len(set(names)) == len(names)


def test_names_choose_what_begins_with_them():
    assert benchmark.chosen(None) == list(benchmark.BENCHMARKS)
    assert [each.name for each in benchmark.chosen(['command', 'memory-convnet'])] == [
        'memory-convnet',
        'command-first-step',
        'command-help',
    ]
    assert [each.name for each in benchmark.chosen(['convnet-tracking'])] == [
        'convnet-tracking',
        'convnet-tracking-alone',
    ]


def test_programs_run_in_turn_and_the_first_round_is_left_out(monkeypatch):
    ran, clock = [], iter([0, 9, 9, 10, 20, 23, 23, 25, 30, 31, 31, 33])
    monkeypatch.setattr(rows.time, 'perf_counter', lambda: next(clock))
    assert rows.ratios(lambda: ran.append('A'), lambda: ran.append('B'), 2) == [1.5, 0.5]
    assert ''.join(ran) == 'ABABAB'


def test_limits():
    assert Row('', '', [1, 1.1, 5], Limit(1.1)).kept and not Row('', '', [1.2], Limit(1.1)).kept
    assert Row('', '', [1.2], Limit(1, at_least=True)).kept and not Row('', '', [0.9], Limit(1, at_least=True)).kept


def test_the_json_has_the_documented_keys(tmp_path, capsys):
    file = tmp_path / 'figures.json'
    assert benchmark.main(['--only', 'command-help', '--rounds', '1', '--json', str(file)]) == 0
    content = json.loads(file.read_text())
    assert {'command', 'python', 'platform', 'devices', 'versions', 'cores', 'load'} <= set(content['machine'])
    (figure,) = content['figures']
    assert set(figure) == {'name', 'what', 'median', 'limit', 'bound', 'kept', 'samples', 'details'}
    assert figure['name'] == 'command-help' and figure['median'] == figure['samples'][0] > 0
    assert 'command-help' in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize('name', ['convnet-seeds', 'convnet-dispatch', 'convnet-pmap'])
def test_a_comparison_times_two_programs(name):
    small = dataclasses.replace(CONVNET, overrides={'batch_size': 8}, image_shape=(8, 8, 1))
    (comparison,) = [each for each in steps.COMPARISONS if each.name == name]
    (row,) = dataclasses.replace(comparison, workload=small).rows(Effort(rounds=1, steps=2))
    assert row.median > 0 and (row.kept is None) == (row.limit is None) == (name != 'convnet-pmap')


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')  # TensorFlow's own
def test_both_image_streams_give_batches(monkeypatch):
    monkeypatch.setattr(images, 'BATCH', 4)
    monkeypatch.setattr(images, 'MEASURED_BATCHES', 2)
    clock, processor = images.rows(Effort(rounds=1, steps=1))
    assert clock.median > 0 and processor.median > 0
    assert set(clock.details['rounds'][0]) == {'ours', 'recipe'}
