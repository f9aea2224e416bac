"""Proof from the journal alone that what had finished before a kill did not run again after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from statecraft.cli.screen import count, dim, table
from statecraft.records import CallRecord

Key = tuple[int, str, int]
"""What names a call in the journal: visit, digest of the request, occurrence."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the journal says."""

    before: Mapping[Key, CallRecord]
    """Calls that were finished when the process was killed."""
    after: Sequence[CallRecord]
    """All calls of the run, at its end."""
    interrupted: int
    """The visit that the kill interrupted."""

    @property
    def times(self) -> Counter[Key]:
        """How often each call is recorded."""
        return Counter(key_of(call) for call in self.after)

    @property
    def lost(self) -> list[CallRecord]:
        """Calls of before that are gone, or are not what they were."""
        now = {key_of(call): call for call in self.after}
        return [call for key, call in self.before.items() if now.get(key) != call]

    @property
    def holds(self) -> bool:
        """Each call of before is there unchanged, and no call is there twice."""
        return not self.lost and not self.twice

    @property
    def twice(self) -> int:
        """How many calls are recorded more than once."""
        return sum(number > 1 for number in self.times.values())

    @property
    def recalled(self) -> list[Key]:
        """Calls that the new process found finished in the visit it had to run again."""
        return [key for key in self.before if key[0] == self.interrupted]


def prove(before: Sequence[CallRecord], after: Sequence[CallRecord], interrupted: int) -> Proof:
    """Compare the calls that were finished at the kill with the whole journal at the end."""
    return Proof({key_of(call): call for call in before}, after, interrupted)


def key_of(call: CallRecord) -> Key:
    """What names a call in the journal."""
    return call.seq, call.digest, call.occurrence


def proof_lines(proof: Proof, states: Mapping[int, str]) -> list[str]:
    """The proof for people: a line for each call, then the sums. `states` names the state of each visit."""
    epochs = sorted({call.epoch for call in proof.after})
    rows = [
        (
            states.get(call.seq, "?"),
            f"{call.kind} {call.name}",
            f"{call.finished_at:%H:%M:%S.%f}"[:-3],
            str(epochs.index(call.epoch) + 1),
            str(call.attempts),
            _verdict(proof, call),
        )
        for call in proof.after
    ]
    head = ("STATE", "CALL", "FINISHED", "PROCESS", "ATTEMPTS", "RECORDED")
    old, kept = len(proof.before), len(proof.before) - len(proof.lost)
    return [
        *table(rows, head=head, right=frozenset({3, 4})),
        "",
        f"{count(old, 'call')} finished before the kill: {kept} still recorded with the same instant and process.",
        f"{count(len(proof.recalled), 'call')} of the interrupted visit answered the new process from the journal.",
        f"{count(len(proof.after) - kept, 'call')} ran after it. Recorded twice: {proof.twice}.",
    ]


def _verdict(proof: Proof, call: CallRecord) -> str:
    key = key_of(call)
    if proof.times[key] > 1 or call in proof.lost:
        return click.style(f"{proof.times[key]} times", fg="red")
    if key in proof.recalled:
        return click.style("once; then recalled, not run", fg="green")
    return click.style("once", fg="green") if key in proof.before else dim("once, after the kill")
