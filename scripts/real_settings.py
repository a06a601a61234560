"""Writes how far published settings are from where Adam makes a slope vanish: kappa, and the slope change within it.

  python -m scripts.real_settings

The table goes to docs/results/real_settings/README.md and, without its assumptions, into README.md. None of these
settings has been trained here. kappa needs the quantizer's step size D, which such settings rarely state: where it is
not known it follows from a range R of normally distributed weights of standard deviation 0.02.
"""

import dataclasses
import math
import pathlib

from experiments.command import run, told
from experiments.results.pages import number
from experiments.setup.arguments import Parser
from experiments.workdir.files import write_text
from qat import estimators, optimizers
from qat.theory.small_parameters import SLOPE_CHANGE_WARNING, kappa, slope_change
from scripts.markdown import between, markers, table

README, PAGE = pathlib.Path('README.md'), pathlib.Path('docs/results/real_settings/README.md')
NAME = 'real settings'  # of the part of README.md
BEGIN, END = markers(NAME)
DEVIATION = 0.02  # of the weights of a transformer, as GPT-2 begins with
ABSMAX = 3 * DEVIATION  # about the largest of 256 normal weights
ABSMEAN = math.sqrt(2 / math.pi) * DEVIATION  # the mean of |w| of normal weights


@dataclasses.dataclass(frozen=True)
class Setting:
    """A published setting.

    Attributes:
      name: for people.
      source: where learning rate and optimizer are from.
      quantizer: its bits, or its name.
      R: the range.
      why_R: where the range is from.
      optimizer: as a call.
      learning_rate: at its peak.
      estimator: one that could be used there, as a call.
    """

    name: str
    source: str
    quantizer: int | str
    R: float
    why_R: str
    optimizer: str
    learning_rate: float
    estimator: str

    @property
    def step_size(self) -> float:
        """D."""
        return float(self._estimator.quantizer.step_size(self.R))

    @property
    def kappa(self) -> float:
        """Of its weights."""
        return kappa(optimizers.parse(self.optimizer), self.learning_rate, self.step_size)

    @property
    def slope_change(self) -> float:
        """How much ln s of the estimator can change within the memory."""
        return slope_change(self._estimator, self.kappa)

    @property
    def _estimator(self) -> estimators.Estimator:
        return estimators.parse(self.estimator, self.quantizer)


_LARGEST = f'assumed: {ABSMAX:g}, the largest of 256 weights of deviation {DEVIATION:g}'
SETTINGS = (
    Setting(
        name='int4 fine-tuning of an LLM',
        source='torchtune, `llama3/8B_qat_full.yaml`',
        quantizer=4,
        R=ABSMAX,
        why_R=_LARGEST,
        optimizer='adamw(b2=0.999)',
        learning_rate=2e-5,
        estimator='dsq(k=18)',
    ),
    Setting(
        name='StableQAT, 3 bits',
        source='arXiv 2601.19320, its `llama_1b` configs',
        quantizer=3,
        R=ABSMAX,
        why_R=_LARGEST,
        optimizer='adamw(b2=0.999)',
        learning_rate=1e-4,
        estimator='rdfs(A=0.21)',
    ),
    Setting(
        name='ternary LLM from scratch',
        source='BitNet b1.58, arXiv 2402.17764',
        quantizer='ternary',
        R=ABSMEAN,
        why_R=f'assumed: {ABSMEAN:.3g}, the mean absolute value of weights of deviation {DEVIATION:g}',
        optimizer='adamw(b2=0.95)',
        learning_rate=1.2e-3,
        estimator='soft_round(a=5)',
    ),
    Setting(
        name='2-bit CNN, default of its library',
        source='Brevitas, `bnn_pynq_train.py`',
        quantizer='ternary',
        R=1.0,
        why_R='known: a constant scale of 1, values -1, 0 and 1',
        optimizer='adam(b2=0.999)',
        learning_rate=0.02,
        estimator='soft_round(a=5)',
    ),
)


def summary() -> str:
    """Returns the table of README.md."""
    header = [
        'setting',
        'learning rate',
        '`b2`',
        'kappa',
        'slope change',
        f'learning rate for {SLOPE_CHANGE_WARNING:g}',
    ]
    return table(header, [_numbers(each) for each in SETTINGS])


def page() -> str:
    """Returns the content of the page."""
    header = ['setting', 'source', 'R', 'D', 'optimizer', 'estimator']
    how = [
        [each.name, each.source, each.why_R, f'{each.step_size:.2g}', f'`{each.optimizer}`', f'`{each.estimator}`']
        for each in SETTINGS
    ]
    return '\n\n'.join(
        [
            '# Real settings: how far from where Adam makes the estimator vanish',
            'kappa is how many quantizer steps `D` a weight can cross at most while the optimizer remembers, and the '
            'slope change is how much `ln s` of the estimator can change meanwhile ([theory](../../theory.md)). '
            'Computed, not trained: a large value does not say that STE and the estimator differ there, but that no '
            'theorem says that they do not.',
            summary(),
            f'The last column is the learning rate at which the slope change is {SLOPE_CHANGE_WARNING:g}, above which '
            'a run warns. Both bounds are for a weight that moves in one direction at the full learning '
            'rate; most go back and forth.',
            '## What is assumed',
            table(header, how),
            'Learning rate and `b2` are those of the source, or the defaults of its optimizer, and the estimators are '
            'examples of what could be used there: most of these settings use STE itself, of which the slope change '
            'is 0.',
            'Written by `python -m scripts.real_settings`.\n',
        ]
    )


def _numbers(setting: Setting) -> list[str]:
    b2 = dict(optimizers.parse(setting.optimizer).parameters)['b2']
    of_paper = f'{setting.slope_change:.3g} (`{setting.estimator}`)'
    small = f'{setting.learning_rate * SLOPE_CHANGE_WARNING / setting.slope_change:.1g}'
    return [setting.name, f'{setting.learning_rate:g}', number(b2), f'{setting.kappa:.2g}', of_paper, small]


@told
def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    Parser(description=__doc__).parse_args(argv)
    PAGE.parent.mkdir(exist_ok=True)
    write_text(PAGE, page())
    text = README.read_text(encoding='utf-8')
    write_text(README, between(text, NAME, summary(), README))
    return 0


if __name__ == '__main__':
    run(main)
