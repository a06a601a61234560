"""The file of figures, written anew after every one of them, and the clock that says what still fits."""

import dataclasses
import math
import pathlib
import statistics
import time

from experiments.workdir.files import read_json, write_json

FILE = 'accelerator.json'
_LONGEST = 200  # characters of a reason
_BOUNDS = {
    'at most': lambda value, limit: value <= limit,
    'at least': lambda value, limit: value >= limit,
    'exactly': lambda value, limit: value == limit,
}


@dataclasses.dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
      name: unique in the file.
      what: it is, for people.
      samples: measured one after the other, numbers or bools; their median counts.
      unit: of the samples, such as 'images/s'; '' for ratios.
      limit: it should keep; None where it is only reported.
      bound: how the limit is meant, of `_BOUNDS`.
      required: whether the command fails where the limit is not kept: it is about right and wrong, not about speed.
      details: what it was computed from.

    Raises:
      ValueError: a sample that is not finite.
    """

    name: str
    what: str
    samples: list
    unit: str = ''
    limit: float | None = None
    bound: str = 'at most'
    required: bool = False
    details: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not self.samples or not all(map(math.isfinite, self.samples)):
            raise ValueError(f'{self.name} is not finite: {self.samples}')

    def to_json(self, judged: bool) -> dict:
        """The figure's entry; a limit that is not judged leaves `kept` null."""
        value = self.samples[0] if len(self.samples) == 1 else statistics.median(self.samples)
        judged = self.limit is not None and (judged or self.required)
        return {
            'name': self.name,
            'what': self.what,
            'value': value,
            'samples': self.samples,
            'unit': self.unit,
            'limit': self.limit,
            'bound': self.bound if self.limit is not None else None,
            'required': self.required,
            'kept': bool(_BOUNDS[self.bound](value, self.limit)) if judged else None,
            'details': self.details,
        }


class Record:
    """The file of figures in a folder, whole after every change. One process at a time writes it.

    Its keys: `machine`; `command`, `minutes`, `tiny` and `seconds` of the newest call; `figures`, see `Figure`;
    `failed` and `left_out`, each a list of `name` and `why`.
    """

    def __init__(self, folder: pathlib.Path, clock=time.time):
        self.path, self._clock = folder / FILE, clock
        self.content = read_json(self.path) if self.path.exists() else {}
        self.judged = False  # whether limits of speed are: not on a CPU, and not at tiny sizes

    def begin(self, command: str, minutes: float, tiny: bool) -> None:
        """A call begins. Figures of an earlier one stay, unless one of the two is tiny."""
        kept = self.content if self.content.get('tiny') == tiny else {}
        about = {'command': command, 'minutes': minutes, 'tiny': tiny, 'seconds': 0.0}
        self.content = {
            'machine': kept.get('machine'),
            **about,
            'figures': kept.get('figures', []),
            'failed': [],
            'left_out': [],
        }
        write_json(self.path, self.content)

    def on(self, machine: dict) -> None:
        """The machine, which a process that has devices knows; figures of another one are dropped."""
        if self.content['machine'] not in (None, machine):
            self.content['figures'] = []
        self.content['machine'] = machine
        self.judged = machine['backend'] != 'cpu' and not self.content['tiny']
        write_json(self.path, self.content)

    def add(self, figure: Figure) -> None:
        """Takes the place of the figure of its name."""
        others = [other for other in self.content['figures'] if other['name'] != figure.name]
        self.content['figures'] = [*others, figure.to_json(self.judged)]
        write_json(self.path, self.content)

    def fail(self, name: str, why: str) -> None:
        """What was tried and came to nothing; the figure of its name, if there is one, is another call's."""
        self._tell('failed', name, why)

    def leave_out(self, name: str, why: str) -> None:
        """What was not tried."""
        self._tell('left_out', name, why)

    def used(self, seconds: float) -> None:
        """The time that the call has taken so far."""
        self.content['seconds'] = round(seconds, 1)
        write_json(self.path, self.content)

    def figure(self, name: str) -> dict | None:
        """The entry of a figure; None where there is none."""
        return next((figure for figure in self.content['figures'] if figure['name'] == name), None)

    def wrong(self) -> list[str]:
        """The names of what must be right and is not."""
        return [figure['name'] for figure in self.content['figures'] if figure['required'] and not figure['kept']]

    def _tell(self, where: str, name: str, why: str) -> None:
        others = [other for other in self.content[where] if other['name'] != name]
        self.content[where] = [*others, {'name': name, 'why': ' '.join(why.split())[:_LONGEST]}]
        write_json(self.path, self.content)


@dataclasses.dataclass
class Session:
    """What a measurement is given: where its figures go, how large it is to be, and how long it may take.

    Attributes:
      record: of figures.
      tiny: whether sizes are those for two cores of a CPU.
      until: when all must be over, in seconds of `clock`.
      data: an .npz of MNIST as arrays; None where there is none.
      clock: seconds.
    """

    record: Record
    tiny: bool
    until: float
    data: pathlib.Path | None = None
    clock: object = time.time

    def add(self, name: str, what: str, samples: list, unit: str = '', **options) -> None:
        """Records a figure, see `Figure`."""
        self.record.add(Figure(name, what, samples, unit, **options))

    def fits(self, name: str, seconds: float) -> bool:
        """Whether something of so many seconds still fits; what does not is left out by name."""
        left = self.until - self.clock()
        if left < seconds:
            self.record.leave_out(name, f'takes about {seconds:.0f} s, and {max(left, 0):.0f} s were left')
        return left >= seconds
