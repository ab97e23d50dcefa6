"""Clients that load the service, and judge what it says."""

import asyncio
import json

import aiohttp
from yarl import URL

from cluster import check

# Nothing ends these before they are as long as they may be.
REQUESTS = [
    {"model": "local/pebble", "messages": [{"role": "user", "content": f"What is {i} and granite?"}],
     "seed": i, "max_tokens": 250, "logit_bias": {"0": -100}} for i in range(12)]
CLIENTS = 14
LONG = {**REQUESTS[0], "n": 4, "max_tokens": 1000}


def text(body: dict) -> str:
    return body["choices"][0]["message"]["content"]


class Client:
    def __init__(self, session: aiohttp.ClientSession, address: str, expected: list[str]):
        self.session, self.address, self.expected = session, address, expected
        self.whole = self.ended = 0

    async def ask(self, path: str, body=None, status=200):
        method = "GET" if body is None else "POST"
        url = URL(self.address + path, encoded=True)
        async with self.session.request(method, url, json=body) as answer:
            body = await answer.json()
            check(answer.status == status, f"{path}: {answer.status} {body}")
            return body

    async def until_ready(self):
        while True:
            try:
                return await self.ask("/health")
            except (aiohttp.ClientError, SystemExit):
                await asyncio.sleep(0.5)

    async def events(self, body):
        async with self.session.post(
                self.address + "/v1/chat/completions", json={**body, "stream": True}) as answer:
            check(answer.status == 200, f"a stream: {answer.status}")
            async for line in answer.content:
                if line.startswith(b"data: "):
                    yield line[6:].strip()

    async def stream(self, body) -> tuple[str, bool]:
        """The text of the first choice, and whether it is whole; if not, an error must say so."""
        pieces, end = [], None
        async for event in self.events(body):
            check(end is None, f"nothing comes behind the end: {event}")
            if event == b"[DONE]":
                end = True
                continue
            event = json.loads(event)
            if "error" in event:
                check(event["error"]["code"] == "server_lost", f"an error: {event}")
                end = False
                continue
            pieces += [choice["delta"].get("content", "") for choice in event["choices"]
                       if choice["index"] == 0]
        check(end is not None, "a stream that ends says why")
        return "".join(pieces), end

    async def load(self, stop: asyncio.Event, number: int):
        """Streams and plain answers in turns, each as it is without a cluster."""
        while not stop.is_set():
            number = (number + 5) % len(REQUESTS)
            if number % 3 == 0:
                body = await self.ask("/v1/chat/completions", REQUESTS[number])
                check(text(body) == self.expected[number], "an answer under load")
                self.whole += 1
                continue
            said, whole = await self.stream(REQUESTS[number])
            check(self.expected[number].startswith(said), "a stream under load")
            check(not whole or said == self.expected[number], "a whole stream under load")
            self.whole += whole
            self.ended += not whole

    def goes_on(self):
        """Whether each of the load's clients has had an answer, in the mean, since this was called."""
        before = self.whole

        async def more():
            return self.whole >= before + CLIENTS

        return more
