"""Connected components, against a walk over the links."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from etl.analysis.components import Components

LINKS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60)


def joined(links: list[tuple[int, int]], piece: int) -> list[int]:
    """The labels after joining the links, so many at once."""
    components = Components()
    for start in range(0, len(links), piece):
        one, other = np.array(links[start : start + piece], dtype=np.int32).T
        components.join(one, other)
    return components.labels().tolist()


@given(links=LINKS, piece=st.integers(1, 60))
def test_labels_are_the_least_node_that_can_be_reached(
    links: list[tuple[int, int]], piece: int
) -> None:
    """However the links are cut into pieces."""
    labels = joined(links, piece)
    least = list(range(len(labels)))
    for _ in least:
        for a, b in links:
            least[a] = least[b] = min(least[a], least[b])
    assert labels == least


def test_a_long_chain_is_one_component() -> None:
    """Link by link in any order, without a step a link."""
    order = np.random.default_rng(1).permutation(99_999).astype(np.int32)
    components = Components()
    for part in np.array_split(order, 7):
        components.join(part, part + 1)
    assert set(components.labels()[:100_000].tolist()) == {0}
