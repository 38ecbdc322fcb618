"""One request of a load, from sending to its end."""

from __future__ import annotations

from drills.load.http import Broken, Client, Hung
from drills.load.template import Ask, Reply


async def send(client: Client, ask: Ask, sentence: str, tokens: int) -> Reply:
    """Send the request and read the answer until it ends. Errors of the service are in the reply, not raised."""
    reply = Reply(ask.answer)
    try:
        await client.send(ask.method, ask.target(sentence, tokens), ask.content(sentence, tokens), reply)
        reply.complete()
    except Hung as error:
        reply.hung = reply.status in (None, 200)
        reply.detail = reply.detail or str(error)
    except Broken as error:
        reply.detail = reply.detail or str(error)
    reply.end = client.clock.now()
    return reply
