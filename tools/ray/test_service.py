"""The service on two nodes, one of them killed under load; see tools/ray/test."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import yaml

from client import CLIENTS, LONG, REQUESTS, Client, text
from cluster import BIN, HERE, SMALL, check, children, eventually, listening, two_nodes
from front import AGAIN

PROGRAM = os.path.abspath(sys.argv[1])


def expected_texts(folder: Path) -> list[str]:
    """What the model says without a cluster."""
    requests, answers = folder / "requests.jsonl", folder / "answers.jsonl"
    requests.write_text("".join(
        json.dumps({"custom_id": str(i), "method": "POST", "url": "/v1/chat/completions", "body": body})
        + "\n" for i, body in enumerate(REQUESTS)))
    subprocess.run([PROGRAM, "batch", requests, "-o", answers], check=True, capture_output=True)
    return [text(json.loads(line)["response"]["body"]) for line in answers.read_text().splitlines()]


@contextmanager
def service(cluster, folder: Path):
    """The address of the application of serve.yaml, by the command that is in it."""
    config = yaml.safe_load((HERE / "serve.yaml").read_text())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config["http_options"]["port"] = port
    config["applications"][0]["args"].update(
        program=PROGRAM, min_replicas=1, max_replicas=2, max_queue=16,
        autoscaling={"upscale_delay_s": 1, "downscale_delay_s": 3, "look_back_period_s": 3})
    file = folder / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    log = folder / "serve.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [BIN / "serve", "run", "--address", cluster.address, "--working-dir", HERE, file],
            stdout=output, stderr=output)
    try:
        yield f"http://127.0.0.1:{port}"
        check(AGAIN in log.read_text(), "requests of lost servers go to others")
    except BaseException:
        print(log.read_text()[-8_000:], file=sys.stderr)
        raise
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
    eventually(lambda: not children(PROGRAM, "serve"), "the servers end with the service")


async def metric(client: Client, name: str) -> float:
    """Of the only server, asked by itself."""
    async with client.session.get(listening(children(PROGRAM, "serve")[0]) + "/metrics") as answer:
        line = next(line for line in (await answer.text()).splitlines() if line.startswith(name + "{"))
        return float(line.rsplit(" ", 1)[1])


async def until(condition, what, seconds=90):
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.2)
    print("service:", what, flush=True)


async def asks(client: Client):
    check([m["id"] for m in (await client.ask("/v1/models"))["data"]] == ["local/pebble"], "models")
    for path in ("/v1/models/local/pebble", "/v1/models/local%2Fpebble"):
        check((await client.ask(path))["id"] == "local/pebble", path)
    tokens = (await client.ask("/tokenize", {"content": "Granite is a rock"}))["tokens"]
    check((await client.ask("/detokenize", {"tokens": tokens}))["content"] == "Granite is a rock",
          "tokens and back")
    await client.ask("/apply-template", {"messages": REQUESTS[0]["messages"]})
    await client.ask("/v1/completions", {"prompt": "Granite", "max_tokens": 4})
    for path in ("/metrics", "/v1/predictions"):
        await client.ask(path, status=404)
    error = await client.ask("/v1/chat/completions", {"messages": "none"}, status=400)
    check(error["error"]["type"] == "invalid_request_error", "the server's own errors")
    page = {"Origin": "http://elsewhere.example"}
    async with client.session.get(client.address + "/v1/models", headers=page) as answer:
        check(answer.status == 403, "pages of other sites are kept out, as by one server")
    check(text(await client.ask("/v1/chat/completions", REQUESTS[1])) == client.expected[1], "an answer")
    check(await client.stream(REQUESTS[1]) == (client.expected[1], True), "a stream")


async def leaves(client: Client):
    events = client.events(LONG)
    async for event in events:
        if b'"content":""' not in event:
            break
    check(await metric(client, "quarry_sequences_running") > 0, "a stream comes while it is written")
    await events.aclose()

    async def is_free():
        return (await metric(client, "quarry_requests_cancelled_total") > 0
                and await metric(client, "quarry_sequences_running") == 0)

    await until(is_free, "a client that leaves frees the slots")


async def overflows(client: Client):
    """More at once than two servers and the queue take."""
    async def status():
        async with client.session.post(
                client.address + "/v1/chat/completions", json={**LONG, "stream": True}) as answer:
            if answer.status == 429:
                check(answer.headers["Retry-After"] and "error" in await answer.json(), "a refusal")
            return answer.status

    codes = await asyncio.gather(*(status() for _ in range(40)))
    check(set(codes) == {200, 429}, f"a full queue: {codes}")


async def test(cluster, other, client: Client):
    def servers():
        return children(PROGRAM, "serve")

    async def grown():
        return len(servers()) == 2

    async def replaced():
        return killed not in servers() and len(servers()) == 2

    await client.until_ready()
    await asks(client)
    await leaves(client)

    stop = asyncio.Event()
    load = [asyncio.create_task(client.load(stop, i)) for i in range(CLIENTS)]
    await until(grown, "load starts another server")
    await until(client.goes_on(), "answers are whole")
    check(client.ended == 0, "nothing is lost while nothing is killed")

    for _ in range(3):
        killed = servers()[0]
        os.kill(killed, signal.SIGKILL)
        await until(replaced, "a server that is killed is replaced")
        await until(client.goes_on(), "answers go on")
        if client.ended:  # it may have been at other than streams
            break
    check(client.ended > 0, "streams of the server say that they are not whole")

    cluster.remove_node(other, allow_graceful=False)
    cluster.add_node(**SMALL)
    await until(grown, "a node that is killed is replaced")
    await until(client.goes_on(), "answers go on")
    stop.set()
    await asyncio.gather(*load)
    await overflows(client)

    whole = []

    async def lasting():
        while len(servers()) > 1:
            whole.append((await client.stream(LONG))[1])

    async with asyncio.timeout(120):
        await asyncio.gather(lasting(), lasting())
    check(all(whole), "answers end on a server that is not needed any more")
    print(f"service: {client.whole} whole answers under load, {client.ended} streams ended with an "
          f"error, none silently; {len(whole)} long streams while a server was removed")


async def run(cluster, other, address, expected):
    async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_read=120)) as session:
        await test(cluster, other, Client(session, address, expected))


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected = expected_texts(folder)
        with two_nodes() as (cluster, other):
            with service(cluster, folder) as address:
                asyncio.run(run(cluster, other, address, expected))


if __name__ == "__main__":
    main()
