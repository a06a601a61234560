"""Where the time of the ResNet-50 pair goes, by the categories of scripts/benchmarks/tracing.py."""

import numpy as np

from scripts.accelerating import models
from scripts.accelerating.record import Session
from scripts.accelerating.resnet import BATCH, out_of_memory
from scripts.benchmarks.tracing import CATEGORIES, compiled_for_traces, summarised

_STEPS = 3


def profile(session: Session) -> None:
    """A share a category, and the ten slowest kernels, beside the share of their sum."""
    measured = session.record.figure('resnet-pair')
    images = 4 if session.tiny else measured['details']['batch'] if measured else BATCH
    task = models.resnet(session.tiny)
    while True:
        batch = models.noise(images, task.image_shape, task.model.classes, np.uint8)
        try:
            stepping = models.quantized_step(task, batch, ('ste',), tracking=True, compile_=compiled_for_traces)
            stepping(2)
            break
        except Exception as error:
            if not out_of_memory(error) or images == 1:
                raise
            images //= 2
    shares, slowest = summarised(lambda: stepping(_STEPS), stepping.compiled, _STEPS)
    said = f'ResNet-50 pair, {task.image_shape[0]}x{task.image_shape[1]}, bfloat16, batch {images}'
    for category, explained in CATEGORIES.items():
        what = f'share of the time of all kernels: {explained}, {said}'
        session.add(f'profile-{category}', what, [shares[category]])
    what = f'milliseconds a step of the ten slowest kernels together, {said}'
    total = sum(kernel['milliseconds'] for kernel in slowest)
    session.add('profile-slowest', what, [total], 'ms', details={'slowest': slowest})
