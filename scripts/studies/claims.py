"""What is claimed of language models, who claims it, what theory predicts, and what the study of them measured."""

from collections.abc import Callable, Iterable

from experiments.results.pages import number, with_interval
from experiments.results.statistics import Estimate, interval
from experiments.sweeps.report import grouped
from qat.lockstep.verdict import LIMIT
from scripts.studies.language_lines import SAME, Line, lines, predicted

YES, NO, NOT_SHOWN = 'yes', 'no', 'not shown'
HEADER = ['claim', 'whose', 'predicted', 'measured', 'verdict']


def claims(rows: list[dict]) -> list[list[str]]:
    """Lines of cells, as `HEADER` says."""
    found = lines(rows)
    return [
        *_of_kappa([line for line in found if line.part == 'kappa']),
        *_of_muon(rows, found),
        *_of_gain([line for line in found if line.part == 'gain']),
        *_of_step_sizes(found),
        *_of_activations(found),
    ]


def within(estimates: Iterable[Estimate]) -> str:
    """Whether errors in units of jitter's count as the same: yes where all intervals lie below the verdict's limit."""
    estimates = list(estimates)
    if all(one.high <= LIMIT for one in estimates):
        return YES
    return NO if any(one.low > LIMIT for one in estimates) else NOT_SHOWN


def differs(loss: Estimate) -> str:
    """Whether a difference of losses is told from 0."""
    return NOT_SHOWN if loss.low <= 0 <= loss.high else YES


def _range(estimates: Iterable[Estimate]) -> str:
    ordered = sorted(estimates, key=lambda one: one.value)
    return ' to '.join(map(with_interval, dict.fromkeys((ordered[0], ordered[-1]))))


def _and_at_a_quarter(of_rates: Iterable[Estimate]) -> str:
    return ', at a quarter of the learning rate '.join(map(with_interval, of_rates))


def _of_kappa(found: list[Line]) -> list[list[str]]:
    calm = [line for line in found if predicted(line) == SAME]
    wild = [line for line in found if predicted(line) != SAME]
    apart = [line for line in wild if line.in_jitters.low > 1]
    told = [line for line in found if differs(line.loss) == YES]
    beyond = [line for line in told if abs(line.loss.value) > line.loss_of_reshuffle]
    largest = max(found, key=lambda line: abs(line.loss.value))
    return [
        [
            'STE trains like the estimator where the slope change is at most 0.4',
            'arXiv 2405.05171; this project’s warning',
            f'error at most {LIMIT:g} x `jitter`',
            f'{_range(line.in_jitters for line in calm)} x in {len(calm)} settings',
            within(line.in_jitters for line in calm),
        ],
        [
            'Under Adam the estimator is irrelevant, whatever kappa is',
            'often quoted from arXiv 2405.05171',
            'no',
            f'above 0.4: {_range(line.in_jitters for line in wild)} x `jitter`; farther than it in {len(apart)} of '
            f'{len(wild)}',
            NO if len(apart) > len(wild) / 2 else NOT_SHOWN,
        ],
        [
            'The final loss does not tell estimator and STE apart by more than another order of the data',
            'folklore',
            'nothing',
            f'told from 0 in {len(told)} of {len(found)}, in {len(beyond)} by more than `reshuffle` (rms); '
            f'largest {with_interval(largest.loss)} nats, where that is {number(largest.loss_of_reshuffle)}',
            NO if len(beyond) > 0.05 * len(found) + 1 else NOT_SHOWN,
        ],
    ]


def _of_muon(rows: list[dict], found: list[Line]) -> list[list[str]]:
    def at_both(part: str, twin: str) -> list[Line]:
        own = [line for line in found if line.part == part and line.twin == twin]
        return sorted(own, key=lambda line: -float(line.setting['learning_rate']))

    gradient, update = at_both('muon-gradient-early', 'naive_ste'), at_both('muon-update-early', 'ste')
    without = at_both('muon-update-early', 'naive_ste')[-1].error
    high, low = (line.error for line in update)
    flips, dead = (_behind_over_before(rows, key) for key in ('flips_reference', 'never_flipped_reference'))
    return [
        [
            'Under Muon the estimator matters: no STE with a known recipe follows it',
            'docs/theory.md',
            'error stays as the learning rate falls',
            f'error {_and_at_a_quarter([line.error for line in gradient])}; '
            f'{_and_at_a_quarter([line.in_jitters for line in gradient])} x `jitter`',
            {YES: NO, NO: YES}.get(within(line.in_jitters for line in gradient), NOT_SHOWN),
        ],
        [
            'The slope behind the orthogonalization (placement `update`) restores the recipe',
            'docs/theory.md',
            'error falls',
            f'error {_and_at_a_quarter([high, low])}; without the recipe {with_interval(without)}',
            YES if low.high < min(high.low, without.low) else NOT_SHOWN,
        ],
        [
            'Where the slope acts changes flips and dead weights',
            'asked of this project',
            'nothing',
            f'behind over before: flips {with_interval(flips)}, share of dead weights {with_interval(dead)}',
            YES if not flips.low <= 1 <= flips.high else NOT_SHOWN,
        ],
    ]


