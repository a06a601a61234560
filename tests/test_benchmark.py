"""The benchmark counts what the hand counts, times in turn, and writes what it says it writes."""

import collections
import dataclasses
import itertools
import json
import pathlib
import re
import shutil
import types

import jax.numpy as jnp
import numpy as np
import pytest

from scripts import benchmark
from scripts.benchmarks import growth, images, memory, page, patches, profile, rows, steps
from scripts.benchmarks.profile_program import CATEGORIES, CompiledProgram
from scripts.benchmarks.rows import Effort, Limit, Row
from scripts.benchmarks.workloads import ALONE, CONVNET

WEIGHTS = 3 * 3 * 1 * 32 + 32 + 3 * 3 * 32 * 64 + 64 + 7 * 7 * 64 * 256 + 256 + 256 * 10 + 10
QUANTIZED = 3 * 3 * 1 * 32 + 3 * 3 * 32 * 64
RUN = 4 * WEIGHTS + 4 * WEIGHTS + 4  # weights, momentum, the sum of losses
STEP_AND_RANGES = 4 + 2 * 4
RESULTS = pathlib.Path('docs/results')
SMALL = dataclasses.replace(CONVNET, overrides={'batch_size': 8}, image_shape=(8, 8, 1))
COMPILED = """HloModule jit_step, is_scheduled=true

FileNames
1 "/project/experiments/training/runs.py"
2 "/project/qat/layers.py"
3 "/project/qat/lockstep/tracking.py"
4 "/project/qat/quantizers.py"
5 "/packages/optax/transforms/_adding.py"

FunctionNames
1 "Lockstep.step"

FileLocations
1 {file_name_id=1 function_name_id=1 line=1 end_line=1 column=1 end_column=9}
2 {file_name_id=2 function_name_id=1 line=1 end_line=1 column=1 end_column=9}
3 {file_name_id=3 function_name_id=1 line=1 end_line=1 column=1 end_column=9}
4 {file_name_id=4 function_name_id=1 line=1 end_line=1 column=1 end_column=9}
5 {file_name_id=5 function_name_id=1 line=1 end_line=1 column=1 end_column=9}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=3 parent_frame_id=2}
4 {file_location_id=4 parent_frame_id=4}
5 {file_location_id=5 parent_frame_id=2}


%fused_gradient (left: f32[2,4], right: f32[2,4]) -> f32[4,4] {
  %left = f32[2,4]{1,0} parameter(0)
  %right = f32[2,4]{1,0} parameter(1)
  ROOT %contraction = f32[4,4]{1,0} convolution(%left, %right), dim_labels=fb_io->bf
}

ENTRY %main (images: f32[2,4], weights: f32[4,4]) -> (f32[4,4], pred[4,4]) {
  %images = f32[2,4]{1,0} parameter(0), metadata={op_name="images"}
  %weights = f32[4,4]{1,0} parameter(1), metadata={op_name="weights"}
  %rounded = f32[4,4]{1,0} floor(%weights), metadata={op_name="jit(step)/jvp(Net)/conv/add" stack_frame_id=2}
  %forward = f32[2,4]{1,0} dot(%images, %rounded), metadata={op_name="jit(step)/jvp(Net)/conv/dot" stack_frame_id=1}
  %relu = f32[2,4]{1,0} abs(%forward), metadata={op_name="jit(step)/jvp(Net)/jit(relu)/max" stack_frame_id=1}
  %flipped = f32[4,4]{1,0} reverse(%rounded), metadata={op_name="jit(step)/transpose(jvp(Net))/conv_general_dilated"}
  %layout = f32[2,4]{0,1} copy(%images)
  %gradient = (f32[4,4]{1,0}, u8[64]{0}) custom-call(%layout, %relu), custom_call_target="__cudnn$convBackwardFilter"
  %element = f32[4,4]{1,0} get-tuple-element(%gradient), index=0
  %slope = f32[4,4]{1,0} abs(%element), metadata={op_name="jit(step)/transpose(jvp(Net))/conv/mul" stack_frame_id=2}
  %fused = f32[4,4]{1,0} fusion(%images, %relu), kind=kCustom, calls=%fused_gradient
  %both = f32[4,4]{1,0} add(%slope, %fused), metadata={op_name="jit(step)/transpose(jvp(Net))/add" stack_frame_id=1}
  %mean = f32[4,4]{1,0} all-reduce(%both), metadata={op_name="jit(step)/psum" stack_frame_id=1}
  %alone = f32[4,4]{1,0} fusion(%images, %relu), kind=kCustom, calls=%fused_gradient
  %update = f32[4,4]{1,0} add(%mean, %alone), metadata={op_name="jit(step)/add" stack_frame_id=5}
  %orthogonal = f32[4,4]{1,0} dot(%update, %update), metadata={op_name="jit(step)/dot_general" stack_frame_id=5}
  %codes = s32[4,4]{1,0} convert(%update), metadata={op_name="jit(step)/round" stack_frame_id=4}
  %kept = pred[4,4]{1,0} compare(%codes, %codes), metadata={op_name="jit(step)/eq" stack_frame_id=3}
  ROOT %results = (f32[4,4]{1,0}, pred[4,4]{1,0}) tuple(%update, %kept)
}
"""
TRACE = """planes {
  name: "/host:CPU"
  lines { events { metadata_id: 1 duration_ps: 7000000000 stats { metadata_id: 1 str_value: "forward" } } }
  event_metadata { key: 1 value { id: 1 name: "launch" } }
  stat_metadata { key: 1 value { id: 1 name: "hlo_op" } }
}
planes {
  name: "/device:GPU:0"
  lines {
    events { metadata_id: 1 duration_ps: 1000000000 stats { metadata_id: 1 str_value: "forward" } }
    events { metadata_id: 1 duration_ps: 4000000000 }
  }
  lines {
    events { metadata_id: 1 duration_ps: 2000000000 stats { metadata_id: 1 str_value: "forward" } }
    events { metadata_id: 1 duration_ps: 500000000 stats { metadata_id: 1 str_value: "codes" } }
  }
  event_metadata { key: 1 value { id: 1 name: "kernel" } }
  stat_metadata { key: 1 value { id: 1 name: "hlo_op" } }
}"""


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


