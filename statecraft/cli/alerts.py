"""`statecraft alerts`: what people were told, and whether it reaches them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from statecraft.cli.driving import reading, run_async
from statecraft.cli.exits import Exit
from statecraft.cli.screen import clip, count, table
from statecraft.cli.target import load_target, settings_for
from statecraft.cli.verb import LIMIT, Session, Verb, VerbGroup
from statecraft.clock import SystemClock, instant
from statecraft.errors import ConfigError, NotFound, StatecraftError
from statecraft.ids import RandomIds
from statecraft.records import DeliveryRecord

if TYPE_CHECKING:
    from statecraft.channel import Alert, Channel


@click.group(cls=VerbGroup)
@click.pass_context
def alerts(ctx: click.Context) -> Exit | None:
    """What people were told: list it, test a channel, deliver again."""
    if ctx.invoked_subcommand:
        return None
    return run_async(lambda: _list(ctx.obj, False, 20))


@alerts.command("list", cls=Verb)
@click.option("--failed", is_flag=True, help="Only what was given up.")
@click.option("--limit", type=LIMIT, default=20, show_default=True, help="At most this many, newest first.")
@click.pass_obj
def list_(session: Session, failed: bool, limit: int) -> Exit:
    """List alerts and what became of them, newest first."""
    return run_async(lambda: _list(session, failed, limit))


async def _list(session: Session, failed: bool, limit: int) -> Exit:
    async with reading(session) as rt:
        found = await rt.deliveries(failed=failed, limit=limit)
    if session.screen.as_json:
        session.screen.emit({"deliveries": found})
        return Exit.DONE
    now, when = instant(SystemClock().now()), session.screen.when
    rows = [
        (item.id, item.kind, item.channel, item.run_id or "", when(item.at, now), str(item.attempts), _fate(item))
        for item in found
    ]
    for line in table(rows, head=("ALERT", "KIND", "CHANNEL", "RUN", "SINCE", "TRIED", "FATE"), right=frozenset({5})):
        session.screen.data(line)
    if not found:
        session.screen.say("nothing was given up" if failed else "nothing was told")
    elif any(item.failed for item in found):
        session.screen.say(f"deliver again with: {session.command('alerts redeliver ALERT')}")
    return Exit.DONE


def _fate(item: DeliveryRecord) -> str:
    if item.delivered_at is not None:
        return "delivered"
    why = f": {clip(item.error, 60)}" if item.error else ""
    return f"{'given up' if item.failed else 'waits'}{why}"


@alerts.command(cls=Verb)
@click.argument("channel")
@click.argument("target")
@click.pass_obj
def test(session: Session, channel: str, target: str) -> Exit:
    """Send a test through CHANNEL, as the `settings` of TARGET's module declare it.

    A channel that was disabled is enabled again when the test arrives.
    """
    found = load_target(target)
    channels = {each.name: each for each in settings_for(found).channels}
    if channel not in channels:
        known = ", ".join(channels) or "none"
        raise ConfigError(f"the settings of {target} have no channel {channel!r}; they have: {known}")
    return run_async(lambda: _test(session, channels[channel]))


async def _test(session: Session, channel: Channel) -> Exit:
    from statecraft.alerts.courier import attempt

    clock = SystemClock()
    failure = await attempt(clock, channel, _trial(channel, clock.now()))
    if session.screen.as_json:
        told = {"channel": channel.name, "delivered": failure is None, "error": None if failure is None else str(failure)}
        session.screen.emit(told)
    elif failure is None:
        session.screen.data(f"delivered to {channel.name}")
    else:
        session.screen.data(f"not delivered to {channel.name}: {failure}")
    if failure is not None:
        return Exit.FAILED
    with contextlib.suppress(StatecraftError):  # There may be no database yet, and so nothing to enable.
        async with reading(session) as rt:
            await rt.enable(channel.name)
    return Exit.DONE


def _trial(channel: Channel, now: int) -> Alert:
    from statecraft.alerts.catalogue import alert_of
    from statecraft.channel import Kind
    from statecraft.store.outbox import Errand

    return alert_of(Errand(bytes.fromhex(RandomIds().trace_id()), Kind.TEST.value, now, 1, {"channel": channel.name}))


@alerts.command(cls=Verb)
@click.argument("alert")
@click.pass_obj
def redeliver(session: Session, alert: str) -> Exit:
    """Deliver ALERT again to all its channels, whatever became of it. A worker that has them sends it."""

    async def main() -> Exit:
        async with reading(session) as rt:
            ids = sorted({item.id for item in await rt.deliveries(alert=alert)})
            if len(ids) != 1:
                what = f"{alert!r} fits several alerts; give more digits" if ids else f"no alert {alert!r} was told"
                raise NotFound(f"{what}: {session.command('alerts list')} lists them")
            many = await rt.redeliver(ids[0])
        if session.screen.as_json:
            session.screen.emit({"alert": ids[0], "channels": many})
        else:
            session.screen.data(f"due again for {count(many, 'channel')}")
        return Exit.DONE

    return run_async(main)
