"""Pictures of machines and of runs: DOT and Mermaid text always, SVG, PNG and PDF where Graphviz is."""

from __future__ import annotations

from statecraft.diagram.dot import to_dot
from statecraft.diagram.graph import Spec
from statecraft.diagram.way import Overlay, overlay
from statecraft.diagram.mermaid import to_mermaid
from statecraft.diagram.picture import FORMATS, Format, render

__all__ = ["FORMATS", "Format", "Overlay", "Spec", "overlay", "render", "to_dot", "to_mermaid"]
