"""Pictures of machines, of runs, of a fleet, and of what changed.

DOT, Mermaid and HTML always; SVG, PNG and PDF where Graphviz is.
"""

from __future__ import annotations

from statecraft.diagram.change import of_change
from statecraft.diagram.dot import to_dot
from statecraft.diagram.fleet import of_fleet
from statecraft.diagram.graph import Spec
from statecraft.diagram.marks import Drawing, plain
from statecraft.diagram.mermaid import to_mermaid
from statecraft.diagram.page import to_html
from statecraft.diagram.picture import FORMATS, Format, render
from statecraft.diagram.story import Step, story
from statecraft.diagram.way import Overlay, of_run, overlay

__all__ = [
    "FORMATS",
    "Drawing",
    "Format",
    "Overlay",
    "Spec",
    "Step",
    "of_change",
    "of_fleet",
    "of_run",
    "overlay",
    "plain",
    "render",
    "story",
    "to_dot",
    "to_html",
    "to_mermaid",
]
