"""What calling an audited function again has told, in words."""

from qat.auditing.probing import Probed

_ONE_MOMENT = (
    'cannot be done: the samples are of one moment and one incoming gradient. Whether time, the sign or size of the '
    'gradient, or other weights matter cannot be known from them'
)
_TRIED = (
    'again, after other weights, with gradients of either sign, of mixed sizes and of 2^-20 and 2^20, and with other '
    'weights beside a weight, moved or in another order'
)
_PROBED = {
    'stochastic': 'rounds otherwise when it is called again',
    'slope_changes': 'has another slope when it is called again',
    'gradient_sign': "its slope depends on the incoming gradient's sign",
    'gradient_size': "its slope depends on the incoming gradient's size",
    'other_weights': 'what a weight is rounded to moves when other weights do',
    'gradient_of_scale': 'the gradient of what a weight is rounded to reaches other weights',
    'slope_of_others': 'its slope moves when other weights do',
    'remembers': 'rounds otherwise after a call with other weights',
    'progress': 'its slope depends on the progress',
    'rounding_in_time': 'what a weight is rounded to depends on the progress',
}


def probed_in_words(probed: Probed | None) -> str:
    """What depends on more than the weight itself, or what was tried in vain; None: only samples are there."""
    if probed is None:
        return _ONE_MOMENT
    found = [_PROBED[name] for name, value in vars(probed).items() if name in _PROBED and value]
    found += {True: ['its mean over calls is the weight'], False: ['its mean over calls is not the weight']}.get(
        probed.unbiased, []
    )
    time = '' if probed.progress is None else ', and 9 values of the progress'
    return '; '.join(found) or f'the same wherever it was tried: {_TRIED}{time}'
