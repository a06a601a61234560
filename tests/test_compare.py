"""A run's dump gives the summary of the run, samples give bounds, codes what codes can; the callbacks of the docs."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import compare
from experiments.comparison import following, matching, parts, report, series
from experiments.comparison.following import UNMAPPED, Rounding
from experiments.comparison.shared_ranges import SharedRange
from experiments.results.metrics import BY_CODE
from qat import Lockstep
from qat.grids import quantizer
from qat.lockstep.verdict import LIMIT
from tests.dumps import as_npz, as_safetensors, dumped
from tests.qat import oracle

ROOT = pathlib.Path(__file__).parent.parent

STEPS, LAYERS = 30, ('first/kernel', 'second/kernel')
ROUNDED = ['--bits=2', '--range=channel_max_abs', '--quantized=*kernel']
MAP = '--map=dsq(k=6.5)'


def loss(params, batch):
    return jnp.mean((jnp.tanh(batch @ params['first/kernel'] + params['first/bias']) @ params['second/kernel']) ** 2)


@pytest.fixture(scope='module')
def run():
    """By run, the parameters after each step of a perceptron; and the run's own summary of STE with the recipe."""
    random = np.random.default_rng(0)
    params = {
        'first/kernel': np.float32(random.uniform(-1, 1, (6, 40))),
        'first/bias': np.zeros(40, np.float32),
        'second/kernel': np.float32(random.uniform(-0.4, 0.4, (40, 3))),
    }
    options = {'quantized': LAYERS.__contains__, 'twins': ('ste',), 'ranges': 'channel_max_abs'}
    pair = Lockstep(loss, optax.sgd(0.1), 'dsq(k=6.5)', 2, **options)
    states, step = [pair.init(params)], jax.jit(pair.step)
    for _ in range(STEPS):
        states.append(step(states[-1], np.float32(random.normal(size=(16, 6))))[0])
    dumps = {name: [jax.device_get(state.runs[name].params) for state in states] for name in ('reference', 'ste')}
    return dumps, pair.summary(states[-1])['ste']


def compared(tmp_path, *arguments) -> dict:
    out = tmp_path / 'out'
    shutil.rmtree(out, ignore_errors=True)
    assert compare.main([*map(str, arguments), f'--out={out}']) == 0
    return json.loads((out / 'summary.json').read_text())


def test_the_dump_of_every_step_gives_the_summary_of_the_run(run, tmp_path, capsys):
    dumps, own = run
    a, b = (dumped(tmp_path / name, dumps[name]) for name in ('reference', 'ste'))
    found = compared(tmp_path, a, b, *ROUNDED, MAP)
    assert found['twins']['mapped'] == own
    assert own['change_point_sequence_agreement'] < 1 and own['changed_codes'] > 5  # or it would be too easy
    assert set(found['exact'].values()) == {True} and found['exact'].keys() == own.keys()
    assert found['twins']['unmapped']['weight_alignment_error'] > own['weight_alignment_error']
    page = (tmp_path / 'out/report.html').read_text()
    assert 'all metrics are <b>exact</b>' in page and 'lower bound' not in page
    assert 'weight_alignment_error' in capsys.readouterr().out


def test_every_tenth_step_gives_bounds(run, tmp_path):
    dumps, own = run
    a, b = (dumped(tmp_path / name, dumps[name], steps=range(0, STEPS + 1, 10)) for name in ('reference', 'ste'))
    found = compared(tmp_path, a, b, *ROUNDED, MAP)
    holds = {True: lambda seen, whole: seen == pytest.approx(whole, rel=1e-6), 'sampled': lambda *_: True}
    holds |= {'upper bound': lambda seen, whole: seen >= whole, 'lower bound': lambda seen, whole: seen <= whole}
    for key, known in found['exact'].items():
        assert holds[known](found['twins']['mapped'][key], own[key]), key
    assert {key for key, known in found['exact'].items() if known is True} == {
        *('weight_alignment_error_displacement', 'quantized_weight_agreement', 'changed_codes', 'changed_fraction'),
        *BY_CODE,
    }
    assert {found['exact'][key] for key in ('path_length', 'moved_fraction', 'flips_twin')} == {'lower bound'}
    assert {found['exact'][key] for key in ('weight_alignment_error', 'never_flipped_twin')} == {'upper bound'}
    page = (tmp_path / 'out/report.html').read_text()
    assert '<td class="note">upper bound</td>' in page and 'is unseen' in page


