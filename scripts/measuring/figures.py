"""Figures with their limits, and the JSON file of them, which is written anew after every one."""

import dataclasses
import math
import os
import pathlib
import statistics

from experiments.workdir.files import read_json, write_json

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
      name: unique in the file; it begins with the name of what measured it.
      what: it is, for people.
      samples: measured one after the other; their median counts. A figure that is counted has one.
      unit: of the samples, such as 'images/s'; '' for ratios.
      limit: it should keep; None where it is only reported.
      bound: how the limit is meant, of `_BOUNDS`.
      required: whether the limit is about right and wrong, not about speed.
      details: what it was computed from.

    Raises:
      ValueError: a sample that is not finite.
    """

    name: str
    what: str
    samples: list[float]
    unit: str = ''
    limit: float | None = None
    bound: str = 'at most'
    required: bool = False
    details: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not self.samples or not all(map(math.isfinite, self.samples)):
            raise ValueError(f'{self.name} is not finite: {self.samples}')

    def to_json(self, judged: bool) -> dict:
        """The figure's entry in the file; a limit of speed that is not judged leaves `kept` null."""
        value, kept = statistics.median(self.samples), None
        if self.limit is not None and (judged or self.required):
            kept = bool(_BOUNDS[self.bound](value, self.limit))
        bound = None if self.limit is None else self.bound
        return {**dataclasses.asdict(self), 'value': value, 'bound': bound, 'kept': kept}


class Record:
    """A file of figures, whole after every change. One process at a time writes it.

    Its keys: `machine`; `command` of the newest call, with what else `begin` is given; `figures`, see `Figure`, each
    with the `command` that measured it and the `load` of the machine's processors before; `failed` and `left_out` of
    the newest call, each a list of `name` and `why`.

    Args:
      path: of the file; None: nothing is written.

    Raises:
      UserError: another file of that name.
    """

    def __init__(self, path: pathlib.Path | None):
        self._path, self._load = path, os.getloadavg()[0]
        self.content = read_json(path) if path and path.exists() else {}
        self._judged, self._added = False, set()

    def begin(self, command: str, **about) -> None:
        """A call begins. Figures of an earlier one stay, unless one of the two is `tiny`."""
        kept = self.content if self.content.get('tiny') == about.get('tiny') else {}
        old = {'machine': kept.get('machine'), 'figures': kept.get('figures', [])}
        self.content = {'machine': None, 'command': command, **about, **old, 'failed': [], 'left_out': []}
        self._write()

    def on(self, machine: dict, judged: bool) -> None:
        """The machine, which a process that has devices knows; figures of another one are dropped.

        Args:
          machine: see `scripts.measuring.machine`.
          judged: whether limits of speed mean anything here.
        """
        if self.content['machine'] not in (None, machine):
            self.content['figures'] = []
        self.content['machine'], self._judged = machine, judged
        self._write()

    def add(self, figure: Figure) -> None:
        """Takes the place of the figure of its name."""
        new = {**figure.to_json(self._judged), 'command': self.content['command'], 'load': self._load}
        others = [other for other in self.content['figures'] if other['name'] != figure.name]
        self.content['figures'] = [*others, new]
        self._added.add(figure.name)
        self._write()

    @property
    def added(self) -> list[dict]:
        """The entries of the figures that this process has added."""
        return [figure for figure in self.content['figures'] if figure['name'] in self._added]

    def fail(self, name: str, why: str) -> None:
        """What was tried and came to nothing; the figure of its name, if there is one, is another call's."""
        self._tell('failed', name, why)

    def fits(self, name: str, seconds: float, left: float) -> bool:
        """Whether something of so many seconds fits into those that are left; what does not is left out by name."""
        if left < seconds:
            self.leave_out(name, f'takes about {seconds:.0f} s, and {max(left, 0):.0f} s were left')
        return left >= seconds

    def leave_out(self, name: str, why: str) -> None:
        """What was not tried."""
        self._tell('left_out', name, why)

    def used(self, seconds: float) -> None:
        """The time that the call has taken so far."""
        self.content['seconds'] = round(seconds, 1)
        self._write()

    def figure(self, name: str) -> dict | None:
        """The entry of a figure; None where there is none."""
        return next((figure for figure in self.content['figures'] if figure['name'] == name), None)

    def wrong(self) -> list[str]:
        """The names of what must be right and is not."""
        return [figure['name'] for figure in self.content['figures'] if figure['required'] and not figure['kept']]

    def _tell(self, where: str, name: str, why: str) -> None:
        others = [other for other in self.content[where] if other['name'] != name]
        self.content[where] = [*others, {'name': name, 'why': ' '.join(why.split())[:_LONGEST]}]
        self._write()

    def _write(self) -> None:
        if self._path:
            write_json(self._path, self.content)
