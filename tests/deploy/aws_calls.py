"""Which operations of AWS the code calls, from its text and the models of botocore."""

from __future__ import annotations

import ast
from functools import cache

import botocore.session
from botocore import xform_name

from etl.aws.answers import action_of
from tests.unit.builders import ROOT

# Only in development.
APART = {"embedded", "demo"}
# The functions whose first argument is the name of a service.
OPENERS = {"find_access", "client", "create_client"}


@cache
def _read() -> tuple[set[str], set[str]]:
    """The services that the code opens a client for, and every name and string in it."""
    opened: set[str] = set()
    words: set[str] = set()
    for path in (ROOT / "etl").rglob("*.py"):
        if path.relative_to(ROOT / "etl").parts[0] in APART:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Attribute(attr=word) | ast.Constant(value=str(word)):
                    words.add(word)
                case ast.Call(
                    func=ast.Attribute(attr=function) | ast.Name(id=function),
                    args=[ast.Constant(value=str(service)), *_],
                ) if function in OPENERS:
                    opened.add(service)
    return opened, words


def services() -> set[str]:
    """The services that the code opens a client for."""
    return _read()[0]


def calls() -> set[str]:
    """The actions, as IAM names them, of all operations that the code mentions.

    An operation is a method of a client, or the string that names it: the queue's calls go through
    one function, which takes their name.
    """
    session = botocore.session.Session()
    return {
        action_of(operation, service)
        for service in services()
        for operation in session.get_service_model(service).operation_names
        if xform_name(operation) in _read()[1]
    }
