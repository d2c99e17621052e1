"""The rules of CloudWatch's embedded metric format, written down from its documentation.

Amazon CloudWatch User Guide, "Specification: Embedded metric format"; the limits of dimensions and
of timestamps are those of "MetricDatum" and "Dimension" in the API reference.
"""

from __future__ import annotations

from typing import Any

import jsonschema

_SIZES = [f"{prefix}{unit}" for unit in ("bytes", "bits") for prefix in ("Kilo", "Mega", "Giga")]
_AMOUNTS = ["Bytes", "Bits", *_SIZES, "Terabytes", "Terabits"]
UNITS = [
    *("Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "Count/Second", "None"),
    *_AMOUNTS,
    *(f"{amount}/Second" for amount in _AMOUNTS),
]
NAME = {"type": "string", "minLength": 1}
METRIC = {
    "type": "object",
    "required": ["Name"],
    "properties": {
        "Name": {**NAME, "maxLength": 1024},
        "Unit": {"enum": UNITS},
        "StorageResolution": {"enum": [1, 60]},
    },
    "additionalProperties": False,
}
DIRECTIVE = {
    "type": "object",
    "required": ["Namespace", "Dimensions", "Metrics"],
    "properties": {
        "Namespace": {**NAME, "maxLength": 1024},
        "Dimensions": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "array",
                "minItems": 1,
                "maxItems": 30,
                "uniqueItems": True,
                "items": {**NAME, "maxLength": 250},
            },
        },
        "Metrics": {"type": "array", "minItems": 1, "maxItems": 100, "items": METRIC},
    },
    "additionalProperties": False,
}
DOCUMENT = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer"},
                "CloudWatchMetrics": {"type": "array", "minItems": 1, "items": DIRECTIVE},
            },
            "additionalProperties": False,
        }
    },
}
DIMENSION = {
    "type": "string",
    "maxLength": 1024,
    "pattern": r"^[\x20-\x7e]*[\x21-\x7e][\x20-\x7e]*\Z",
}


def check_emf(document: dict[str, Any], now: float) -> None:
    """Check a log line against the rules.

    :param now: seconds since 1970: CloudWatch takes two weeks of the past and two hours to come
    :raises jsonschema.ValidationError: it breaks one
    """
    jsonschema.validate(document, DOCUMENT)
    assert now - 14 * 86_400 < document["_aws"]["Timestamp"] / 1000 < now + 2 * 3_600
    for directive in document["_aws"]["CloudWatchMetrics"]:
        for name in [name for names in directive["Dimensions"] for name in names]:
            jsonschema.validate(document[name], DIMENSION)
        for metric in directive["Metrics"]:
            jsonschema.validate(document[metric["Name"]], {"type": "number"})
