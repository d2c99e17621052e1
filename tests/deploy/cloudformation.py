"""Reads the templates: a short form such as ``!Ref Queue`` becomes ``{"Ref": "Queue"}``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from tests.unit.builders import ROOT

PATH = ROOT / "deploy" / "etl.yaml"


class Loader(yaml.SafeLoader):
    """A YAML loader that knows the short forms."""


def _short_form(loader: Loader, name: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        raise yaml.YAMLError(f"!{name} of a mapping")
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


Loader.add_multi_constructor("!", _short_form)

TEMPLATE: dict[str, Any] = yaml.load(PATH.read_text(), Loader)
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]
FUNCTION = yaml.load((ROOT / "deploy" / "lambda" / "function.yaml").read_text(), Loader)


def of_type(kind: str) -> dict[str, Any]:
    """The properties of all resources of a type, such as ``SQS::Queue``."""
    return {
        name: resource["Properties"]
        for name, resource in RESOURCES.items()
        if resource["Type"] == f"AWS::{kind}"
    }


def branches(value: Any) -> Iterator[Any]:
    """The elements of a list, with both outcomes of each ``Fn::If`` in place of it."""
    for element in value:
        if isinstance(element, dict) and "Fn::If" in element:
            yield from (
                outcome for outcome in element["Fn::If"][1:] if outcome != {"Ref": "AWS::NoValue"}
            )
        else:
            yield element


def statements(role: str, resources: dict[str, dict[str, Any]] = RESOURCES) -> list[dict[str, Any]]:
    """The statements of a role's policies."""
    return [
        statement
        for policy in resources[role]["Properties"]["Policies"]
        for statement in branches(policy["PolicyDocument"]["Statement"])
    ]


def actions(statement: dict[str, Any]) -> list[str]:
    """The actions of a statement."""
    action = statement["Action"]
    return [action] if isinstance(action, str) else list(action)


def container(task: str) -> dict[str, Any]:
    """The container of a task definition."""
    (only,) = RESOURCES[task]["Properties"]["ContainerDefinitions"]
    return dict(only)


def environment(task: str) -> list[tuple[str, Any]]:
    """The variables of a task, those of both outcomes of each condition."""
    return [(entry["Name"], entry["Value"]) for entry in branches(container(task)["Environment"])]
