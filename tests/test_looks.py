"""What a person sees: figures and pages, whatever the names in them are."""

import io
import pathlib
import time

import numpy as np
import pytest
from matplotlib.text import Text

from experiments.results import codes, figures, pages
from experiments.results.explanation import theory, twins
from experiments.setup import command_line, settings
from experiments.sweeps import plan, pool, worker
from experiments.sweeps import report as of_sweep
from experiments.workdir.rows import newest_step, read_rows

RUN = pathlib.Path('docs/results/mnist/mnist-sgd')
MARKUP = ('$\\frac', '$\\frac$', '$x$', '[b]y[/b]', '<i>z</i>', '\\textbf{w}')
NAMES = ('ste', 'naive_ste', 'jitter')


def resolved(*flags: str) -> settings.Settings:
    return settings.resolve(command_line.parse(['--config=configs/digits.py', *flags])[0])


def drawn(figure) -> list[str]:
    """The texts of a figure once it is drawn."""
    assert figures.png(figure).startswith(b'\x89PNG')
    return [text.get_text() for text in figure.findobj(Text)]


def weights(layers: tuple[str, ...]) -> dict[str, np.ndarray]:
    made = np.random.default_rng(0).uniform(-1, 1, (5, len(layers), 50))
    runs = ('reference', *NAMES, 'self')
    return {f'{run}/{layer}': of for run, block in zip(runs, made) for layer, of in zip(layers, block)}


def test_kappa_is_explained_where_it_matters():
    assert 'peak learning rate / ((1 - b) D)' in theory(resolved('--config.optimizer=adam'), {})['kappa']
    of_layers = {'kappa': {'conv1': 0.01, 'conv2': 0.1}}
    said = theory(resolved('--config.optimizer=adam', '--config.estimator=dsq(k=6.5)'), of_layers)
    assert said['kappa'].startswith('conv1 0.01, conv2 0.1: ')
    assert said['Slope change'].startswith('conv1 0.084, conv2 0.84: ')
    assert 'kappa' not in theory(resolved(), {}) and 'kappa' not in theory(resolved('--config.optimizer=signsgd'), {})


def test_a_figure_that_is_drawn_once_has_the_bytes_of_one_that_matplotlib_saves():
    one, other = (figures.layers(read_rows(RUN), [*NAMES]) for _ in range(2))
    expected = io.BytesIO()
    other.savefig(expected, format='png', metadata={'Software': None})
    assert figures.png(one) == expected.getvalue()


def test_flips_and_dead_weights_are_shown_and_what_is_missing_is_a_dash():
    twin = {'flips_reference': 10, 'flips_twin': 12, 'never_flipped_reference': 0.5, 'never_flipped_twin': 0.25}
    shares = {'code_shares_reference': [0.25, 0.75], 'code_shares_twin': [1.0, 0.0]}
    assert codes.by_run({'ste': twin | shares, 'jitter': {}}) == {
        'reference': (10, 0.5, [0.25, 0.75]),
        'ste': (12, 0.25, [1.0, 0.0]),
        'jitter': (None, None, []),
    }
    assert codes.by_run({'ste': {**twin, 'code_shares_twin': [1 / 256] * 256}})['ste'].shares == []
    names = ('block0/conv1', 'head')
    last = {
        f'ste/{name}/never_flipped_{side}': value
        for name in names
        for side, value in zip(('reference', 'twin'), (0.5, 0.25))
    }
    found = codes.never_flipped_by_layer(last | {'ste/never_flipped_reference': 1.0}, ['ste', 'jitter'])
    assert found == {name: [0.5, 0.25, None] for name in names}
    assert codes.never_flipped_by_layer({f'ste/{n}/never_flipped_reference': 0 for n in range(99)}, ['ste']) == {}
    assert pages.share(0.1234) == '12.3%' and pages.share(None) == '–'


def test_what_the_recipe_does_not_use_is_not_told():
    assert {'alpha', 'M(w)'} <= theory(resolved(), {}).keys()
    assert not {'alpha', 'M(w)'} & theory(resolved('--config.optimizer=adam'), {}).keys()


def test_only_twins_of_the_run_are_described_and_equal_ones_named():
    assert list(twins(resolved('--config.twins=ste,jitter'))) == ['ste', 'jitter']
    both = '--config.twins=ste,naive_ste,jitter'
    assert 'same run' not in str(twins(resolved(both)))
    assert twins(resolved(both, '--config.optimizer=adam'))['naive_ste'] == 'here the same run as ste'


def test_symbols_are_for_formulas_and_not_for_names():
    assert pages.symbols('alpha = x^2 - y, kappa <= 1') == 'α = x² − y, κ ≤ 1'
    for name in ('alpha(x=1)', 'alpha.py:alpha(b=2)', 'my-kappa.py', 'alpha_kappa'):
        assert 'α' not in pages.symbols(name) or 'κ' not in pages.symbols(name)
    assert pages.symbols('alpha.py:alpha(b=2)') == 'alpha.py:alpha(b=2)'


