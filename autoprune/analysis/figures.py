"""Figures as inline SVG that follows the page's light or dark colours."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from autoprune.analysis.front import Front
from autoprune.analysis.history import History
from autoprune.analysis.plots import Colours, front_figure, history_figure
from autoprune.types import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["front_svg", "history_svg", "inline_svg", "roles"]

# one colour a role that no figure uses otherwise; each becomes the CSS variable of that role
_ROLES = {field.name: f"#0102{number:02x}" for number, field in enumerate(fields(Colours), start=1)}


def roles() -> Colours:
    """Colours to draw with; :func:`inline_svg` makes each the page's own of that role."""
    return Colours(**_ROLES)


def front_svg(front: Front, trials: Sequence[Trial], others: int | None = None) -> str:
    """The front's figure as an ``<svg>`` element; colours are ``var(--ink)`` and so on."""
    figure = front_figure(front, trials, roles(), others=others)
    return inline_svg(figure, f"Pareto front of {front.y.metric} against {front.x.metric}")


def history_svg(history: History) -> str:
    """The hypervolume's figure as an ``<svg>`` element."""
    return inline_svg(history_figure(history, roles()), "hypervolume by trial")


def inline_svg(figure: Figure, title: str) -> str:
    """A figure drawn in the colours of :func:`roles` as an ``<svg>`` element; ``title`` is read out, and is unique on
    its page."""
    import matplotlib

    figure.patch.set_alpha(0.0)
    for axes in figure.axes:
        axes.patch.set_alpha(0.0)
    target = io.StringIO()
    # the title as salt keeps the ids of two figures on one page apart
    with matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "none"}):
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    text = target.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # a style element inside an inline SVG would reach the whole page, and group ids would repeat on it
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'^<svg([^>]*?) (?:width|height)="[^"]*"([^>]*?) (?:width|height)="[^"]*"', r"<svg\1\2", text)
    text = text.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
    text = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", text)
    for role, colour in _ROLES.items():
        text = text.replace(colour, f"var(--{role})")
    return text
