"""A replica: one `quarry serve` on its node."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator

import aiohttp
from yarl import URL

from child import bound
from exchange import EVENT_STREAM, Head, Request, passed_on
from settings import Settings

log = logging.getLogger("ray.serve")


class ServerError(Exception):
    pass


class Server:
    """Lives as long as its process. When that ends by itself the replica ends too, at once: Ray then
    sends it nothing more, starts another, and the requests that were here fail where they can be tried
    again. A replica that stayed would draw requests, being the least busy of all."""

    async def __init__(self, settings: Settings):
        self.ending = False
        self.process = await asyncio.create_subprocess_exec(
            *bound(settings.command()), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE)
        self.address = (await self.process.stdout.readline()).decode().strip()
        # A connection for each request: nothing of one client's answer can get into another's.
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True), cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None))
        while not await self.is_ready():
            if not self.address or self.process.returncode is not None:
                raise RuntimeError(
                    f"quarry serve ended with {await self.process.wait()}; its words are in this node's log")
            await asyncio.sleep(0.1)
        self.watch = asyncio.create_task(self.follow())

    async def follow(self) -> None:
        status = await self.process.wait()
        if not self.ending:
            log.error("quarry serve ended with %d, and this replica with it", status)
            os._exit(1)

    async def is_ready(self) -> bool:
        try:
            async with self.session.get(self.address + "/health") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, ValueError):
            return False  # it has ended, perhaps before it had an address

    async def check_health(self) -> None:
        """Ray asks now and then, and replaces a replica that throws, or says nothing."""
        if not await self.is_ready():
            raise RuntimeError("quarry serve is not ready any more")

    async def forward(self, request: Request) -> AsyncIterator[Head | bytes]:
        """The answer of the process; that nobody wants it any more closes the connection to it, which
        frees the slot."""
        try:
            async with self.session.request(
                request.method, URL(self.address + request.target, encoded=True),
                headers=passed_on(request.headers), data=request.body or None, allow_redirects=False,
            ) as answer:
                yield Head(answer.status, passed_on(answer.headers.items()))
                # Of whatever is not a stream, all or nothing: what was not sent can be asked for again.
                if answer.content_type != EVENT_STREAM:
                    yield await answer.read()
                    return
                rest = b""
                async for piece in answer.content.iter_any():
                    events, boundary, rest = (rest + piece).rpartition(b"\n\n")
                    if boundary:
                        yield events + boundary
        except aiohttp.ClientError as error:
            # Its own errors do not travel.
            raise ServerError(f"{request.method} {request.target}: {error}") from None

    async def __del__(self) -> None:
        """Ray calls this when the last of the answers has ended."""
        self.ending = True
        if self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()
        await self.session.close()
