"""What people are told of runs, and the channels that carry it: at least once, each alert under one id.

Declare channels in `Settings(channels=(...))`; every process that has them delivers. `catalogue` lists the kinds.
"""

from statecraft.alerts.notify import Apprise
from statecraft.alerts.plain import Callback, Log
from statecraft.alerts.signature import BadSignature, verify
from statecraft.alerts.webhook import Webhook
from statecraft.channel import Alert, AlertPolicy, Channel, Kind, NotDelivered, ReminderPolicy

__all__ = [
    "Alert",
    "AlertPolicy",
    "Apprise",
    "BadSignature",
    "Callback",
    "Channel",
    "Kind",
    "Log",
    "NotDelivered",
    "ReminderPolicy",
    "Webhook",
    "verify",
]
