"""Drafts the files of a migration: what leads from the schema frozen in `tests/store/data` to the one that `tables.py` declares.

    python -m tests.store.draft_migration freeze    # before a change: write down the schema as it is
    python -m tests.store.draft_migration           # after it: write migrations/{sqlite,postgresql}/<VERSION>.sql

SQLite gets a copy of every table that changed, because it can change a column or a constraint in no other way; PostgreSQL gets
ALTER statements. What cannot be derived (a value for old rows, a column that changes its type) is said, and written by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

import sqlalchemy as sa

from statecraft.store import schema, tables

DATA = Path(__file__).parent / "data"
FILES = Path(schema.__file__).parent / "migrations"
DIALECTS: dict[str, sa.Dialect] = {name: sa.make_url(f"{name}://").get_dialect()() for name in ("sqlite", "postgresql")}

Body = list[str]
"""The lines between the brackets of a CREATE TABLE: columns, then constraints."""


def frozen(version: int, dialect: str) -> list[str]:
    """The statements that made the schema of a version."""
    return split((DATA / f"schema-{version}.{dialect}.sql").read_text())


def present(dialect: str) -> list[str]:
    """The statements that make the schema of today, without its triggers."""
    return split(";\n".join(schema.creation(DIALECTS[dialect])) + ";\n")


def split(text: str) -> list[str]:
    """The statements of a file, without what is blank."""
    found = ["\n".join(line.rstrip() for line in part.strip().splitlines() if line.strip()) for part in text.split(";\n")]
    return [part for part in found if part]


def named(statements: list[str], what: str) -> dict[str, str]:
    """The CREATE TABLE or CREATE INDEX statements by the name of what they make."""
    found = {}
    for statement in statements:
        words = statement.removeprefix("CREATE UNIQUE ").removeprefix("CREATE ").split()
        if words[0] == what:
            found[words[1]] = statement
    return found


def body(statement: str) -> Body:
    """A CREATE TABLE's columns and constraints."""
    return [line.strip().rstrip(",") for line in statement.splitlines()[1:] if line.startswith("\t")]


def columns(statement: str) -> dict[str, str]:
    """A table's columns by name, each as it is declared."""
    made = ("CONSTRAINT ", "PRIMARY KEY ", "UNIQUE ", "FOREIGN KEY")
    return {line.split()[0].strip('"'): line for line in body(statement) if not line.startswith(made)}


def table_of(index: str) -> str:
    """The table that an index is on."""
    return index.split(" ON ")[1].split(maxsplit=1)[0]


def for_sqlite(old: list[str], new: list[str]) -> list[str]:
    """Copies of the tables that changed, and what is new."""
    before, after = named(old, "TABLE"), named(new, "TABLE")
    rebuilt = [name for name in after if name in before and before[name] != after[name]]
    steps = [f"DROP TABLE {name}" for name in before if name not in after]
    for name in after:
        if name not in before:
            steps.append(after[name])
        elif name in rebuilt:
            steps += _copy(name, before[name], after[name])
    made = named(new, "INDEX")
    gone = {name: text for name, text in named(old, "INDEX").items() if table_of(text) not in rebuilt}
    steps += [f"DROP INDEX {name}" for name, text in gone.items() if made.get(name) != text and table_of(text) in after]
    return steps + [text for name, text in made.items() if gone.get(name) != text]


def _copy(name: str, before: str, after: str) -> list[str]:
    """A new table beside the old one, filled from it in the order of its rows, then put in its place."""
    computed = [column for column, line in columns(after).items() if "GENERATED ALWAYS" in line]
    shared = ", ".join(f'"{column}"' for column in columns(after) if column in columns(before) and column not in computed)
    _must_have_values(name, before, after)
    order = "" if "WITHOUT ROWID" in after else " ORDER BY rowid"
    return [
        after.replace(f"CREATE TABLE {name} ", f"CREATE TABLE new_{name} ", 1),
        f"INSERT INTO new_{name} ({shared})\nSELECT {shared} FROM {name}{order}",
        f"DROP TABLE {name}",
        f"ALTER TABLE new_{name} RENAME TO {name}",
    ]


def for_postgresql(old: list[str], new: list[str]) -> list[str]:
    """ALTER statements, and what is new."""
    before, after = named(old, "TABLE"), named(new, "TABLE")
    steps = [f"DROP TABLE {name}" for name in before if name not in after]
    was, made = named(old, "INDEX"), named(new, "INDEX")
    steps += [f"DROP INDEX {name}" for name, text in was.items() if made.get(name) != text and table_of(text) in after]
    for name, text in after.items():
        steps += [text] if name not in before else _alter(name, before[name], text)
    return steps + [text for name, text in made.items() if was.get(name) != text]


def _alter(name: str, before: str, after: str) -> list[str]:
    _must_have_values(name, before, after)
    old, new = columns(before), columns(after)
    if changed := [column for column in new if column in old and old[column] != new[column]]:
        say(f"postgresql: {name}.{', '.join(changed)} changed its declaration: write that by hand")
    rules = [line for line in body(before) if line not in old.values()]
    wanted = [line for line in body(after) if line not in new.values()]
    steps = [_dropped(name, line) for line in rules if line not in wanted]
    steps += [f"ALTER TABLE {name} DROP COLUMN {column}" for column in old if column not in new]
    steps += [f"ALTER TABLE {name} ADD COLUMN {line}" for column, line in new.items() if column not in old]
    steps += [f"ALTER TABLE {name} ADD {line}" for line in wanted if line not in rules]
    if (options := _options(after)) != _options(before):
        steps.append(f"ALTER TABLE {name} SET {options}")
    return steps


def _options(statement: str) -> str:
    """What follows `WITH`, such as how full a page is made."""
    return statement.splitlines()[-1].partition("WITH ")[2].strip()


def _dropped(name: str, line: str) -> str:
    if not line.startswith("CONSTRAINT "):
        say(f"postgresql: {name} lost {line!r}, which has no name: write that by hand")
    return f"ALTER TABLE {name} DROP CONSTRAINT {line.split()[1]}"


def _must_have_values(name: str, before: str, after: str) -> None:
    for column, line in columns(after).items():
        if column not in columns(before) and "NOT NULL" in line and "DEFAULT" not in line:
            say(f"{name}.{column} has no value for old rows: give it a server_default, or write by hand where it comes from")


def draft(dialect: str) -> str:
    """The file that leads from the version before to this one."""
    make = for_sqlite if dialect == "sqlite" else for_postgresql
    steps = make(frozen(tables.VERSION - 1, dialect), present(dialect))
    return "".join(f"{step};\n\n" for step in steps).rstrip("\n") + "\n"


def say(text: str) -> None:
    """A remark for whoever drafts."""
    print(text, file=sys.stderr)


def main() -> None:
    for dialect in DIALECTS:
        if sys.argv[1:] == ["freeze"]:
            path = DATA / f"schema-{tables.VERSION}.{dialect}.sql"
            text = "".join(f"{statement};\n\n" for statement in present(dialect)).rstrip("\n") + "\n"
        else:
            path = FILES / dialect / f"{tables.VERSION:04}.sql"
            text = draft(dialect)
        path.write_text(text)
        say(f"wrote {path}")


if __name__ == "__main__":
    main()