def _behind_over_before(rows: list[dict], key: str) -> Estimate:
    """A number of the reference under placement `update` over that under `gradient`, at equal rates and seeds."""
    of_part = grouped([row for row in rows if row['twin'] == 'naive_ste'], ['part', 'learning_rate', 'seed'])
    pairs = [
        (its[0][key], of_part['muon-gradient', rate, seed][0][key])
        for (part, rate, seed), its in of_part.items()
        if part == 'muon-update'
    ]
    return interval([behind / before for behind, before in pairs], log=True)


def _of_gain(found: list[Line]) -> list[list[str]]:
    def claim(optimizer: str, kappa: str, prediction: str) -> list[str]:
        (line,) = [line for line in found if line.setting['optimizer'] == optimizer]
        return [
            f'RDFS ends lower than STE at a kappa of about {kappa}',
            'StableQAT, arXiv 2601.19320',
            prediction,
            f'STE less RDFS {with_interval(line.loss)} nats; another order of the data '
            f'{number(line.loss_of_reshuffle)} (rms)',
            YES if line.loss.low > 0 else NO if line.loss.high < 0 else NOT_SHOWN,
        ]

    return [claim('adamw(b2=0.9)', '0.05', 'no'), claim('adamw(b2=0.999)', '5', 'may be')]


def _of_step_sizes(found: list[Line]) -> list[list[str]]:
    def falls(part: str, twin: str) -> tuple[Estimate, Estimate]:
        own = [line for line in found if line.part == part and line.twin == twin]
        high, low = sorted(own, key=lambda line: -float(line.setting['learning_rate']))
        return high.in_jitters, low.in_jitters

    said = []
    for name, part, twin, prediction, holds in (
        ('u = w/D and D (`learned_u`)', 'sgd-learned-u', 'ste', 'near `jitter`', YES),
        ('w and D (`learned`, LSQ)', 'sgd-learned', 'map_ste', 'far from `jitter`', NO),
    ):
        high, low = falls(part, twin)
        verdict = within([low])
        said.append(
            [
                f'SGD: with the recipe STE follows where {name} are trained',
                'docs/theory.md',
                prediction,
                f'{_and_at_a_quarter([high, low])} x `jitter`',
                verdict if verdict in (holds, NOT_SHOWN) else f'{verdict}, against the prediction',
            ]
        )
    adam = [line for line in found if line.part == 'adamw-learned']
    said.append(
        [
            'AdamW: STE follows in both forms with nothing adjusted',
            'docs/theory.md',
            f'error at most {LIMIT:g} x `jitter`',
            '; '.join(f'{line.setting["range_policy"]} {with_interval(line.in_jitters)}' for line in adam),
            within(line.in_jitters for line in adam),
        ]
    )
    return said


def _of_activations(found: list[Line]) -> list[list[str]]:
    plain = [line for line in found if line.part == 'activations']
    early = {line.twin: line for line in found if line.part == 'custom-activations-early'}
    with_recipe, on_activations = (early[twin].in_jitters for twin in ('ste', 'ste_activations'))

    def written(of: Callable[[Line], Estimate]) -> str:
        return '; '.join(f'{line.setting["activation_bits"]} bits: {with_interval(of(line))}' for line in plain)

    return [
        [
            'Activations of 8 or 4 bits (STE) leave the weights’ equivalence as it is (0: not quantized)',
            'docs/theory.md',
            'as without',
            f'error / `jitter`: {written(lambda line: line.in_jitters)}',
            within(line.in_jitters for line in plain),
        ],
        [
            'A custom estimator on activations matters: STE in its place goes elsewhere',
            'docs/theory.md',
            'differs',
            f'after ten steps {with_interval(on_activations)} x `jitter`; STE on the weights alone, with the recipe, '
            f'{with_interval(with_recipe)}',
            YES if on_activations.low > with_recipe.high else NOT_SHOWN,
        ],
    ]
