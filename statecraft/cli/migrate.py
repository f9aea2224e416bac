"""`statecraft migrate`: bring a database's schema up to the one that this statecraft needs."""

from __future__ import annotations

import click

from statecraft.cli.driving import run_async
from statecraft.cli.exits import Exit
from statecraft.cli.verb import Session, Verb, must_exist


@click.command(cls=Verb)
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if the database must be brought up.")
@click.pass_obj
def migrate(session: Session, check: bool) -> Exit:
    """Bring the database up to the schema of this statecraft."""
    from statecraft.store import open_store, schema_of

    if session.database.file is not None:
        must_exist(session.database)
    found, wanted = schema_of(session.database.url)

    async def bring_up() -> Exit:
        store = open_store(session.database.url)
        await store.open()
        await store.close()
        return Exit.DONE

    due = found != wanted
    if due and not check:
        run_async(bring_up)
    if session.screen.as_json:
        session.screen.emit({"from": found, "to": wanted, "due": due and check})
    else:
        session.screen.say(_told(found, wanted, check))
    return Exit.FAILED if due and check else Exit.DONE


def _told(found: int | None, wanted: int, check: bool) -> str:
    if found == wanted:
        return f"schema {wanted}: nothing to do"
    has = "no schema yet" if found is None else f"schema {found}"
    return f"{has}; this statecraft needs {wanted}: run `statecraft migrate`" if check else f"{has} before, {wanted} now"
