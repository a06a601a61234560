"""The parts of the measuring, in the order in which they are worth having."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Part:
    """What one process measures.

    Attributes:
      name: of the part; a name on the command line also stands for all that begin with it.
      what: it measures, for people.
      seconds: that it takes on an accelerator, roughly, with the start of a process and all compiling: 30 s for five
        small runs, 60 s a run of ResNet-50. These are guesses; nothing has been measured on one. Where less is left,
        the part is left out. `resnet` counts its first two programs, and looks at the clock before the others.
      tiny_seconds: the same for --tiny on two cores.
      measures: (module, function, arguments): every one is tried, whatever comes of the others.
      deterministic: whether XLA is told to use deterministic operations.
      on_cpu: whether it is also of use at full size where jax finds only a CPU.
      needs_data: whether it is left out where MNIST is not at hand.
    """

    name: str
    what: str
    seconds: float
    tiny_seconds: float
    measures: tuple[tuple[str, str, dict], ...]
    deterministic: bool = False
    on_cpu: bool = False
    needs_data: bool = False


def _digits(name: str, what: str, deterministic: bool, again: bool) -> Part:
    arguments = {'deterministic': deterministic, 'again': again}
    return Part(name, what, 30, 12, (('right', 'digits', arguments),), deterministic, on_cpu=True)


PARTS = (
    _digits('right-digits', 'five runs on digits, deterministic operations', True, False),
    _digits('right-default', 'five runs on digits, default flags', False, False),
    _digits('right-digits-again', 'the same again, deterministic operations', True, True),
    _digits('right-default-again', 'the same again, default flags', False, True),
    Part(
        'right-pairs',
        'a pair in bfloat16, on all devices, and through checkpoints',
        60,
        25,
        (('right', 'bfloat16', {}), ('right', 'devices', {}), ('right', 'checkpoint', {})),
        on_cpu=True,
    ),
    Part(
        'resnet',
        'the chip by itself, and ResNet-50 in bfloat16',
        150,
        30,
        (('rates', 'rates', {}), ('resnet', 'resnet', {})),
    ),
    Part('small', 'a small model by steps a dispatch and by seeds', 60, 20, (('small', 'small', {}),)),
    Part('paper', "the paper's small experiment", 75, 25, (('paper', 'paper', {}),), needs_data=True),
    Part('profile', 'where the time of the ResNet-50 pair goes', 120, 15, (('resnet', 'profiled', {}),)),
)
