"""Choices written as calls: what parses, what is refused and how."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qat import calls
from qat.calls import Interval

names = st.from_regex(r'[a-z_][a-z_0-9]{0,8}', fullmatch=True).filter(
    lambda name: not __import__('keyword').iskeyword(name)
)
literals = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none(), st.text()
)


@given(names, st.dictionaries(names, literals, max_size=4))
def test_parse_inverts_write(name, arguments):
    assert calls.parse(calls.write(name, arguments)) == (name, arguments)


@given(st.text(max_size=30))
def test_any_text_parses_or_is_refused_in_one_line(text):
    try:
        calls.parse(text)
    except ValueError as error:
        assert 'cannot read' in str(error)


@pytest.mark.parametrize(
    'text', ['f(1)', 'f(x=y)', 'f(x=__import__("os"))', 'f(', 'f(x=1)(y=2)', 'f(x=1, x=1)', 'f(**{})', 'f(x=1); g()']
)
def test_only_keyword_literals_are_read(text):
    with pytest.raises(ValueError, match='cannot read'):
        calls.parse(text)


def test_interval_ends():
    half_open = Interval(0, 1, low_included=True)
    assert [x in half_open for x in (0, 0.5, 1, -1e-9, float('nan'), True, '0.5')] == [
        True,
        True,
        False,
        False,
        False,
        False,
        False,
    ]
    assert str(half_open) == '[0, 1)'
    whole = Interval(1, 9, whole=True)
    assert [x in whole for x in (2, 2.0, 2.5, 1, 9, True, None, 10**400)] == [True, *[False] * 7]


def test_unknown_names_suggest_the_nearest():
    assert calls.unknown('thing', 'sinus', ['sine', 'dsq']).startswith("unknown thing 'sinus': did you mean 'sine'?")
    assert [calls.nearest(name, ['learning_rate', 'bits', 'lra']) for name in ('lr', 'b', 'x')] == [
        'learning_rate',
        '',
        '',
    ]


@pytest.mark.parametrize('given', ['x=None', 'x="1"', 'x=True', 'y=None', 'y=1', 'z="1"'])
def test_every_argument_has_a_domain_or_is_a_switch(given):
    def function(r, *, x=1.0, y=True, z=None):
        pass

    name, arguments = calls.parse(f'f({given})')
    with pytest.raises(ValueError, match='must be '):
        calls.bind(name, function, arguments, {'x': Interval(0, 2), 'z': Interval(0, 2)})
    assert calls.bind(name, function, {'z': None}, {'z': Interval(0, 2)})['z'] is None
