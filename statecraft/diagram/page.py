"""One HTML file that shows a picture and replays a run on it. It needs nothing installed and never asks the network.

What models and people wrote is data in it, never markup or code: the script reads one block of JSON in which no character can end
the block, and sets text only; and the page's own policy lets nothing run, load or send but that one script.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files

from statecraft.diagram.dot import drawing, to_dot
from statecraft.diagram.graph import Spec
from statecraft.diagram.look import scene
from statecraft.diagram.marks import Drawing
from statecraft.diagram.picture import can_render, render
from statecraft.diagram.story import Step
from statecraft.diagram.svg import to_svg
from statecraft.records import Json

UNSAFE = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})
"""Characters that could end a block of data in HTML, or a line in older JavaScript, as JSON writes them otherwise."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1>{lines}</header>
<main>
<figure role="group" aria-label="{title}">
{picture}
</figure>
<aside>
<div id="replay" hidden>
<div class="bar"><button id="back" type="button">Back</button><button id="play" type="button">Play</button>
<button id="on" type="button">On</button><span id="place"></span></div>
<div class="bar"><input id="slider" type="range" min="0" value="0" aria-label="step"></div>
</div>
<h2 id="what" aria-live="polite"></h2>
<dl id="facts"></dl>
<noscript><p>Without scripts this page shows the whole picture, but no single steps.</p></noscript>
</aside>
</main>
<footer id="table" hidden>
<h2>Steps</h2>
<table>
<thead><tr><th>step</th><th>move</th><th>event</th><th>took</th><th>data</th></tr></thead>
<tbody id="steps"></tbody>
</table>
</footer>
<script id="data" type="application/json">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def to_html(what: Spec | Drawing, steps: Sequence[Step] = (), *, graphviz: bool = True) -> str:
    """A page with the picture; with `steps` (see `story`), one that replays a run on it.

    The picture is drawn by Graphviz if it is here, and `graphviz` is not turned off; else by a plainer layout of our own.
    """
    shown = drawing(what)
    style, script = _part("page.css"), _part("page.js")
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    title = f"{shown.graph.name} version {shown.graph.version}"
    return PAGE.format(
        policy=policy,
        title=_text(title),
        lines="".join(f"<p>{_text(note.text)}</p>" for note in shown.title),
        picture=_picture(shown, graphviz),
        style=style,
        data=embedded(_data(shown, steps)),
        script=script,
    )


def embedded(value: Json) -> str:
    """A value as JSON that cannot end the block it stands in."""
    return json.dumps(value, ensure_ascii=False).translate(UNSAFE)


# --- parts --------------------------------------------------------------------------------------------------------------


def _picture(shown: Drawing, graphviz: bool) -> str:
    if not (graphviz and can_render()):
        return to_svg(scene(shown))
    svg = render(to_dot(shown), "svg").decode()
    # Comments repeat names, and a doctype names a place on the network.
    return re.sub(r"<!--.*?-->\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)


def _data(shown: Drawing, steps: Sequence[Step]) -> Json:
    return {
        "states": [
            {
                "id": f"s_{shape.name}",
                "name": shape.name,
                "kind": f"{'good' if shape.ok else 'bad'} end" if shape.kind == "final" else shape.kind,
                "facts": shape.facts,
                "tools": ", ".join(shape.tools),
                "doc": shape.doc,
                "notes": [note.text for note in shown.of_state(shape.name).notes],
            }
            for shape in shown.graph.shapes
        ],
        "rows": [
            {
                "id": f"e_{edge.index}",
                "source": edge.source,
                "event": edge.said,
                "target": edge.target,
                "guard": edge.guard,
                "notes": [note.text for note in shown.of_row(edge.index).notes],
            }
            for edge in shown.graph.edges
        ],
        "steps": [asdict(step) for step in steps],
    }


@cache
def _part(name: str) -> str:
    return files("statecraft.diagram").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _text(text: str) -> str:
    return html.escape("".join(char for char in text if char.isprintable()))
