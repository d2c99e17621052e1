"""HTML and SVG as trees: whatever is text is escaped by the serialiser, wherever it came from."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element, tostring

Child = Element | str


def node(tag: str, attributes: Mapping[str, object] | None = None, *children: Child) -> Element:
    """Make an element with its attributes and what stands in it, in order."""
    made = Element(tag, {name: str(value) for name, value in (attributes or {}).items()})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + child
        else:
            made.text = (made.text or "") + child
    return made


def document(root: Element) -> str:
    """Serialise a page."""
    return f"<!doctype html>\n{tostring(root, encoding='unicode', method='html')}\n"
