"""The benchmark counts what the hand counts, times in turn, and writes what it says it writes."""

import io
import itertools
import json
import pathlib
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.results import decoding
from scripts import benchmark
from scripts.benchmarks import images, memory
from scripts.measuring import names, pages, session, tracing
from scripts.measuring.figures import Figure, Record
from scripts.measuring.session import Session
from scripts.measuring.workloads import CONVNET, TWINS

WEIGHTS = 3 * 3 * 1 * 32 + 32 + 3 * 3 * 32 * 64 + 64 + 7 * 7 * 64 * 256 + 256 + 256 * 10 + 10
QUANTIZED = 3 * 3 * 1 * 32 + 3 * 3 * 32 * 64
BLOCKS, WIDTH = 19, 992  # that the quantized weights are tracked in: a few more than these
RUN = 4 * WEIGHTS + 4 * WEIGHTS + 4  # weights, momentum, the sum of losses
STEP_AND_RANGES = 4 + 2 * 4
MACHINE = {'devices': '1 x cpu', 'platform': 'p', 'cores': 2, 'python': '3', 'versions': {'jax': '0'}}
PAGE, RESULTS = pathlib.Path('docs/performance.md'), pathlib.Path('docs/results')


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')  # TensorFlow's own
@pytest.mark.parametrize('name', benchmark.BENCHMARKS)
def test_every_benchmark_runs_once(name):
    record = begun(None)
    benchmark.BENCHMARKS[name](Session(record, rounds=1, steps=2, tiny=True))
    found = record.added
    assert found or (name == 'growth-devices' and jax.local_device_count() == 1)
    assert all(each['name'].startswith(name) and min(each['samples']) >= 0 for each in found)


def begun(path: pathlib.Path | None, machine: dict = MACHINE) -> Record:
    record = Record(path)
    record.begin('command')
    record.on(machine, judged=True)
    return record


def test_bytes_of_a_pair_are_those_counted_by_hand():
    histories, lags, since = 2 * 19 * BLOCKS * WIDTH, 4 * BLOCKS * WIDTH, 4 * BLOCKS
    starts, lengths = 4 * QUANTIZED, 2 * (4 + 4)
    tracking = histories + lags + since + starts + lengths
    assert memory.count(memory.shapes(CONVNET)) == {
        'total': 2 * RUN + tracking + STEP_AND_RANGES,
        'runs': {'reference': RUN, 'ste': RUN},
        'tracking': tracking,
        'starts': starts,
        'quantized_weights': QUANTIZED,
    }
    assert memory.size(memory.shapes(CONVNET, (), tracking=False)) == RUN + STEP_AND_RANGES
    for twins in (('ste',), TWINS):  # the budget, whatever the twins
        without, start = memory.bytes_a_weight(memory.count(memory.shapes(CONVNET, twins)))
        assert 19 < without <= memory.BYTES_A_WEIGHT_AND_RUN and start == memory.BYTES_A_WEIGHT_AND_TWIN


def test_names_choose_what_begins_with_them():
    known = ['memory-convnet', 'convnet-pair', 'convnet-tracking', 'convnet-tracking-alone', 'command-help']
    assert names.chosen(None, known) == known
    assert names.chosen(['command-help', 'convnet-tracking'], known) == [*known[2:]]


def test_programs_run_in_turn_and_the_first_round_is_left_out(monkeypatch):
    ran, clock = [], iter([0, 9, 9, 10, 20, 23, 23, 25, 30, 31, 31, 33])
    monkeypatch.setattr(session.time, 'perf_counter', lambda: next(clock))
    assert session.ratios(lambda: ran.append('A'), lambda: ran.append('B'), 2) == [1.5, 0.5]
    assert ''.join(ran) == 'ABABAB'


def test_photographs_have_the_size_and_the_bytes_of_imagenets():
    files = [images.usual('name.JPEG', 0, 0, index) for index in range(4)]
    opened = [Image.open(io.BytesIO(file)) for file in files]
    assert {(image.format, image.mode, image.size) for image in opened} == {('JPEG', 'RGB', (500, 375))}
    assert 90_000 < np.mean([len(file) for file in files]) < 130_000 and len(set(files)) == 4
    assert images.usual('name.JPEG', 0, 0, 3) == files[3] != images.usual('name.JPEG', 0, 1, 3)


