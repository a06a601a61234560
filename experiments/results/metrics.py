"""The metrics of a twin at the end of a run: every name once, what it means, and where it is shown.

The numbers themselves are made by the task (in `experiments.data`, of every validation example or token) and in
`qat.trajectory` (of every quantized weight); summary.json has them all, tables and reports those with a name here.
"""

import dataclasses
from collections.abc import Container


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
      meaning: one line for people.
      heading: the heading of its column in the terminal's table; '' if it is not in that table.
      in_sweeps: whether the report of a sweep shows it.
      is_error: whether it is positive and spreads by factors, so that seeds are averaged as logarithms.
      of_all_tasks: whether every run has it, so that one that lacks it is older; others are shown where they are.
    """

    meaning: str
    heading: str = ''
    in_sweeps: bool = False
    is_error: bool = False
    of_all_tasks: bool = True


METRICS = {
    'accuracy': Metric('share of the validation predictions that are right', 'accuracy', in_sweeps=True),
    'loss': Metric('mean cross-entropy of the validation predictions, in nats', 'loss'),
    'perplexity': Metric('exp of the loss per token', 'perplexity', of_all_tasks=False),
    'weight_alignment_error': Metric(
        "distance to the reference (through the twin's M) over the length of the twin's path",
        'alignment\nerror',
        in_sweeps=True,
        is_error=True,
    ),
    'weight_alignment_error_displacement': Metric(
        'the same distance over how far the twin is from where it began', is_error=True
    ),
    'quantized_weight_agreement': Metric('share of the quantized weights with the same code', 'equal\ncodes'),
    'quantized_weight_agreement_moved': Metric(
        'share with the same code among the weights whose code ever changed, in either run',
        'of the\nmoved',
        in_sweeps=True,
    ),
    'moved_fraction': Metric('share of the weights whose code ever changed, in either run', in_sweeps=True),
    'changed_codes': Metric('weights of the twin whose code at the end is not that of its start'),
    'changed_fraction': Metric('the same as a share of the quantized weights'),
    'path_length': Metric('how far a weight of the twin went in all, in step sizes of the quantizer, in the mean'),
    'change_point_sequence_agreement': Metric('share of the weights that went through the same sequence of codes'),
    'change_point_sequence_agreement_moved': Metric('the same among the weights that moved'),
    'compressed_change_point_sequence_agreement': Metric('the same after collapsing oscillations a b a b to a b'),
    'average_change_point_error': Metric('steps between equal changes of code, over weights with the same sequence'),
    'oscillations_reference': Metric('oscillations collapsed in the reference'),
    'oscillations_twin': Metric('oscillations collapsed in the twin'),
    'flips_reference': Metric('changes of code in the reference, over all weights and steps'),
    'flips_twin': Metric('changes of code in the twin'),
    'never_flipped_reference': Metric('share of the weights whose code never changed in the reference: the dead ones'),
    'never_flipped_twin': Metric('the same in the twin'),
    'validation_accuracy_correlation': Metric('Pearson correlation of the validation accuracies over the run'),
    'validation_loss_correlation': Metric('Pearson correlation of the validation losses over the run'),
    'inference_agreement': Metric(
        'share of the validation predictions that are the same', 'equal\noutputs', in_sweeps=True
    ),
    'incorrect_inference_agreement': Metric('the same among those that both get wrong'),
}

BY_CODE = ('code_shares_reference', 'code_shares_twin')  # lists: the share of the weights at each code at the end


def shown(there: Container[str]) -> dict[str, Metric]:
    """Returns the metrics to show of runs with these names: all but those of other tasks."""
    return {name: metric for name, metric in METRICS.items() if metric.of_all_tasks or name in there}
