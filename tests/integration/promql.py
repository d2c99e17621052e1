"""The metrics and labels that a PromQL expression names."""

from __future__ import annotations

import re

from etl.monitoring.metrics import METRICS

# Metrics of node-exporter itself.
OF_NODE_EXPORTER: dict[str, set[str]] = {"node_textfile_scrape_error": set()}
LABELS_OF: dict[str, set[str]] = {
    **{metric.name: set(metric.all_labels) for metric in METRICS},
    **OF_NODE_EXPORTER,
}
# Prometheus adds the first two, and then renames a label `job` of the metric to the third.
OF_PROMETHEUS = {"job", "instance", "exported_job"}

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACES = re.compile(r"(\w+)\{([^}]*)\}")
_LISTS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_METRIC = re.compile(r"\b(?:etl|node)_\w+")
_WORD = re.compile(r"[A-Za-z_]\w*")


def metrics_in(expression: str) -> set[str]:
    """The metrics, by the prefixes of ours and of node-exporter."""
    return set(_METRIC.findall(_STRING.sub('""', expression)))


def labels_in(expression: str) -> set[str]:
    """The labels in braces, and those that an operator or an aggregation goes by."""
    bare = _STRING.sub("", expression)
    parts = [inner for _, inner in _BRACES.findall(bare)] + _LISTS.findall(bare)
    return {word for part in parts for word in _WORD.findall(part)}


def unknown_in(expression: str, allowed: frozenset[str] = frozenset()) -> set[str]:
    """The metrics that do not exist, and the labels that none of the expression's metrics has.

    :param allowed: labels that are known besides
    """
    names = metrics_in(expression)
    known = {label for name in names for label in LABELS_OF.get(name, set())}
    return (names - set(LABELS_OF)) | (labels_in(expression) - known - allowed)