def test_names_are_never_markup(tmp_path):
    rows = [{'step': 1, **{f'{twin}/{name}/weight_alignment_error': 0.1 for twin in NAMES for name in MARKUP}}]
    assert set(MARKUP) <= set(drawn(figures.layers(rows, [*NAMES])))
    made = [row for name in MARKUP for row in sweep_rows(estimator=name)]
    texts = ' '.join(drawn(of_sweep.figure([row for row in made if row['learning_rate'] == '0.02'])))
    assert all(name in texts for name in MARKUP)
    text = of_sweep.write(tmp_path, made, dict.fromkeys(MARKUP, '<script>'), 'command').read_text()
    assert '<i>z' not in text and '<script>' not in text and '&lt;i&gt;z&lt;/i&gt;' in text and '$\\frac' in text


def test_what_no_font_has_is_written_out(recwarn):
    names = {'a\tb': r'a\tb', 'a\x1b[31m\nb': r'a\x1b[31m\nb', '\u5c42': r'\u5c42', 'd\xe9j\xe0': 'd\xe9j\xe0'}
    rows = [{f'ste/{name}/weight_alignment_error': 0.1 for name in names}]
    assert set(names.values()) <= set(drawn(figures.layers(rows, ['ste']))) and not recwarn.list


@pytest.mark.parametrize('bits, levels', [(1, 2), (2, 4), (4, 16)])
def test_the_quantizer_shows_all_its_levels(bits, levels):
    figure = figures.estimator(resolved(f'--config.bits={bits}'))
    curve = figure.axes[2].lines[0]
    assert len(np.unique(curve.get_ydata())) == levels and f'all {levels} levels' in figure.axes[2].get_title()


def test_numbers_on_axes_are_plain_and_legends_hide_nothing():
    rows = read_rows(RUN)
    for figure in (figures.alignment(rows, [*NAMES]), figures.curves(rows, [*NAMES])):
        texts = drawn(figure)
        assert not any('mathdefault' in text or 'e-' in text for text in texts) and any('0.' in text for text in texts)
        for axes in figure.axes:
            inside, legend = axes.get_window_extent(), axes.get_legend().get_window_extent()
            assert legend.y0 >= inside.y1 - 1  # above the lines
            title = axes.title.get_window_extent()
            assert title.y0 >= legend.y1 - 3 and all(
                line.get_marker() == '.' for line in axes.lines if len(line.get_xdata()) > 2
            )


@pytest.mark.parametrize(
    'flags, titles',
    [
        ([], ['ste, raw', 'ste, through M', 'naive_ste, raw']),
        (['--config.optimizer=adam'], ['ste, raw']),
        (['--config.twins=jitter'], ['jitter, raw']),
        (['--config.optimizer=muon', '--config.twins=naive_ste,jitter'], ['naive_ste, raw']),
        (['--config.twins=map_ste,naive_ste,jitter'], ['map_ste, raw', 'map_ste, through M', 'naive_ste, raw']),
    ],
)
def test_the_scatter_has_the_panels_that_matter(flags, titles):
    made = resolved(*flags)
    given = weights(('conv1',))
    given |= {f'{twin}/conv1': given['ste/conv1'] for twin in made.twins}
    assert [axes.get_title() for axes in figures.scatter(given, made, [*made.twins]).axes] == titles


def sweep_rows(rates=('0.02', '0.01'), steps=(100, 200), **values) -> list[dict]:
    """The table of a sweep in which STE's error falls with the square of the learning rate, and jitter's with it."""
    found = []
    for (rate, count), seed in ((point, seed) for point in zip(rates, steps) for seed in '012'):
        of_twin = {'ste': 7 * float(rate) ** 2, 'jitter': (1 + int(seed)) * float(rate)}
        said = ['At this setting yes, ...', 'At this setting no, ...', 'No verdict on it'][int(seed)]
        for twin, error in of_twin.items():
            metrics = dict.fromkeys(of_sweep.METRICS, 0.5) | {'weight_alignment_error': error}
            shared = {**values, 'learning_rate': rate, 'seed': seed, 'steps': count, 'verdict': said}
            found.append({**shared, 'reference_accuracy': 1.0, 'reference_loss': 0.1, 'twin': twin, **metrics})
    return found


def test_the_report_of_a_sweep_begins_with_a_sentence_and_fits_the_orders(tmp_path):
    rows = sweep_rows(estimator='dsq') + sweep_rows(estimator='sine')
    text = of_sweep.write(tmp_path, rows, {}, 'command').read_text()
    first = '12 finished runs: 2 values of estimator, 2 values of learning_rate, 3 seeds. '
    assert f'<p><b>{first}Can STE take the place of the estimator? 4 yes, 4 no, 4 no verdict.</b></p>' in text
    assert text.index(first) < text.index('<img') and 'Yes,' not in text and 'At this setting yes' not in text
    assert text.count('<table') == text.count('<div class="scroll"><table')  # what is too wide scrolls
    for found in of_sweep.orders(rows):
        assert (found['twin'], found['rates'], found['same_path']) == ('ste', [0.01, 0.02], True)
        assert found['plain'].value == pytest.approx(2) and found['in_jitter'].value == pytest.approx(1)
    assert [found['setting'] for found in of_sweep.orders(rows)] == ['dsq', 'sine']
    assert of_sweep.verdicts(rows)['dsq', '0.02'] == {'yes': 1, 'no': 1, 'no verdict': 1}


