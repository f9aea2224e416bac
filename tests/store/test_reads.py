"""Reading beside a writer."""

from __future__ import annotations

from statecraft.store.sql import SqlStore
from tests.store.rig import begun, within


def test_reads_go_on_while_another_process_writes(each_url: str) -> None:
    async def story(store: SqlStore) -> None:
        run = await begun(store)
        link = store._link
        assert link is not None
        link.begin()
        try:
            assert (await store.run(run.run_id)).seq == 0
        finally:
            link.rollback()

    within(each_url, story)
