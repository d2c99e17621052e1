"""Connected components agree with a walk over the links."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from etl.analysis.components import Components

LINKS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60)


def labels_of(links: list[tuple[int, int]], chunk_size: int) -> list[int]:
    """The labels after joining the links in chunks."""
    components = Components()
    for start in range(0, len(links), chunk_size):
        left, right = np.array(links[start : start + chunk_size], dtype=np.int32).T
        components.join(left, right)
    return components.labels().tolist()


@given(links=LINKS, chunk_size=st.integers(1, 60))
def test_the_label_of_a_node_is_the_lowest_node_it_reaches(
    links: list[tuple[int, int]], chunk_size: int
) -> None:
    """The labels do not depend on how the links are cut into chunks."""
    labels = labels_of(links, chunk_size)
    lowest = list(range(len(labels)))
    for _ in lowest:
        for left, right in links:
            lowest[left] = lowest[right] = min(lowest[left], lowest[right])
    assert labels == lowest


def test_a_long_chain_is_one_component() -> None:
    """The links come in random order, and joining them takes few rounds."""
    order = np.random.default_rng(1).permutation(99_999).astype(np.int32)
    components = Components()
    for chunk in np.array_split(order, 7):
        components.join(chunk, chunk + 1)
    assert set(components.labels()[:100_000].tolist()) == {0}
