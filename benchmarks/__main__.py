"""`python -m benchmarks`: what durability costs (`bench`). `python -m benchmarks fleet`: what a fleet costs, in minutes."""

from __future__ import annotations

import sys

if sys.argv[1:] == ["fleet"]:
    from benchmarks.fleet import main
else:
    from benchmarks.bench import main

sys.exit(main())
