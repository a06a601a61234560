"""metrics.md's definitions in plain Python: every weight's whole story is kept and looked at afterwards."""

import itertools


def change_points(codes: list[int]) -> list[tuple[int, int]]:
    """(code, step) at the start and wherever the code differs from the one before."""
    return [(code, t) for t, code in enumerate(codes) if t == 0 or code != codes[t - 1]]


def compress(sequence: list[int]) -> tuple[list[int], int]:
    """The sequence after collapsing oscillations with a stack, and how many were collapsed."""
    stack, oscillations = [], 0
    for code in sequence:
        if len(stack) >= 3 and code == stack[-2] and stack[-1] == stack[-3]:
            stack.pop()
            oscillations += 1
        else:
            stack.append(code)
    return stack, oscillations


def ratio(numerator, denominator):
    return numerator / denominator if denominator else None


def code_shares(stories: list[list[int]], codes: int) -> list[float]:
    last = [story[-1] for story in stories]
    return [last.count(code) / len(last) for code in range(codes)]


def metrics(reference: list[list[int]], twin: list[list[int]], codes: int) -> dict:
    """The integer metrics of two trajectories of codes, reference[weight][step] and twin[weight][step].

    `codes`: how many there are.
    """
    moved = agreeing = agreeing_moved = identical = identical_moved = compressed = lag = points = 0
    oscillations, flips, dead = [0, 0], [0, 0], [0, 0]
    for a, b in zip(reference, twin):
        points_a, points_b = change_points(a), change_points(b)
        sequence_a, sequence_b = ([code for code, _ in found] for found in (points_a, points_b))
        has_moved = len(points_a) > 1 or len(points_b) > 1
        moved += has_moved
        agreeing += a[-1] == b[-1]
        agreeing_moved += has_moved and a[-1] == b[-1]
        if sequence_a == sequence_b:
            identical += 1
            identical_moved += has_moved
            lag += sum(abs(s - t) for (_, s), (_, t) in zip(points_a[1:], points_b[1:]))
            points += len(points_a) - 1
        (stack_a, collapsed_a), (stack_b, collapsed_b) = compress(sequence_a), compress(sequence_b)
        compressed += stack_a == stack_b
        oscillations[0] += collapsed_a
        oscillations[1] += collapsed_b
        for run, story in enumerate((a, b)):
            flips[run] += sum(before != after for before, after in itertools.pairwise(story))
            dead[run] += all(code == story[0] for code in story)
    weights = len(reference)
    return {
        'quantized_weight_agreement': ratio(agreeing, weights),
        'quantized_weight_agreement_moved': ratio(agreeing_moved, moved),
        'moved_fraction': ratio(moved, weights),
        'change_point_sequence_agreement': ratio(identical, weights),
        'change_point_sequence_agreement_moved': ratio(identical_moved, moved),
        'compressed_change_point_sequence_agreement': ratio(compressed, weights),
        'average_change_point_error': ratio(lag, points),
        'oscillations_reference': oscillations[0],
        'oscillations_twin': oscillations[1],
        'flips_reference': flips[0],
        'flips_twin': flips[1],
        'never_flipped_reference': ratio(dead[0], weights),
        'never_flipped_twin': ratio(dead[1], weights),
        'code_shares_reference': code_shares(reference, codes),
        'code_shares_twin': code_shares(twin, codes),
    }
