"""How many CPU cores decode images as fast as an accelerator trains on them."""

import pathlib

from experiments.workdir.files import read_json

MEASURED = 'docs/results/benchmark.json'  # of a checkout, in which experiments/ lies; scripts.benchmark wrote it
_FIGURE = 'images-core-rate'
_TARGET = 2470  # images a second; what the input must keep up with, not what a chip has been measured to do
_HOW = '`python -m scripts.benchmark --only images --data_dir DIR` measures your host and data'


def in_words(path: pathlib.Path = pathlib.Path(__file__).parents[2] / MEASURED) -> str:
    """Returns how many images a second a core decodes, and how many cores that takes, as sentences.

    Args:
      path: of a file of figures that `scripts.benchmark` wrote; where it lacks the figure, the sentence says so.

    Raises:
      UserError: the file holds no JSON object.
    """
    content = read_json(path) if path.exists() else {}
    figure = next((each for each in content.get('figures', ()) if each['name'] == _FIGURE), None)
    if figure is None:
        return f'how many images a second a core decodes has not been measured; {_HOW}'
    rate, size, jpegs = figure['value'], figure['details']['image_size'], figure['details']['jpegs']
    return (
        f'a core decodes about {float(f"{rate:.2g}"):,.0f} images a second (JPEGs of {jpegs["width"]:.0f}x'
        f'{jpegs["height"]:.0f} to crops of {size}x{size}, {content["machine"]["platform"]}, {MEASURED}). To feed '
        f'1,000 a second takes about {1000 / rate:.1f} cores; to feed {_TARGET:,}, which is a target for one run of '
        f'ResNet-50 on an A100 and not measured, {_TARGET / rate:.1f} a chip; for n runs in lockstep, an n-th. {_HOW}'
    )