@pytest.mark.parametrize('first_parent', [1, 0])  # compilers write 'no parent' in two ways
def test_instructions_are_known_by_where_they_come_from(first_parent):
    def parent(found):
        return f'parent_frame_id={int(found[1]) - 1 + first_parent}'

    program = CompiledProgram(re.sub(r'parent_frame_id=(\d+)', parent, COMPILED))
    expected = {
        'forward': 'convolutions',
        **dict.fromkeys(('flipped', 'layout', 'gradient', 'fused', 'alone'), 'gradients'),
        **dict.fromkeys(('relu', 'both'), 'elementwise'),
        **dict.fromkeys(('rounded', 'slope'), 'quantization'),
        **dict.fromkeys(('codes', 'kept'), 'tracking'),
        **dict.fromkeys(('update', 'orthogonal'), 'optimizer'),
        **dict.fromkeys(('mean', 'results', 'of another program'), 'other'),
    }
    assert {name: program.category(name) for name in expected} == expected
    assert set(expected.values()) == set(CATEGORIES)
    assert program.op_name('gradient') == 'jit(step)/transpose(jvp(Net))/conv/mul'


def test_bytes_accessed_are_those_counted_by_hand():
    program = CompiledProgram(COMPILED)
    expected = {'forward': 4 * (8 + 16 + 8), 'gradient': 4 * (8 + 8 + 16) + 64, 'kept': 4 * (16 + 16) + 16}
    assert {name: program.bytes_accessed([name]) for name in expected} == expected
    assert program.bytes_accessed([*expected, 'of another program']) == sum(expected.values())


def test_times_are_those_of_instructions_where_they_run():
    trace = profile.ProfileData.from_text_proto(TRACE)
    assert profile.times(trace, '/host:') == {'forward': 7}
    assert profile.times(trace, '/device:') == {'forward': 3, 'codes': 0.5}
    with pytest.raises(RuntimeError, match='no instruction'):
        profile.times(profile.ProfileData.from_text_proto(TRACE.replace('hlo_op', 'thread')), '/host:')