def codes_of(tmp_path, sequences, steps) -> dict:
    """The comparison of codes, sequences[series][weight][step], at these steps."""
    for name, of_series in zip('ab', sequences):
        snapshots = {step: {'layer': np.uint8(of_series)[:, None, step]} for step in steps}
        dumped(tmp_path / name, snapshots, steps=steps)
    return compared(tmp_path, tmp_path / 'a', tmp_path / 'b')


def test_codes_are_compared_by_the_definitions_without_distances(tmp_path):
    random = np.random.default_rng(1)
    sequences = random.integers(0, 3, (2, 50, 12)).cumsum(axis=2) % 4
    sequences[1, ::2] = sequences[0, ::2]
    found = codes_of(tmp_path, sequences, range(12))
    expected = {key: value for key, value in oracle.metrics(*sequences.tolist(), 4).items() if key not in BY_CODE}
    assert {key: found['twins'][UNMAPPED][key] for key in expected} == expected
    errors = {'weight_alignment_error', 'weight_alignment_error_displacement', 'path_length', *BY_CODE}
    assert {key for key, value in found['twins'][UNMAPPED].items() if value is None} == errors
    assert {key for key, known in found['exact'].items() if known is None} == errors
    assert found['exact']['changed_codes'] is True
    assert 'needs weights' in (tmp_path / 'out/report.html').read_text()
    assert found['twins'][UNMAPPED]['changed_codes'] == (sequences[1, :, 0] != sequences[1, :, -1]).sum()


def test_at_every_other_step_there_may_be_oscillations_that_were_none(tmp_path):
    """Why they are no lower bound: 0 1 2 1 0 1 2 ... never goes a b a b."""
    sequences = np.tile([0, 1, 2, 1], 4)[None, None, :13].repeat(2, axis=0)
    assert oracle.metrics(*sequences.tolist(), 3)['oscillations_twin'] == 0
    found = codes_of(tmp_path, sequences, range(0, 13, 2))
    assert found['twins'][UNMAPPED]['oscillations_twin'] > 0 and found['exact']['oscillations_twin'] == 'sampled'


def test_it_is_said_where_one_series_goes_on_and_how_to_read_an_error(run, tmp_path, capsys):
    dumps, _ = run
    a = dumped(tmp_path / 'reference', dumps['reference'], steps=range(0, STEPS + 1, 10))
    b = dumped(tmp_path / 'ste', dumps['ste'], steps=range(0, STEPS - 9, 10))
    found = compared(tmp_path, a, b, *ROUNDED, MAP)
    assert found['left_out'] == {'a': {'snapshots': 1, 'last_step': STEPS}, 'b': None} and found['steps'] == STEPS - 10
    page, out = (
        ' '.join(text.split()) for text in ((tmp_path / 'out/report.html').read_text(), capsys.readouterr().out)
    )
    assert f'<b>A</b> has 1 more snapshot(s), at steps that the other series has not, and goes to step {STEPS}' in page
    for text in (page, out):
        assert '1.01 times the learning rate' in text and f'up to {LIMIT:g} times' in text and 'M helps only' in text


def test_results_that_are_there_are_not_written_over(run, tmp_path, capsys):
    a = dumped(tmp_path / 'reference', run[0]['reference'], steps=(0, 1))
    compared(tmp_path, a, a, *ROUNDED)
    before = (tmp_path / 'out/summary.json').stat().st_mtime_ns
    assert compare.main([a, a, '--bits=3', *ROUNDED[1:], f'--out={tmp_path / "out"}']) == 2
    assert 'holds something already; give a new or an empty folder' in capsys.readouterr().err
    assert (tmp_path / 'out/summary.json').stat().st_mtime_ns == before


def test_biases_that_a_pattern_takes_are_named(run, tmp_path, capsys):
    a = dumped(tmp_path / 'reference', run[0]['reference'], steps=(0, 30))
    b = dumped(tmp_path / 'ste', run[0]['ste'], steps=(0, 30))
    compared(tmp_path, a, b, '--bits=2', '--range=1', '--quantized=first*')
    assert 'note: 1-axis weight included: first/bias' in capsys.readouterr().err