def test_rates_of_images_are_those_that_explain_reads(monkeypatch, tmp_path):
    def batches(*_):
        return itertools.repeat({'image': np.zeros((8, 2, 2, 3)), 'label': np.zeros(8)})

    clocks = {'perf_counter': itertools.count(), 'process_time': itertools.count(step=2)}  # a second, two of cores
    for clock, ticks in clocks.items():
        monkeypatch.setattr(images.time, clock, ticks.__next__)
    of_imagenet = types.SimpleNamespace(train=batches, steps_in_data=4, image_shape=(224, 224, 3))
    monkeypatch.setattr(images, 'ours', lambda *_: of_imagenet)
    monkeypatch.setattr(images, 'recipe', batches)
    monkeypatch.setattr(images, 'description', lambda _: {'width': 500.0, 'height': 375.0, 'bytes': 1e5})
    record = begun(tmp_path / 'figures.json')
    images.compare(Session(record, rounds=2, steps=1), 'images', '', batch=8, measured=3)
    found = {each['name']: each['samples'] for each in record.added}
    rates = {'images-rate': [24.0, 24.0], 'images-core-rate': [12.0, 12.0]}
    assert found == {'images': [1.0, 1.0], 'images-core': [1.0, 1.0], **rates}
    assert 'a core decodes about 12 images a second' in decoding.in_words(tmp_path / 'figures.json')


def test_a_profile_finds_the_categories():
    def step(weights, images):
        def loss(weights):
            with jax.named_scope('quantize'):
                rounded = jnp.sin(weights)
            return jnp.sum(jnp.tanh(images @ rounded) ** 2)

        gradients = jax.grad(loss)(weights)
        with jax.named_scope('optimizer'):
            weights = jax.lax.optimization_barrier(weights - gradients @ gradients)
        with jax.named_scope('tracking'):
            return weights + jnp.cumsum(weights, axis=0)

    weights, images = jnp.ones((256, 256)), jnp.ones((64, 256))
    compiled = jax.jit(step).lower(weights, images).compile()
    shares, slowest = tracing.summarised(lambda: jax.block_until_ready(compiled(weights, images)), compiled)
    expected = {'convolutions', 'gradients', 'elementwise', 'quantization', 'tracking', 'optimizer'}
    assert {each for each, share in shares.items() if share} - {'other'} == expected
    assert sum(shares.values()) == pytest.approx(1) and len(slowest) <= tracing.SLOWEST
    assert slowest[0]['share'] == max(each['share'] for each in slowest) and slowest[0]['milliseconds'] > 0


def test_a_product_without_a_name_is_a_gradient():
    found = tracing.instructions("""%fused (a: f32[2]) -> f32[2] {
  ROOT %inside = f32[2]{0} convolution(%a, %a), dim_labels=fb_io->bf
}
ENTRY %main (a: f32[2]) -> f32[2] {
  %fusion.1 = f32[2]{0} fusion(%a), kind=kCustom, calls=%fused, backend_config={}
  %call = (f32[2]{0}, u8[64]{0}) custom-call(%a), custom_call_target="__cudnn$convBackwardFilter"
  %copy = f32[2]{0} copy(%a)
  ROOT %add = f32[2]{0} add(%a, %a), metadata={op_name="jit(step)/optimizer/add" stack_frame_id=1}
}""")
    assert found['fusion.1'] == found['call'] == ('gradients', '')
    assert found['copy'] == ('other', '') and found['add'] == ('optimizer', 'jit(step)/optimizer/add')


