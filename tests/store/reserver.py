"""A process that spends from a shared budget until nothing fits: reserve 10, charge 7. Used by test_meters.

Arguments: URL, limit, run id. Prints the most it ever saw charged or reserved by all together, and its own grants.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from statecraft.ids import digest
from statecraft.store.port import Amount, Charge, Reserve, Reserved, Settle
from tests.store.rig import ask, opened

TAKEN = "SELECT coalesce((SELECT used FROM meters), 0) + coalesce((SELECT sum(amount) FROM reservations), 0)"


async def main(url: str, limit: int, run_id: bytes) -> None:
    worst = granted = 0
    async with opened(url) as store:
        while True:
            call = (run_id, 0, 1, digest(str(granted)), 0)
            answer = await store.submit(Reserve(*call, (Amount("m", 10, limit),)))
            assert isinstance(answer, Reserved)
            ((taken,),) = ask(url, TAKEN)
            worst = max(worst, taken)
            if answer.refused is not None:
                break
            granted += 1
            await store.submit(Settle(*call, (Charge("m", 7),)))
    print(worst, granted)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])))
