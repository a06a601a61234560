"""What the instructions of a compiled program are there for, told from its text.

The compiler writes beside an instruction the primitive it was made from and the Python calls that led there, and the
device's trace names the instruction. What the compiler added itself (copies, changes of layout) has no such name, and
counts as what reads it.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable

CATEGORIES = {
    'convolutions': 'convolutions and dense layers, forward',
    'gradients': 'gradients of convolutions and dense layers',
    'elementwise': 'batch norm, activations, pooling and loss, forward and backward',
    'quantization': 'quantization, and the slope of the estimator',
    'tracking': 'tracking',
    'optimizer': 'optimizer',
    'other': 'anything else',
}
_PRODUCT = re.compile(r'convolution|conv_general_dilated|dot|\$conv|gemm|matmul')  # opcodes, custom calls, primitives
_TRACKING = re.compile(r'experiments/tracking\.py')
_QUANTIZATION = re.compile(r'qat/(layers|quantizers|estimators|slopes)\.py')
_OPTIMIZER = re.compile(r'/optax/|qat/optimizers\.py')

_COMPUTATION = re.compile(r'(?:ENTRY )?%(\S+) .*\{$')
_INSTRUCTION = re.compile(r'\s+(?:ROOT )?%(\S+) = (.*?) ([a-z][\w-]*)\((.*)$')  # name, shape, opcode, the rest
_ARRAY = re.compile(r'\b(?:pred|[a-z]+(\d+)\w*)\[([\d,]*)\]')  # bits, dimensions


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
      kinds: its opcode, the target of a custom call, and the opcodes of what is fused into it.
      operands: the names of what it reads.
      size: bytes of its result.
      op_name: the primitive: 'jit(step)/transpose(jvp(ConvNet))/conv1/conv_general_dilated'; '' where there is none.
      files: those of the Python calls that led to it, the outermost first.
    """

    kinds: frozenset[str]
    operands: tuple[str, ...]
    size: int
    op_name: str
    files: str

    @property
    def is_product(self) -> bool:
        """Whether it multiplies matrices, or is part of a primitive that does."""
        return any(map(_PRODUCT.search, (*self.kinds, self.op_name.rpartition('/')[2])))


class CompiledProgram:
    """The instructions of a compiled program, by name.

    Args:
      text: as `Compiled.as_text` gives it.
    """

    def __init__(self, text: str):
        self.instructions = _instructions(text)
        self._readers = collections.defaultdict(list)
        for name, instruction in self.instructions.items():
            for operand in instruction.operands:
                self._readers[operand].append(name)

    def op_name(self, name: str) -> str:
        """The primitive of an instruction, or else of the first that reads it; '' for names of other programs."""
        found = self.instructions[name].op_name if name in self.instructions else ''
        return found or next((self.op_name(reader) for reader in self._readers[name][:1]), '')

    def category(self, name: str) -> str:
        """The one of `CATEGORIES` that an instruction belongs to."""
        if name not in self.instructions:
            return 'other'
        instruction, op_name = self.instructions[name], self.op_name(name)
        if instruction.is_product and not _OPTIMIZER.search(instruction.files):
            # A kernel's gradient without a name may be read by the optimizer's instructions alone.
            return 'convolutions' if 'jvp(' in op_name and 'transpose(' not in op_name else 'gradients'
        if not instruction.op_name:
            return self.category(next(iter(self._readers[name]), ''))
        if _TRACKING.search(instruction.files):
            return 'tracking'
        if _QUANTIZATION.search(instruction.files):
            return 'quantization'
        if 'jvp(' in op_name:  # of what is differentiated
            return 'elementwise'
        return 'optimizer' if _OPTIMIZER.search(instruction.files) else 'other'

    def bytes_accessed(self, names: Iterable[str]) -> int:
        """What these instructions read and write, as if nothing were kept in a cache."""
        found = [self.instructions[name] for name in names if name in self.instructions]
        return sum(each.size + sum(self.instructions[name].size for name in each.operands) for each in found)


def _instructions(text: str) -> dict[str, Instruction]:
    computation, opcodes, lines, files = '', collections.defaultdict(set), {}, _files(text)
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            computation = header[1]
        elif parts := _INSTRUCTION.match(line):
            name, shape, opcode, rest = parts.groups()
            opcodes[computation].add(opcode)
            lines[name] = (shape, opcode, rest)

    def instruction(shape: str, opcode: str, rest: str) -> Instruction:
        fused, target = _first(r'calls=%([^\s,]+)', rest), _first(r'custom_call_target="([^"]*)"', rest)
        return Instruction(
            kinds=frozenset({opcode, target, *opcodes[fused]}),
            operands=tuple(re.findall(r'%([^\s,]+)', rest.split(')')[0])),
            size=_size(shape),
            op_name=_first(r'op_name="([^"]*)"', rest),
            files=files.get(_first(r'stack_frame_id=(\d+)', rest), ''),
        )

    return {name: instruction(*parts) for name, parts in lines.items()}


def _size(shape: str) -> int:
    """Bytes of 'f32[8,4]{1,0}', or of all arrays of a tuple."""
    arrays = [(int(bits or 8), map(int, filter(None, sides.split(',')))) for bits, sides in _ARRAY.findall(shape)]
    return sum(bits * math.prod(sides) // 8 for bits, sides in arrays)


def _files(text: str) -> dict[str, str]:
    """By stack frame: the files of its calls, the outermost first."""

    def table(title: str, row: str) -> list[tuple[str, ...]]:
        return re.findall(row, _first(rf'(?m)^{title}\n((?:\d+ .*\n)*)', text), re.M)

    names = dict(table('FileNames', r'^(\d+) "(.*)"'))
    locations = dict(table('FileLocations', r'^(\d+) \{file_name_id=(\d+)'))
    frames = table('StackFrames', r'^(\d+) \{file_location_id=(\d+) parent_frame_id=(\d+)')
    files = {'0': ''}
    for frame, location, parent in frames:
        caller = int(parent) - int(frames[0][2])  # the first has none; compilers write that as 0 or as 1
        files[frame] = f'{files[str(caller)]} {names[locations[location]]}'
    return files


def _first(pattern: str, text: str) -> str:
    """The group of the first match, or ''."""
    found = re.search(pattern, text)
    return found[1] if found else ''