def test_times_are_those_of_instructions_where_they_run():
    text = """planes { name: "%s"
      lines { events { metadata_id: 1 duration_ps: 1000000000 stats { metadata_id: 1 str_value: "dot" } }
              events { metadata_id: 1 duration_ps: 9000000000 } }
      lines { events { metadata_id: 1 duration_ps: 2000000000 stats { metadata_id: 1 str_value: "dot" } } }
      event_metadata { key: 1 value { id: 1 name: "kernel" } }
      stat_metadata { key: 1 value { id: 1 name: "hlo_op" } } }"""
    trace = tracing.ProfileData.from_text_proto(text % '/device:GPU:0')
    assert tracing.times(trace, '/device:') == {'dot': 3}
    with pytest.raises(RuntimeError, match='no instruction'):
        tracing.times(trace, '/host:')


def test_the_command_writes_the_documented_keys_and_the_table_alone(tmp_path, capsys):
    file, written = tmp_path / 'figures.json', tmp_path / 'page.md'
    argv = ['--only', 'command-help', '--rounds', '1', '--json', str(file), '--page', str(written)]
    written.write_text('a page without markers')
    assert benchmark.main(argv) == 2 and '<!-- table -->' in capsys.readouterr().err and not file.exists()
    written.write_text('before\n<!-- table -->\nold\n<!-- end of table -->\nafter')
    assert benchmark.main(argv) == 0
    content = json.loads(file.read_text())
    assert set(content['machine']) == {'python', 'platform', 'devices', 'versions', 'backend', 'cores'}
    (figure,) = content['figures']
    keys = 'name what value samples unit limit bound required kept details command load'
    assert set(figure) == set(keys.split()) and figure['value'] == figure['samples'][0] > 0
    text, shown = written.read_text(), capsys.readouterr().out
    assert text.startswith('before\n') and text.endswith('\nafter') and '| command-help |' in text and 'old' not in text
    assert 'command-help' in shown and max(map(len, shown.splitlines())) <= pages.WIDTH


def test_a_file_that_cannot_be_written_is_one_line(tmp_path, capsys):
    assert benchmark.main(['--only', 'command-help', '--json', str(tmp_path / 'nowhere' / 'figures.json')]) == 2
    error = capsys.readouterr().err
    assert '--json:' in error and error.count('\n') == 1


def test_figures_of_other_names_stay_while_the_machine_does(tmp_path):
    file = tmp_path / 'figures.json'
    for name, value in (('one', 1.0), ('two', 2.0), ('one', 3.0)):
        begun(file).add(Figure(name, '', [value]))
    assert {each['name']: each['value'] for each in begun(file).content['figures']} == {'one': 3.0, 'two': 2.0}
    assert begun(file, {**MACHINE, 'cores': 3}).content['figures'] == []


def test_the_table_has_every_figure_and_its_limit():
    record = begun(None)
    record.add(Figure('pair', 'a', [0.5, 0.7, 0.9], limit=1.05))
    record.add(Figure('odd', 'b', [2.0], 'GB', limit=3.0, bound='at least'))
    table = pages.of_benchmark(record.content)
    assert '| odd | b | 2 GB | 2 | 2 | at least 3 | **no** |' in table
    assert '| pair | a | 0.7 | 0.5 | 0.9 | at most 1.05 | yes |' in table


def test_the_page_quotes_the_figures():
    """Every decimal number and percentage of the text stands before the name of its figure, and is that figure."""
    values, text = {}, PAGE.read_text()
    for file in RESULTS.glob('benchmark*.json'):
        setting = file.stem.removeprefix('benchmark').removeprefix('-')
        for each in json.loads(file.read_text())['figures']:
            assert any(f'{each["name"]}-'.startswith(f'{name}-') for name in benchmark.BENCHMARKS), each['name']
            values[f'{setting}: {each["name"]}' if setting else each['name']] = each['value']
    written_by_hand = pages.filled(pages.filled(text, 'table', ''), 'accelerator', '')
    quoted = re.findall(r'(\d+\.\d+|\d+%)(?:\s+\(`([^`]*)`\))?', written_by_hand)
    for number, name in quoted:
        decimals = len(number.partition('.')[2])
        expected = f'{values[name]:.0%}' if number.endswith('%') else f'{values[name]:.{decimals}f}'
        assert number == expected, name
    assert quoted
    content = json.loads((RESULTS / 'benchmark.json').read_text())
    assert pages.filled(text, 'table', pages.of_benchmark(content)) == text
