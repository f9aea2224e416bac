"""A program: DOT text in, a picture out, drawn by the Graphviz inside the pygraphviz wheel. See `picture`."""

from __future__ import annotations

import sys


def main() -> None:
    """Read standard input, draw it in the format named by the first argument, write standard output."""
    import pygraphviz

    drawn = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode())
    picture = drawn.draw(format=sys.argv[1], prog="dot")
    if not isinstance(picture, bytes):
        sys.exit("Graphviz drew nothing")
    sys.stdout.buffer.write(picture)


if __name__ == "__main__":
    main()