def test_shares_are_of_the_time_of_all_instructions(monkeypatch):
    monkeypatch.setattr(profile, 'LISTED', 1)
    traces = [{'forward': 6, 'codes': 1, 'kept': 1}, {'forward': 2, 'kept': 4, 'of another program': 2}]
    found = {row.name: row for row in profile.shares('p', '', CompiledProgram(COMPILED), traces, steps=2)}
    assert {name: row.samples for name, row in found.items() if any(row.samples)} == {
        'p-convolutions': [0.75, 0.25],
        'p-tracking': [0.25, 0.5],
        'p-other': [0, 0.25],
    }
    assert set(found) == {f'p-{category}' for category in CATEGORIES}
    longest = {'name': 'kept', 'op_name': 'jit(step)/eq', 'milliseconds': 2.5 / 2, 'share': 5 / 16}
    assert found['p-tracking'].details == {'instructions': 2, 'longest': [longest]}


def test_operations_of_a_pair_are_hardly_more_than_those_of_its_products_counted_by_hand():
    taps, pooled_taps = (3 * 8 - 2) ** 2, (3 * 4 - 2) ** 2  # of a 3x3 kernel that does not leave the image
    first, rest = taps * 1 * 32, pooled_taps * 32 * 64 + 2 * 2 * 64 * 256 + 256 * 10
    products = 2 * 8 * 2 * (2 * first + 3 * rest)  # a pair, a batch, multiply and add; no gradient of the images
    assert products < profile.operations(SMALL) < 1.2 * products


def test_the_json_has_the_documented_keys(tmp_path, capsys):
    file = tmp_path / 'figures.json'
    assert benchmark.main(['--only', 'command-help', '--rounds', '1', '--json', str(file)]) == 0
    content = json.loads(file.read_text())
    assert {'python', 'platform', 'devices', 'versions', 'cores'} <= set(content['machine'])
    (figure,) = content['figures']
    assert set(figure) == {
        *('name', 'what', 'median', 'limit', 'bound', 'kept', 'samples', 'details', 'command', 'load')
    }
    assert figure['name'] == 'command-help' and figure['median'] == figure['samples'][0] > 0
    assert 'command-help' in capsys.readouterr().out


def test_figures_of_other_names_stay_while_the_machine_does(tmp_path):
    file, machine = tmp_path / 'figures.json', {'devices': '1 x cpu', 'command': 'a', 'load': 0}
    for name, median in (('one', 1.0), ('two', 2.0), ('one', 3.0)):
        file.write_text(json.dumps(page.merged(file, machine, [Row(name, '', [median], None)])))
    found = json.loads(file.read_text())['figures']
    assert {figure['name']: figure['median'] for figure in found} == {'one': 3.0, 'two': 2.0}
    assert [figure['name'] for figure in page.merged(file, {**machine, 'devices': 'x'}, [])['figures']] == []
    assert len(page.merged(file, {**machine, 'load': 5}, [])['figures']) == 2


def test_the_page_has_every_figure_and_its_limit(tmp_path):
    rows_ = [Row('convnet-pair', 'a pair', [0.5, 0.7, 0.9], Limit(1.05)), Row('odd', 'one', [2.0], Limit(1.0))]
    file = tmp_path / 'figures.json'
    file.write_text(json.dumps(page.merged(file, {'devices': 'd', 'command': 'c', 'load': 0, **MACHINE}, rows_)))
    text = page.page(file)
    assert '| convnet-pair | a pair | 0.700 | 0.500 | 0.900 | at most 1.05 | yes |' in text
    assert '| odd | one | 2.000 | 2.000 | 2.000 | at most 1.0 | **no** |' in text


def test_the_page_does_without_what_was_not_measured(tmp_path):
    """A figure that a text speaks of may be missing, beside files of other settings that have it."""
    for file in RESULTS.glob('benchmark*.json'):
        shutil.copy(file, tmp_path)
    file = tmp_path / 'benchmark.json'
    content = json.loads(file.read_text())
    for each in benchmark.BENCHMARKS:
        its = [figure for figure in content['figures'] if f'{figure["name"]}-'.startswith(f'{each.name}-')]
        others = [figure for figure in content['figures'] if figure not in its]
        for figures in (its, others):
            file.write_text(json.dumps({**content, 'figures': figures}))
            assert page.page(file).count('\n| ') == 1 + len(figures)