def with_errors(ste, jitter, seeds='012') -> list[dict]:
    """The table of a sweep in which the errors go as these powers of the learning rate, times factors."""
    factors = {'ste': ste, 'jitter': jitter}
    rows = [row for row in sweep_rows(rates=('0.02', '0.01', '0.005'), steps=(1, 2, 4)) if row['seed'] in seeds]
    for row in rows:
        factor, power = factors[row['twin']]
        row['weight_alignment_error'] = factor * float(row['learning_rate']) ** power * (1 + 0.01 * int(row['seed']))
    return rows


@pytest.mark.parametrize(
    'reading, rows',
    [
        ('vanishes', with_errors((9, 1), (1, 0.5))),
        ('stays', with_errors((9, 0.1), (1, 0.5))),
        ('not settled', with_errors((9, 0.4), (1, 0.5))),
        ('within 2.5 times jitter already', with_errors((1, 0.1), (1, 0.1))),
        ('within 2.5 times jitter already', with_errors((0.15, 0.1), (1, 0.5), seeds='0')),
        ('not settled', [row for row in with_errors((9, 0.1), (1, 0.5), '0') if row['learning_rate'] != '0.005']),
    ],
)
def test_what_the_orders_of_a_sweep_say(reading, rows):
    (found,) = of_sweep.orders(rows)
    assert found['reading'] == reading


def test_the_report_of_a_sweep_has_the_reference_the_ratio_and_the_files(tmp_path):
    rows = sweep_rows(rates=['0.02'], steps=[100], estimator='dsq')
    ste, jitter = of_sweep.summarize(rows)
    assert (ste['reference'].value, jitter['in_jitter'].value) == (1, 1)
    assert ste['in_jitter'].value == pytest.approx(7 * 0.02 / 6 ** (1 / 3))  # the jitter twins' geometric mean
    text = of_sweep.write(tmp_path, rows, {}, 'command').read_text()
    assert '<td>reference</td><td></td>\n<td class="estimate">1 (n = 3)</td>' in text
    assert 'href="table.csv"' in text and 'href="points/"' in text
    assert [text.count(f'<td class="{answer}">1</td>') for answer in ('yes', 'no', 'no-verdict')] == [1, 1, 1]
    assert not any(of_sweep.METRICS[key].meaning.startswith('the same') for key in of_sweep.SHOWN)


def test_orders_where_the_grid_does_not_allow_them():
    assert of_sweep.orders(sweep_rows(rates=['0.02'], steps=[100])) == []
    assert of_sweep.orders([row for row in sweep_rows() if row['twin'] == 'ste']) == []
    assert not of_sweep.orders(sweep_rows(steps=(100, 100)))[0]['same_path']
    lost = [row | {'weight_alignment_error': None} if row['seed'] == '0' else row for row in sweep_rows()]
    assert of_sweep.orders(lost)[0]['plain'].n == 2
    strange = [row | {'verdict': 'edited by hand'} for row in sweep_rows()]
    assert of_sweep.verdicts(strange)['0.02',] == {'yes': 0, 'no': 0, 'no verdict': 3}


def test_the_bar_of_a_sweep_counts_the_steps_of_running_points(tmp_path, capsys):
    points = plan.points('configs/digits.py', [], ['max_steps=40|20'], 1)
    assert [point.steps for point in points] == [40, 20]
    (laddered,) = plan.points(
        'configs/digits.py', ['--config.ladder=3', '--config.ladder_seeds=2'], ['max_steps=10'], 1
    )
    assert laddered.steps == 2 * (10 + 20 + 40)
    running, failed = (tmp_path / point.name for point in points)
    for workdir in (running, running / 'ladder' / 'one', failed):
        workdir.mkdir(parents=True)
    (running / 'metrics.jsonl').write_text('{"step": 0, "x": 1}\n{"step": 15, "x": 1}\n{"st')
    (running / 'ladder' / 'one' / 'metrics.jsonl').write_text('{"step": 7}\n')
    (failed / worker.FAILURE).write_text('{}')
    assert (newest_step(running), newest_step(failed)) == (15, 0)

    class Stop:
        code = None

    begun = time.monotonic()
    ended = pool._Worker(lambda: time.monotonic() > begun, lambda: None, lambda: '')
    pool._attend([ended], dict(zip((running, failed), points)), Stop())
    shown = capsys.readouterr().err
    assert '42/60' in shown and 'step/s' in shown and '1 of 2 runs, 1 failed, 1 under way' in shown
