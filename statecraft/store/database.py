"""The seam between the store and its database: what differs between SQLite and PostgreSQL, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import sqlalchemy as sa

from statecraft.errors import StoreError

if TYPE_CHECKING:
    from statecraft.store.statements import Row, Statement
    from statecraft.store.writes import Step


class Link(Protocol):
    """The one connection that writes, with its transactions in plain sight."""

    gate: AbstractContextManager[object]
    """Held around each transaction; a real lock only if readers share the connection."""

    @property
    def sql(self) -> sa.Connection:
        """For SQLAlchemy statements inside the transaction at hand."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open; some errors end it behind our back."""
        ...

    @property
    def shift(self) -> int:
        """Microseconds from our clock to the database's, where lease times are compared on the latter; else 0."""
        ...

    def begin(self) -> None:
        """Open a transaction. A connection that was lost meanwhile is made anew."""
        ...

    def hold(self, writes: Sequence[Step]) -> None:
        """Keep what these writes look at as it is, from the next statement on, until the transaction ends, against every other
        writer."""
        ...

    def run(self, work: Sequence[tuple[Statement, Sequence[Row]]]) -> Iterator[int]:
        """Run statements, each for all its rows; answer for each how many rows of the database it touched. What fails is
        raised in its place, after the answers of those before it."""
        ...

    def commit(self) -> None:
        """Raises `StoreUnavailable`, or an error of the database, if nothing was kept or if that cannot be told."""
        ...

    def rollback(self) -> None:
        """Give up the transaction, if one is open."""
        ...

    def mark(self) -> None:
        """Set the point that `undo` goes back to."""
        ...

    def keep(self) -> None:
        """Forget the mark; what was done since stays in the transaction."""
        ...

    def undo(self) -> None:
        """Take back everything since the mark."""
        ...

    def execute(self, sql: str) -> None:
        """Run a statement of the database's own language, such as a PRAGMA."""
        ...

    def close(self) -> None:
        """Give up what is not committed, and the connection."""
        ...


class Database(Protocol):
    """One database: its writing connection, its readers, what its errors mean."""

    @property
    def target(self) -> object:
        """Where it is, as text that may be shown: it holds no password."""
        ...

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What it raises, straight from its driver or through SQLAlchemy."""
        ...

    @property
    def shared(self) -> bool:
        """Whether tables of other programs may stand beside ours."""
        ...

    def check_place(self) -> None:
        """Raise `StoreUnavailable` if it cannot be there at all."""
        ...

    def writer(self) -> Link:
        """Open the connection that writes."""
        ...

    def settle(self, link: Link) -> None:
        """What must be set outside a transaction before the schema is made."""
        ...

    def hold_schema(self, link: Link) -> None:
        """Let nobody else look whether there is a schema, until the transaction ends."""
        ...

    def rules(self) -> list[str]:
        """Statements that follow the tables: the rules that no constraint can say."""
        ...

    def reader(self, *, indexed: bool = False) -> AbstractContextManager[sa.Connection]:
        """A consistent view of the database, for a `with` block; `indexed` for questions that indexes answer, asked all the
        time."""
        ...

    def feed_end(self, sql: sa.Connection, /) -> int | None:
        """The position of the feed up to which every entry that will ever be is committed; None: there is no other."""
        ...

    def lost(self, error: BaseException, /) -> bool:
        """Whether the connection is gone, so that whatever else is asked on it fails as well."""
        ...

    def again(self, error: BaseException, /) -> bool:
        """Whether another writer was in the way, so that the same writes, done anew, may well succeed."""
        ...

    def translate(self, error: BaseException) -> StoreError:
        """What an error means, in one line: what happened, where, and what to do."""
        ...

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake`, on a thread of its own, whenever another process may have made something due."""
        ...

    @property
    def shift(self) -> int:
        """As of the link that writes."""
        ...

    def dispose(self) -> None:
        """Close every connection."""
        ...
