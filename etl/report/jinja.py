"""The pages are made from the Jinja2 templates in ``etl/report/templates/``."""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def fill_template(name: str, **values: Any) -> str:
    """Fill a template; Jinja escapes every value that is not a :class:`markupsafe.Markup`."""
    environment = Environment(
        loader=PackageLoader("etl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(values)


def read_verbatim(name: str) -> Markup:
    """Read a stylesheet or script of ours, for a page to embed unescaped.

    A browser compares the hash of the embedded text with the one in the page's policy, so not one
    character may change.
    """
    text = resources.files("etl.report").joinpath("templates", name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704  (a file of the package)
