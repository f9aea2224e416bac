"""One batch, one transaction; and when something in it is refused, only the guilty write fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from statecraft.errors import Fenced, NotFound, Refused, StatecraftError, StoreFull, StoreUnavailable, WriteRefused
from statecraft.store import claims, fairness, families
from statecraft.store import statements as s
from statecraft.store.database import Database, Link
from statecraft.store.explain import Short, explain
from statecraft.store.look import look
from statecraft.store.port import Reserve, Start
from statecraft.store.skew import later
from statecraft.store.writes import ALONE, Plain, Rows, Step, rows_of, waves

Outcome = object
"""What a write answers, or the exception that refuses it."""

Probe = Callable[[str], None]
"""Called with `before` just before and `after` just after each commit; for tests that crash there."""

_STARTS = 6
"""How often a write is begun anew because another process's writer was in its way."""

_STARTS_TOGETHER = 3
"""How often many are, before each goes by itself: alone it holds little that another may wait for crosswise."""


class _Again(Exception):
    """Another writer was in the way; nothing was kept."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Applier:
    """Makes batches of writes durable over the one writing connection. Not for use by several at once."""

    def __init__(self, link: Link, database: Database, probe: Probe | None) -> None:
        self._link = link
        self._database = database
        self._probe = probe or _unprobed
        self._reserved = False
        """Whether anything was ever reserved through us. Who records a call is who reserved for it, so if not, no call
        has anything to give back."""

    def commit(self, writes: Sequence[Step]) -> list[Outcome]:
        """Apply the writes in order and commit; one outcome each. Raises only what the probe raises."""
        with self._link.gate:
            try:
                return self._do(writes)
            except BaseException:
                self._link.rollback()
                raise

    def _do(self, writes: Sequence[Step]) -> list[Outcome]:
        """All in one transaction, begun anew as long as somebody else is in the way."""
        for start in range(1, _STARTS + 1):
            try:
                return self._together(writes)
            except _Again as again:
                self._link.rollback()
                if len(writes) > 1 and start == _STARTS_TOGETHER:
                    return self._one_by_one(writes)
                if start == _STARTS:
                    return self._all(writes, again.error)
        raise AssertionError("unreachable")

    def _together(self, writes: Sequence[Step]) -> list[Outcome]:
        """All in one transaction, the usual case."""
        try:
            self._begin(writes)
            answers = self._apply(writes)
        except Exception as error:  # noqa: BLE001  # Whatever a write is made of must not stop the others.
            self._unless_again(error)
            if len(writes) == 1:
                return [self._refuse(writes[0], error)]
            self._link.rollback()
            return self._apart(writes) if self._innocent(error) else self._all(writes, error)
        return self._end(writes, answers)

    def _begin(self, writes: Sequence[Step]) -> None:
        self._link.begin()
        self._link.hold(writes)

    def _end(self, writes: Sequence[Step], answers: list[Outcome]) -> list[Outcome]:
        self._probe("before")
        try:
            self._link.commit()
        except Exception as error:
            if not isinstance(error, (StoreUnavailable, *self._database.errors)):
                raise
            self._unless_again(error)
            self._link.rollback()
            if len(writes) == 1:
                return self._all(writes, error)
            return self._one_by_one(writes) if self._innocent(error) else self._all(writes, error)
        self._probe("after")
        return answers

    def _apart(self, writes: Sequence[Step]) -> list[Outcome]:
        """Each write under its own savepoint, all in one transaction: a refused one leaves no trace, the others land."""
        outcomes: list[Outcome] = []
        try:
            self._begin(writes)
        except Exception as error:  # noqa: BLE001  # As above.
            self._unless_again(error)
            self._link.rollback()
            return self._one_by_one(writes) if self._innocent(error) else self._all(writes, error)
        try:
            for write in writes:
                self._link.mark()
                try:
                    outcomes += self._apply([write])
                except Exception as error:  # As above.
                    self._unless_again(error)
                    if not self._innocent(error):
                        raise
                    if not self._link.in_transaction:
                        return self._one_by_one(writes)
                    self._link.undo()
                    outcomes.append(self._explained(write, error))
                else:
                    self._link.keep()
        except _Again:
            raise
        except Exception as error:  # noqa: BLE001  # As above.
            self._link.rollback()
            return self._all(writes, error)
        return self._end(writes, outcomes)

    def _one_by_one(self, writes: Sequence[Step]) -> list[Outcome]:
        """Each write in its own transaction: the last resort, when there is none that they could share."""
        return [outcome for write in writes for outcome in self._do([write])]

    def _apply(self, writes: Sequence[Step]) -> list[Outcome]:
        answers: list[Outcome] = []
        for wave in waves(writes):
            rows = Rows()
            if isinstance(wave[0], ALONE):
                answers.append(self._look(wave[0], rows))
            else:
                answers += self._gather(wave, rows)  # type: ignore[arg-type]  # waves keeps the two sorts apart
            if not self._reserved:
                rows.pop(s.UNRESERVE, None)
            self._put(rows)
            while rows.ended:
                rows = families.follow(self._link.sql, rows.ended)
                self._put(rows)
        return answers

    def _put(self, rows: Rows) -> None:
        work = [(statement, rows[statement]) for statement in s.IN_ORDER if rows.get(statement)]
        for (statement, given), touched in zip(work, self._link.run(work), strict=True):
            if statement.exact and touched != len(given):
                raise Short(statement)

    def _look(self, write: Step, rows: Rows) -> Outcome:
        """The rows of a write that looks first. If it is refused, nothing was written, so the others may go on."""
        self._reserved = self._reserved or isinstance(write, Reserve)
        shift = self._link.shift
        try:
            if shift:
                return later(look(self._link.sql, later(write, shift), rows), -shift)
            return look(self._link.sql, write, rows)
        except (Refused, NotFound, Fenced) as refusal:
            return refusal

    def _gather(self, wave: Sequence[Plain], rows: Rows) -> list[Outcome]:
        """The rows of many writes, by statement, so that each statement runs once."""
        starts = [write for write in wave if isinstance(write, Start)]
        keys = [write.key for write in starts if write.key is not None]
        owners = claims.owners_of(self._link.sql, keys) if keys else {}
        if starts:
            new = [write for write in starts if write.key is None or write.key not in owners]
            rows.turns = fairness.turns(self._link.sql, new)
        answers: list[Outcome] = []
        for write in wave:
            if isinstance(write, Start):
                owner = None if write.key is None else owners.get(write.key)
                answers.append(owner or write.transition.run_id)
                if owner is not None:
                    continue
            else:
                answers.append(None)
            rows_of(write, rows)
        return answers

    # --- what went wrong ---------------------------------------------------------------------------------------------

    def _unless_again(self, error: Exception) -> None:
        if self._database.again(error):
            raise _Again(error) from error

    def _innocent(self, error: Exception) -> bool:
        """Whether the other writes of the batch may be well: it is not the database as a whole that fails."""
        if not isinstance(error, self._database.errors):
            return not isinstance(error, StoreUnavailable)
        return isinstance(self._database.translate(error), WriteRefused | StoreFull)

    def _refuse(self, write: Step, error: Exception) -> Exception:
        """End the transaction of a single write that failed, and say why it did."""
        self._link.rollback()
        return self._explained(write, error)

    def _explained(self, write: Step, error: Exception) -> Exception:
        try:
            return explain(self._link.sql, write, self._plain(error))
        except self._database.errors as second:
            return self._plain(second)

    def _plain(self, error: Exception) -> Exception:
        if isinstance(error, StatecraftError | Short):
            return error
        told = (
            self._database.translate(error)
            if isinstance(error, self._database.errors)
            else WriteRefused(f"it cannot be stored: {error!r}")
        )
        told.__cause__ = error
        return told

    def _all(self, writes: Sequence[Step], error: Exception) -> list[Outcome]:
        return [self._plain(error) for _ in writes]


def _unprobed(_: str) -> None: ...
