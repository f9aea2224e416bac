"""`python -m benchmarks`: what durability costs (`bench`)."""

from __future__ import annotations

import sys

from benchmarks.bench import main

sys.exit(main())
