"""The clients of tools/load-test: asyncio on plain sockets, so that they can behave as badly as any."""

import asyncio
import json
import random
import socket
import struct
from collections import Counter
from contextlib import asynccontextmanager

QUESTION = "Name a stone and say where it is found."
BODY_LIMIT = 8 << 20
# No answer takes longer, with everybody else's before it; a client that waits for ever is a failure.
PATIENCE = 120


class Failed(Exception):
    """What a client got and should not have got."""


def request(path, body, head="Connection: close\r\n"):
    """A post of some bytes, or of what becomes JSON; usually the last on its connection."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{head}"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def chat(seed, **changes):
    messages = [{"role": "user", "content": QUESTION}]
    return request("/v1/chat/completions", {
        "messages": messages, "seed": seed, "max_tokens": 40, "stream": True, **changes})


def endless(seed):
    """A long answer: the token that ends it is forbidden."""
    return chat(seed, max_tokens=900, min_tokens=900)


@asynccontextmanager
async def connection(port, receive_buffer=None):
    """A reader and a writer, closed without a good-bye."""
    one = socket.socket()
    one.setblocking(False)
    if receive_buffer:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    # Closing resets the connection, whatever is under way.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=one, limit=receive_buffer or 1 << 16)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def head(reader):
    """The status of an answer, and whether its body comes in chunks."""
    try:
        text = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("no answer") from error
    return int(text.split(b" ", 2)[1]), b"transfer-encoding: chunked" in text.lower()


async def answer(port, data):
    """Status and body of a request."""
    async with connection(port) as (reader, writer):
        writer.write(data)
        await writer.drain()
        status, is_chunked = await head(reader)
        body = await reader.read()
    return status, b"".join(chunks(body)) if is_chunked else body


def chunks(body):
    while True:
        size, _, body = body.partition(b"\r\n")
        if not int(size or b"0", 16):
            return
        yield body[:int(size, 16)]
        body = body[int(size, 16) + 2:]


def streamed(body):
    """The text of a stream of chunks, which has to be whole."""
    events = [event[len("data: "):] for event in body.decode().split("\n\n")
              if event.startswith("data: ")]
    if events[-1:] != ["[DONE]"]:
        raise Failed(f"a stream without an end: {body[-200:]}")
    return "".join(choice["delta"].get("content") or ""
                   for event in events[:-1] for choice in json.loads(event)["choices"])


class Load:
    """What all clients share: whom they ask, what they should hear, and what they have done."""

    def __init__(self, port, texts):
        self.port, self.texts, self.done = port, texts, Counter()

    async def read(self, dice):
        """A whole answer, with the text that its seed has alone."""
        seed = dice.randrange(len(self.texts))
        status, body = await answer(self.port, chat(seed))
        if status != 200 or streamed(body) != self.texts[seed]:
            raise Failed(f"seed {seed}: {status} {body[:200]}")

    async def read_slowly(self, dice):
        """A long answer in sips, most of which waits at the server, and then the rest or nothing."""
        async with connection(self.port, receive_buffer=2048) as (reader, writer):
            writer.write(endless(dice.randrange(1000)))
            for _ in range(dice.randrange(20, 100)):
                await reader.read(128)
                await asyncio.sleep(0.1)
            while dice.random() < 0.98 and await reader.read(2048):
                pass

    async def leave(self, dice):
        """A client that goes away in the middle of an answer, or while it waits for one."""
        async with connection(self.port) as (reader, writer):
            writer.write(endless(dice.randrange(1000)))
            if dice.random() < 0.7:
                await reader.readuntil(b"data: ")
            await asyncio.sleep(dice.random() * 2)

    async def predict(self, dice):
        """A prediction, waited for or cancelled."""
        wait = dice.random() < 0.7
        tokens = 20 if wait else 900
        status, body = await answer(self.port, request(
            "/v1/models/local/pebble/predictions",
            {"input": {"prompt": QUESTION, "min_tokens": tokens, "max_tokens": tokens}},
            f"Connection: close\r\nPrefer: wait={60 if wait else 1}\r\n"))
        made = json.loads(body)
        if status not in (201, 202) or made["error"]:
            raise Failed(f"a prediction: {status} {body[:300]}")
        if wait and made["status"] != "succeeded":
            raise Failed(f"a prediction did not end: {body[:300]}")
        if not wait:
            status, body = await answer(
                self.port, request(f"/v1/predictions/{made['id']}/cancel", b""))
            if status != 200:
                raise Failed(f"to cancel: {status} {body[:300]}")

    async def misbehave(self, dice):
        """A body or a head that is none, and the status that it deserves."""
        expected, data = dice.choice(MISDEEDS)
        status, _ = await answer(self.port, data)
        if status != expected:
            raise Failed(f"{status} instead of {expected} for {data[:100]}")
        await asyncio.sleep(dice.random())

    async def flood(self, dice):
        """A body as large as they may be, which is not what it should be, or larger."""
        expected, data = dice.choice(FLOODS)
        async with connection(self.port) as (reader, writer):
            try:
                writer.write(data)
                await writer.drain()
                status, _ = await head(reader)
            except ConnectionError:
                # The server need not read to the end what it has refused.
                status = 413
        if status != expected:
            raise Failed(f"{status} instead of {expected} for a large body")
        await asyncio.sleep(dice.random() * 0.5)

    async def stop_half_way(self, dice):
        """A request of which the rest never comes."""
        async with connection(self.port) as (_, writer):
            data = chat(1)
            writer.write(data[:dice.randrange(1, len(data))])
            await asyncio.sleep(dice.random() * 3)

    async def client(self, number, kind, stopped):
        """One of many: does the same thing over and over."""
        dice = random.Random(number)
        while not stopped.is_set():
            try:
                await asyncio.wait_for(getattr(self, kind)(dice), PATIENCE)
            except TimeoutError as error:
                raise Failed(f"{kind}: no end within {PATIENCE} s") from error
            except OSError as error:
                raise Failed(f"{kind}: {error!r}") from error
            self.done[kind] += 1


PATH = "/v1/chat/completions"
MISDEEDS = [
    (400, request(PATH, b'{"messages": [')),
    (400, request(PATH, b"\xff\xfe" * 500)),
    (400, request(PATH, b"[" * 100_000)),
    (400, request(PATH, {"messages": [{"role": "user", "content": 7}]})),
    (400, request(PATH, {"messages": [], "max_tokens": -1})),
    (400, request(PATH, {"messages": [{"role": "user", "content": "stone " * 50_000}]})),
    (404, request(PATH, {"model": "x" * 10_000, "messages": []})),
    (404, request("/v1/" + "a/" * 1000, b"{}")),
    (405, request("/health", b"{}")),
    (422, request("/v1/predictions", {"version": "local/pebble", "input": {"top_k": "x"}})),
    (400, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"?" * 300 + b"\r\n\r\n"),
]
FLOODS = [
    (400, request(PATH, b" " * BODY_LIMIT)),
    (413, request(PATH, b" " * (BODY_LIMIT + 1))),
    (413, b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
          b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 140),
]