MACHINE = {'platform': 'p', 'cores': 2, 'python': '3', 'versions': {'jax': '0'}}


def test_patches_give_the_convolution_and_its_gradient():
    generator = np.random.default_rng(0)
    inputs, cotangent = (jnp.asarray(generator.normal(size=(2, 6, 6, n)), jnp.float32) for n in (3, 4))
    expected = np.zeros((3, 3, 3, 4))
    padded = np.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for y, x in itertools.product(range(3), repeat=2):
        expected[y, x] = np.einsum('nhwi,nhwo->io', padded[:, y : y + 6, x : x + 6], cotangent)
    for function in (patches.gradient_by_patches, patches.gradient):
        np.testing.assert_allclose(function(inputs, cotangent), expected, rtol=1e-4, atol=1e-5)
    kernel = jnp.asarray(generator.normal(size=(3, 3, 3, 4)), jnp.float32)
    expected = sum(
        padded[:, y : y + 6, x : x + 6] @ np.float64(kernel[y, x]) for y, x in itertools.product(range(3), repeat=2)
    )
    for function in (patches.convolution_by_patches, patches.convolution):
        np.testing.assert_allclose(function(inputs, kernel), expected, rtol=1e-4, atol=1e-5)


def test_tracking_does_not_grow_with_steps(monkeypatch):
    monkeypatch.setattr(growth, 'WEIGHTS', (100, 1000))
    names = [row.name for rows_ in (growth.of_weights, growth.of_steps) for row in rows_(Effort(1, 1))]
    assert names == ['growth-weights-1e+03', 'growth-steps']


@pytest.mark.slow
@pytest.mark.parametrize('name', ['convnet-seeds', 'convnet-dispatch', 'convnet-pmap'])
def test_a_comparison_times_two_programs(name):
    (comparison,) = [each for each in steps.COMPARISONS if each.name == name]
    (row,) = dataclasses.replace(comparison, workload=SMALL).rows(Effort(rounds=1, steps=2))
    assert row.median > 0 and (row.kept is None) == (row.limit is None) == (name != 'convnet-pmap')


@pytest.mark.slow
def test_a_step_is_profiled():
    found = {row.name: row for row in profile.rows('p', SMALL, Effort(rounds=2, steps=2))}
    assert set(found) == {'p-matrix', 'p-bandwidth', *(f'p-{category}' for category in CATEGORIES)}
    assert all(row.limit is None and len(row.samples) == 2 and min(row.samples) > 0 for row in found.values())
    assert found['p-matrix'].median < 1
    by_category = [found[f'p-{category}'].samples for category in CATEGORIES]
    assert [sum(samples) for samples in zip(*by_category)] == pytest.approx([1, 1])


@pytest.mark.slow
def test_the_instructions_of_a_trace_are_those_that_the_compiler_counts():
    programs = SMALL.programs()
    compiled = profile.lowered(SMALL, programs).compile()
    traced = profile.traced(profile.stepping(SMALL, programs, compiled, steps=1))
    program = CompiledProgram(compiled.as_text())
    products = collections.Counter(program.category(name) for name in traced if program.instructions[name].is_product)
    assert products == {'convolutions': 2 * 4, 'gradients': 2 * (4 + 3)}  # no gradient of the images
    assert program.bytes_accessed(traced) == pytest.approx(compiled.cost_analysis()['bytes accessed'], rel=0.01)


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')  # TensorFlow's own
def test_both_image_streams_give_batches(monkeypatch):
    monkeypatch.setattr(images, 'BATCH', 4)
    monkeypatch.setattr(images, 'MEASURED_BATCHES', 2)
    clock, processor = images.rows(Effort(rounds=1, steps=1))
    assert clock.median > 0 and processor.median > 0
    assert set(clock.details['rounds'][0]) == {'ours', 'recipe'}
