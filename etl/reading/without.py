"""Takes what is masked or dropped out of the values of columns of type ``json``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etl.frames import ABSENT

if TYPE_CHECKING:
    import pandas as pd

Places = Iterable[Sequence[str]]
_Tree = dict[str, "_Tree"]  # of names; an empty one is what is taken out


def without(places: Places) -> Callable[[Any], Any]:
    """Make the function that returns a decoded value without what is at the places.

    A place is the names on the way to it; lists on the way are gone through, each item of them. A
    text or a number where an object is expected may be what is hidden, so it is taken out too, and
    a value that is one becomes null, and ABSENT stays. The given value is not changed; what needs
    no change is shared with it.
    """
    tree: _Tree = {}
    for place in places:
        _add(tree, place)
    return lambda value: None if _may_hold_it(value) else _without(value, tree)


def _may_hold_it(value: Any) -> bool:
    """Whether a value stands where an object is expected, and is a text or a number."""
    return not isinstance(value, (dict, list)) and value is not None and value is not ABSENT


def _add(tree: _Tree, place: Sequence[str]) -> None:
    for number, name in enumerate(place, 1):
        is_new = name not in tree
        below = tree.setdefault(name, {})
        if number == len(place):
            below.clear()
        elif not below and not is_new:
            return  # all of it is taken out
        tree = below


def _without(value: Any, tree: _Tree) -> Any:
    if isinstance(value, list):
        return [_without(item, tree) for item in value if not _may_hold_it(item)]
    if not isinstance(value, dict) or tree.keys().isdisjoint(value):
        return value
    kept = {}
    for name, member in value.items():
        below = tree.get(name)
        if below is None:
            kept[name] = member
        elif below and not _may_hold_it(member):
            kept[name] = _without(member, below)
    return kept


def take_out(raw: pd.DataFrame, hidden: Mapping[str, Places]) -> pd.DataFrame:
    """Take the hidden places out of columns of a raw frame, by source; the others are the same.

    Rows: the same number, in the same order.
    """
    import pandas as pd

    found = {source: list(map(without(places), raw[source])) for source, places in hidden.items()}
    changed = {
        source: pd.Series(values, index=raw.index, dtype=object) for source, values in found.items()
    }
    return raw.assign(**changed) if changed else raw
