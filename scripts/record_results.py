"""Copies finished runs into a folder of committed results: settings, tables, verdicts and figures.

  python -m scripts.record_results --out docs/results/mnist --title 'MNIST' runs/mnist-sgd runs/mnist-adam

Every number comes from the runs' own files; nothing is typed.
"""

import pathlib
import shlex
import shutil
import sys

import jinja2

from configs import common
from experiments.errors import UserError, tell
from experiments.results.metrics import METRICS
from experiments.results.pages import number
from experiments.setup.arguments import Parser
from experiments.workdir.files import read_json

COPIED = ('summary.json', 'config.json', 'metrics.jsonl', 'timing.json', 'environment.json')
_PAGE = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
_PAGE.filters['number'] = number
_PAGE = _PAGE.from_string("""\
# {{ title }}

Written by `{{ command }}` from the files beside it; how to read the rows stands at the end.
{% if note %}

{{ note }}
{% endif %}
{% for run in runs %}

## {{ run.name }}: {{ run.config.estimator }} under {{ run.config.optimizer }}

{{ run.result.verdict }}

```
{{ run.environment.command }}
```

Settings that differ from `configs/common.py`: {% for key, value in run.changed.items() -%}
`{{ key }}={{ value }}`{{ ', ' if not loop.last }}{% endfor %}.
{{ '{:,}'.format(run.result.steps) }} steps, {{ run.timing.steps_per_second | number }} a second
({{ run.environment.devices }}); Python {{ run.environment.python }}, jax {{ run.environment.versions.jax }}.

| metric | reference |{% for twin in run.result.twins %} {{ twin }} |{% endfor %}

|---|---|{% for twin in run.result.twins %}---|{% endfor %}

{% for key in metrics %}
| {{ key }} | {{ run.result.reference[key] | number if key in run.result.reference else '' }} |
{%- for twin in run.result.twins.values() %} {{ twin[key] | number }} |{% endfor %}

{% endfor %}

{% for figure in run.figures %}
![{{ figure }}]({{ run.name }}/{{ figure }}.png)
{% endfor %}
{% endfor %}

## The rows

{% for key, metric in metrics.items() %}
- `{{ key }}`: {{ metric.meaning }}
{% endfor %}
""")


def record(workdirs: list[pathlib.Path], out: pathlib.Path, title: str, note: str, command: str) -> None:
    """Writes `out/README.md` and, by run, copies of its files and figures.

    Raises:
      UserError: a workdir that is not of a finished run.
    """
    runs = [_read(workdir) for workdir in workdirs]
    for workdir, run in zip(workdirs, runs):
        target = out / run['name']
        target.mkdir(parents=True, exist_ok=True)
        for name in COPIED:
            shutil.copy(workdir / name, target / name)
        for figure in run['figures']:
            shutil.copy(workdir / 'figures' / f'{figure}.png', target / f'{figure}.png')
    page = _PAGE.render(title=title, note=note, runs=runs, metrics=METRICS, command=command)
    (out / 'README.md').write_text(page)


def _read(workdir: pathlib.Path) -> dict:
    files = {name.partition('.')[0]: read_json(workdir / name) for name in COPIED if name.endswith('.json')}
    defaults = common.get_config().to_dict()
    return {
        'name': workdir.name,
        'result': files['summary'],
        'changed': {key: value for key, value in files['config'].items() if defaults[key] != value and key != 'name'},
        'figures': sorted(path.stem for path in (workdir / 'figures').glob('*.png')),
        **files,
    }


def main(argv: list[str]) -> int:
    parser = Parser(description=__doc__)
    parser.add_argument('workdirs', nargs='+', type=pathlib.Path, help='finished runs')
    parser.add_argument('--out', required=True, type=pathlib.Path)
    parser.add_argument('--title', required=True)
    parser.add_argument('--note', default='', help='a paragraph of what the runs say together')
    command = shlex.join(['python', '-m', 'scripts.record_results', *argv])
    try:
        arguments = parser.parse_args(argv)
        record(arguments.workdirs, arguments.out, arguments.title, arguments.note, command)
    except UserError as error:
        return tell(error)
    print(arguments.out / 'README.md')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
