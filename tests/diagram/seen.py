"""What a picture shows, read back from each of its languages: the tests compare structure, never bytes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from statecraft.diagram.graph import Graph
from statecraft.diagram.mermaid import ANYWHERE

Edges = list[tuple[str, str, str]]
"""(source, target, words), sorted. Rows of every state have the source `anywhere`."""
SVG = "{http://www.w3.org/2000/svg}"


def table(drawn: Graph) -> Edges:
    """The rows, as a picture must show them."""
    guards = {edge.index: f" [{edge.guard}]" if edge.guard else "" for edge in drawn.edges}
    return sorted((edge.source or "anywhere", edge.target, f"{edge.said}{guards[edge.index]}") for edge in drawn.edges)


def in_dot(dot: str) -> Edges:
    """The rows in DOT text."""
    found = []
    for source, target, label in re.findall(r'^  "([^"]+)" -> "([^"]+)" \[label=(<.*>>) id="e_', dot, re.MULTILINE):
        lines = [unescape(re.sub(r"<[^<>]*>", "", row)).strip("\xa0 ") for row in re.findall(r"<TR>(.*?)</TR>", label)]
        found.append(
            (source.replace("__", ""), target, " ".join(lines[:2] if lines[1:2] and lines[1].startswith("[") else lines[:1]))
        )
    return sorted(found)


def in_mermaid(text: str) -> Edges:
    """The rows in Mermaid text, without what overlays say."""
    names = dict(re.findall(r'^  state "([^" ]+)[^"]*" as (\w+)$', text, re.MULTILINE))
    back = {key: name for name, key in names.items()} | {ANYWHERE: "anywhere"}
    found = []
    for source, target, said in re.findall(r"^  (\w+) --> (\w+) : (.*)$", text, re.MULTILINE):
        words = said.split(" ◆")[0].removeprefix("+ ").removeprefix("− ")
        found.append((back[source], back[target], words.replace("(", "[").replace(")", "]")))
    return sorted(found)


def ids_in_svg(svg: str) -> set[str]:
    """Ids of the states and rows in an SVG."""
    root = ET.fromstring(svg)
    return {found for each in root.iter() if re.match(r"[se]_", found := each.get("id", ""))}


def words_in_svg(svg: str, id: str) -> list[str]:
    """Lines of the label of a state or row in an SVG."""
    (group,) = [each for each in ET.fromstring(svg).iter(f"{SVG}g") if each.get("id") == id]
    return ["".join(text.itertext()).strip("\xa0 ") for text in group.iter(f"{SVG}text")]


class Page(HTMLParser):
    """A page as a browser takes it apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.blocks: dict[str, str] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.loads += [str(given[name]) for name in ("src", "href", "xlink:href", "action") if name in given]
        self.loads += [f"{name}=" for name in given if name.startswith("on")]
        self._open = (given.get("id") or tag) if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.blocks[self._open] = self.blocks.get(self._open, "") + data


def clicked(page: str, folder: Path) -> Any:
    """What a page shows at each of its steps and on each click, as its own script does it in node."""
    node = shutil.which("node")
    assert node
    (folder / "page.html").write_text(page)
    words = [node, str(Path(__file__).with_name("screen.js")), str(folder / "page.html")]
    return json.loads(subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout)
