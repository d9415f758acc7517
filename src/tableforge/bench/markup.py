"""HTML as a tree: what comes from outside is text or an attribute in it, and can never become markup."""

from collections.abc import Iterable
from typing import Final
from xml.etree.ElementTree import Element, tostring  # nothing is parsed here

ICONS: Final = {
    "met": ("M20 6 9 17l-5-5",),
    "missed": ("M18 6 6 18", "m6 6 12 12"),
    "unmeasured": ("M5 12h14",),
    "warning": (
        "m21.73 18-8-14a2 2 0 0 0-3.46 0l-8 14A2 2 0 0 0 4 21h16a2 2 0 0 0 1.73-3Z",
        "M12 9v4",
        "M12 17h.01",
    ),
    "chevron": ("m9 18 6-6-6-6",),
    "copy": (
        "M10 8h10a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H10a2 2 0 0 1-2-2V10a2 2 0 0 1 2-2Z",
        "M4 16a2 2 0 0 1-2-2V4a2 2 0 0 1 2-2h10a2 2 0 0 1 2 2",
    ),
    "target": ("M22 12h-4M6 12H2M12 6V2M12 22v-4", "M20 12a8 8 0 1 1-16 0 8 8 0 0 1 16 0Z"),
    "machine": (
        "M4 2h16a2 2 0 0 1 2 2v4a2 2 0 0 1-2 2H4a2 2 0 0 1-2-2V4a2 2 0 0 1 2-2Z",
        "M4 14h16a2 2 0 0 1 2 2v4a2 2 0 0 1-2 2H4a2 2 0 0 1-2-2v-4a2 2 0 0 1 2-2Z",
        "M6 6h.01M6 18h.01",
    ),
}
"""Strokes on Lucide's grid of 24."""

Child = Element | str | None


def el(name: str, /, *children: Child | Iterable[Child], **attributes: object) -> Element:
    """One element. `class_` stands for class, `data_x` for data-x; an attribute of None or False is left out, True is bare.

    Styles are classes only: the page's policy allows no style attribute.
    """
    made = Element(name)
    for key, value in attributes.items():
        if value is not None and value is not False:
            made.set(key.rstrip("_").replace("_", "-"), "" if value is True else str(value))
    for child in children:
        for one in (child,) if isinstance(child, Element | str) or child is None else child:
            _append(made, one)
    return made


def _append(parent: Element, child: Child) -> None:
    if isinstance(child, Element):
        parent.append(child)
    elif child is not None and len(parent):
        parent[-1].tail = (parent[-1].tail or "") + child
    elif child is not None:
        parent.text = (parent.text or "") + child


def svg(*children: Child | Iterable[Child], **attributes: object) -> Element:
    """A drawing beside words that say the same. Attributes of SVG that are in camel case are given as `viewBox`."""
    return el("svg", *children, aria_hidden="true", **attributes)


def icon(name: str, *, small: bool = False) -> Element:
    """A sign beside a word."""
    paths = (el("path", d=strokes) for strokes in ICONS[name])
    return svg(*paths, class_="i i-sm" if small else "i", viewBox="0 0 24 24")


def hidden(words: str) -> Element:
    """Words for who listens."""
    return el("span", words, class_="vh")


def text_of(element: Element) -> str:
    """The tree as HTML."""
    return tostring(element, encoding="unicode", method="html")
