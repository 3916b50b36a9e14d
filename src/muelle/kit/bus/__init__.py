"""How rooms tell each other what happened.

A fact is written to the *outbox* in the transaction of the change, *relayed* to the bus after it, and taken in once by
each consumer (the *inbox*). Two drivers carry it, with the same bytes: `memory` inside one process, `rabbit` between
processes. Both promise that what `publish` accepted is durable with every consumer; neither promises order, and either
may deliver twice: handlers have to work in any order, and the inbox sees to the rest.
"""

from muelle.kit.bus.facts import ALL, ANONYMOUS, Bus, Envelope, Fact, Origin, Subscription, Taker, origin
from muelle.kit.bus.inbox import Consumer, Inbox
from muelle.kit.bus.outbox import Outbox

__all__ = [
    "ALL",
    "ANONYMOUS",
    "Bus",
    "Consumer",
    "Envelope",
    "Fact",
    "Inbox",
    "Origin",
    "Outbox",
    "Subscription",
    "Taker",
    "origin",
]