def test_parts_add_up_to_the_whole(run, tmp_path):
    a, b = (series.find(dumped(tmp_path / name, snapshots), None) for name, snapshots in run[0].items())
    pair, (layers, _) = series.together(a, b), matching.layers(a, b, ['*kernel'], [])
    rounding = Rounding(quantizer(2), SharedRange('max_abs'), None)
    whole, cut = (
        report.summarize(
            a, b, pair, layers, rounding, following.follow(pair, layers, rounding, [STEPS], largest)[STEPS]
        )
        for largest in (parts.GROUP, 128)
    )
    for key, value in whole['twins'][UNMAPPED].items():
        expected = pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
        assert cut['twins'][UNMAPPED][key] == expected, key


def blocks(language: str) -> list[str]:
    return re.findall(rf'```{language}\n(.*?)```', (ROOT / 'docs/compare.md').read_text(), re.DOTALL)


def test_the_callback_for_jax_saves_what_compare_finds_in_the_weights(run, tmp_path):
    dumps, _ = run
    (program,) = [block for block in blocks('python') if 'import jax' in block]
    names = {}
    exec(program, names)
    ranges = {name: np.abs(dumps['reference'][0][name]).max() for name in LAYERS}
    for name, snapshots in dumps.items():
        save = names['SaveCodes'](snapshots[0], tmp_path / f'codes_{name}', 2, every=5, ranges=ranges)
        for params in snapshots:
            save(params)
        dumped(tmp_path / name, snapshots, as_safetensors, range(0, STEPS + 1, 5))
    by_codes = compared(tmp_path, tmp_path / 'codes_reference', tmp_path / 'codes_ste')['twins'][UNMAPPED]
    arguments = [tmp_path / 'reference', tmp_path / 'ste', '--bits=2', '--range=max_abs']
    by_weights = compared(tmp_path, *arguments)['twins'][UNMAPPED]
    assert {key: by_weights[key] for key, value in by_codes.items() if value is not None} == {
        key: value for key, value in by_codes.items() if value is not None
    }
    assert by_codes['changed_codes'] > 0


def test_the_callback_for_pytorch_saves_codes(tmp_path):
    (program,) = [block for block in blocks('python') if 'import torch' in block]
    code = compile(program, 'docs/compare.md', 'exec')
    torch = pytest.importorskip('torch')
    names = {}
    exec(code, names)
    model = torch.nn.Linear(4, 3)
    save = names['SaveCodes'](model, tmp_path / 'codes', 2, every=2)
    for _ in range(3):
        save()
    with np.load(tmp_path / 'codes/2.npz', allow_pickle=False) as found:
        weight = model.weight.detach().numpy()
        expected = np.round((weight / np.abs(weight).max() + 1) / 2 * 3)
        np.testing.assert_array_equal(found['weight'], expected)
    assert sorted(path.name for path in (tmp_path / 'codes').iterdir()) == ['0.npz', '2.npz']


MEASURED = """
import re, sys
from experiments.comparison import following, matching, parts, series
from experiments.comparison.following import Rounding
from experiments.comparison.shared_ranges import SharedRange
from experiments.results.metrics import BY_CODE
from qat.grids import quantizer
found = series.find(sys.argv[1], None)
pair = series.together(found, found)
layers, _ = matching.layers(found, found, [], [])
following.follow(pair, layers, Rounding(quantizer(2), SharedRange('max_abs'), None), [list(pair.a)[-1]], 2**18)
print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024)
"""


@pytest.mark.slow
def test_memory_grows_neither_with_layers_nor_with_steps_nor_with_their_size(tmp_path):
    """In MiB: 2^18 weights are followed at once, of 2^20 in a small series and of 2^24 in a large one, or 40 steps."""

    def peak(name: str, layers: int, shape: tuple[int, ...], steps: int, write=as_safetensors) -> float:
        arrays = {f'{layer}': np.ones(shape, np.float32) for layer in range(layers)}
        where = dumped(tmp_path / name, [arrays] * steps, write, range(steps))
        command = [sys.executable, '-c', MEASURED, where]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return float(done.stdout)

    limit = peak('small', 4, (2**8, 2**10), 3) + 150  # repeated runs differ by 50; 2^24 at once would take thousands
    assert peak('layers', 64, (2**8, 2**10), 3) < limit
    assert peak('rows', 1, (2**14, 2**10), 3) < limit
    assert peak('steps', 4, (2**8, 2**10), 40) < limit
    for number, shape in enumerate(((2, 2**13, 2**10), (1, 1, 2**14, 2**10), (1, 2**24))):
        assert peak(f'long_rows_{number}', 1, shape, 3) < limit, shape
    assert peak('long_rows_npz', 1, (2, 2**13, 2**10), 3, as_npz) < limit
