"""The figures as Markdown: a table of each group, and the ratios of saccade to each peer."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

from benchmarks.peers.results import Level, Results, Turn

TITLES = (
    "| | answers/s at 1 | at 4 | at 16 | p50 ms at 1 | slowest ms at 16 | CPU ms/answer at 1 | at 16 | MB | objects |"
)
OURS = ("saccade auto", "saccade f32")


def whole(results: Results) -> str:
    """Everything."""
    groups = list(dict.fromkeys(turn.group for turn in results.turns))
    return "\n\n".join([_head(results), *(part for group in groups for part in _group(results, group))])


def _head(results: Results) -> str:
    levels = [level for turn in results.turns for level in turn.levels.values()]
    if not levels:
        return "Nothing was measured."
    others = statistics.median(level.others for level in levels), max(level.others for level in levels)
    failed = sum(level.failed for level in levels)
    head = results.head
    return (
        f"{head['date']}, {head['cpu']} ({head['flags']}), commit {head['commit']}.\n{head['versions']}.\n"
        f"Other work on the machine: {others[0]:.0%} of the cores in the median, {others[1]:.0%} at most. "
        f"Failed calls: {failed}."
    )


def _group(results: Results, group: str) -> Iterator[str]:
    turns = [turn for turn in results.turns if turn.group == group]
    names = sorted({turn.name for turn in turns}, key=lambda name: (not name.startswith("saccade"), name))
    rounds = len({turn.round for turn in turns})
    lines = [f"### {group}, {rounds} rounds", "", TITLES, "|---" * 10 + "|"]
    lines += [_row(name, [turn for turn in turns if turn.name == name]) for name in names]
    yield "\n".join(lines)
    if ratios := list(_ratios(turns, names)):
        yield "\n".join(ratios)


def _row(name: str, turns: list[Turn]) -> str:
    good = [turn for turn in turns if turn.levels and not turn.broken]
    if not good:
        return f"| {name} | {turns[0].broken} | | | | | | | | |"
    first, last = min(good[0].levels), max(good[0].levels)
    speed = [f"{_middle(good, level, lambda x: x.per_second):.1f}" for level in good[0].levels]
    cells = [
        *speed,
        f"{_middle(good, first, lambda x: x.p50_ms):.1f}",
        f"{_middle(good, last, lambda x: x.slowest_ms):.0f}",
        f"{_middle(good, first, lambda x: x.cpu_ms):.1f}",
        f"{_middle(good, last, lambda x: x.cpu_ms):.1f}",
        f"{statistics.median(turn.memory_bytes for turn in good) / 1e6:.0f}",
        f"{good[-1].objects}",
    ]
    failed = sum(level.failed for turn in good for level in turn.levels.values())
    return f"| {name}{f' ({failed} calls failed)' if failed else ''} | {' | '.join(cells)} |"


def _middle(turns: list[Turn], level: int, of: Callable[[Level], float]) -> float:
    return statistics.median(of(turn.levels[level]) for turn in turns)


def _ratios(turns: list[Turn], names: list[str]) -> Iterator[str]:
    """How many times as fast as each peer ours are, and what they take of its CPU time and memory."""
    by_name = {name: {turn.round: turn for turn in turns if turn.name == name and turn.levels} for name in names}
    ours = [name for name in names if name.startswith("saccade")]
    yield "| saccade ÷ peer | ours | × at 1 | at 4 | at 16 | CPU at 1 | CPU at 16 | memory |"
    yield "|---" * 8 + "|"
    for peer in (name for name in names if not name.startswith(("saccade", "bare ASGI"))):
        for mine in (name for name in ours if comparable(name, peer)):
            rounds = by_name[mine].keys() & by_name[peer].keys()
            pairs = [(by_name[mine][number], by_name[peer][number]) for number in rounds]
            if pairs:
                yield f"| {peer} | {mine.removeprefix('saccade ')} | {' | '.join(_cells(pairs))} |"


def comparable(mine: str, peer: str) -> bool:
    """Whether a ratio of the two says something: a loop only beside the same precision and shapes, a checkpoint only
    beside the same one."""
    if peer.startswith("bare loop"):
        way = peer.removeprefix("bare loop, ").replace("dynamic graph as exported", "rectangles")
        return mine.removeprefix("saccade ") == way.replace("dynamic graph", "rectangles")
    if "pipeline" in peer:
        return mine.rpartition(", ")[2] == peer.rpartition(", ")[2]
    return True


def _cells(pairs: list[tuple[Turn, Turn]]) -> Iterator[str]:
    levels = list(pairs[0][0].levels)
    for level in levels:
        yield _ratio(pairs, lambda turn, level=level: turn.levels[level].per_second) + "×"
    for level in (levels[0], levels[-1]):
        yield _ratio(pairs, lambda turn, level=level: turn.levels[level].cpu_ms)
    yield _ratio(pairs, lambda turn: turn.memory_bytes)


def _ratio(pairs: list[tuple[Turn, Turn]], of: Callable[[Turn], float]) -> str:
    return f"{statistics.median(of(ours) / of(theirs) for ours, theirs in pairs if of(theirs)):.2f}"
