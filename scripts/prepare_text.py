"""Turns the text of Tiny Shakespeare into a prepared dataset of tensorflow-datasets (tfds).

This is for machines without internet; the text may be compressed with gzip:

  python -m scripts.prepare_text --file FILE [--data-dir DIR]

A text of your own needs no preparation: --config.dataset=text:FILE.
"""

from experiments.command import run, told
from experiments.data import prepared, text
from experiments.errors import UserError
from experiments.setup.arguments import Parser

NAME, VERSION = 'tiny_shakespeare', '1.0.0'
_CHARACTERS = 1_115_394


def split(content: str) -> dict[str, str]:
    """Returns the parts of a text by split, cut where tfds cuts it: after nine tenths, and half of the rest.

    Raises:
      UserError: it is too short for three parts.
    """
    first = int(len(content) * 0.9)
    second = first + int((len(content) - first) * 0.5)
    parts = dict(zip(text.OF_TFDS, (content[:first], content[first:second], content[second:])))
    if not all(parts.values()):
        raise UserError(f'--file: {len(content)} characters are too few. Give the whole text')
    return parts


@told
def main(argv: list[str] | None = None) -> int:
    """Prepares the dataset, unless it is there already, and returns the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument('--file', required=True, help='the text, UTF-8')
    parser.add_argument('--data-dir', default='', help='the directory of prepared datasets (the default of tfds)')
    arguments = parser.parse_args(argv)
    content = text.read(arguments.file).decode()
    parts = split(content)
    directory = prepared.tfds_directory(arguments.data_dir)
    if prepared.is_prepared(directory, NAME):
        print(f'{NAME} is already prepared in {directory}')
        return 0
    print(f'Preparing {NAME} from {arguments.file}', flush=True)
    if len(content) != _CHARACTERS:
        print(f'note: this text has {len(content):,} characters, Tiny Shakespeare has {_CHARACTERS:,}', flush=True)
    examples = {part: [(part, {'text': written})] for part, written in parts.items()}
    folder = prepared.store(directory, NAME, VERSION, examples, lambda features: {'text': features.Text()})
    counts = ', '.join(f'{len(part):,} {name}' for name, part in parts.items())
    print(f'{NAME}: {counts} characters in {folder}')
    return 0


if __name__ == '__main__':
    run(main)
