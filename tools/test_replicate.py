"""The replicate client against a real `quarry serve`; see tools/test-clients."""

import asyncio
import json
import os
import signal
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

os.environ["REPLICATE_API_TOKEN"] = "none"  # before the client looks for it

import replicate
from replicate.exceptions import ModelError, ReplicateError
from replicate.pagination import paginate

from quarry_server import check, eventually, raises, serve, start

MODEL = "ibm-granite/granite-3.3-8b-instruct"
INPUT = {"prompt": "What is granite?", "seed": 7, "max_tokens": 30}
ENDLESS = {"prompt": "What is granite?", "min_tokens": 8000, "max_tokens": 8000, "stream": True}


def models(client):
    model = client.models.get(MODEL)
    check(f"{model.owner}/{model.name}" == "local/pebble", "the owner and name of the model")
    version = model.latest_version
    check(len(version.id) == 64, "the version")
    inputs = version.openapi_schema["components"]["schemas"]["Input"]["properties"]
    check(min(inputs, key=lambda name: inputs[name]["x-order"]) == "prompt", "prompt is first")
    check([v.id for v in model.versions.list()] == [version.id], "versions")
    check(model.versions.get(version.id).id == version.id, "a version")
    check([m.name for m in client.models.list()] == ["pebble"], "the list of models")
    raises(ReplicateError, lambda: client.models.get("a/b"), "an unknown model")
    return version.id


def runs(client, version):
    text = "".join(client.run(MODEL, input=INPUT))
    check(len(text) > 10, "run")
    check("".join(client.run(f"{MODEL}:{version}", input=INPUT)) == text, "run of a version")
    check("".join(client.run(MODEL, input=INPUT, wait=False)) == text, "run that polls")
    for reference in (MODEL, f"local/pebble:{version}"):
        events = list(client.stream(reference, input=INPUT))
        check("".join(str(event) for event in events) == text, "stream")
        check(events[-1].event.value == "done", "the end of a stream")
    pieces = client.run(MODEL, input={**INPUT, "stream": True})
    check(len(pieces) > 5 and "".join(pieces) == text, "pieces")
    messages = [{"role": "user", "content": INPUT["prompt"]}]
    chat = client.run(MODEL, input={"messages": messages, "seed": 7, "max_tokens": 30})
    check(len(chat) == 1 and '"object":"chat.completion"' in chat[0], "messages")
    error = raises(ModelError, lambda: client.run(MODEL, input={}), "nothing to answer")
    check(str(error) == "No messages or prompt inputs specified", "the error's text")
    error = raises(ReplicateError, lambda: client.run(MODEL, input={"top_k": "x"}), "a wrong kind")
    check(error.status == 422 and "top_k" in error.detail, "the field at fault")


def predictions(client, version):
    made = client.predictions.create(version=version, input=INPUT)
    made.wait()
    check(made.status == "succeeded" and made.metrics["token_output_count"] > 0, "create and wait")
    check(client.predictions.get(made.id).output == made.output, "get")
    check("".join(str(event) for event in made.stream()) == "".join(made.output), "stream of one")

    start = time.monotonic()
    slow = client.models.predictions.create(model=MODEL, input=ENDLESS, wait=1)
    check(time.monotonic() - start < 1.5 and slow.status == "starting", "wait=1")
    slow.reload()
    check(slow.status == "processing", "what goes on after waiting")
    slow.cancel()
    check(slow.status == "canceled", "cancel")
    check(client.predictions.get(slow.id).status == "canceled", "what is cancelled stays so")

    running = [client.predictions.create(version=version, input=ENDLESS) for _ in range(3)]
    check(running[2].status == "starting", "one that waits")
    running[2].cancel()
    check(client.predictions.get(running[2].id).status == "canceled", "cancelled while it waits")
    for one in running:
        one.cancel()
    listed = client.predictions.list()
    check([p.id for p in listed.results[:4]] == [p.id for p in (*reversed(running), slow)], "list")


async def asynchronously(client):
    texts = await asyncio.gather(*(
        client.async_run(MODEL, input={**INPUT, "seed": seed}) for seed in range(3)))
    alone = [client.run(MODEL, input={**INPUT, "seed": seed}) for seed in range(3)]
    check(texts == alone, "texts together and alone")
    stream = await client.async_stream(MODEL, input={**INPUT, "seed": 0})
    check("".join([str(event) async for event in stream]) == "".join(alone[0]), "async stream")
    made = await client.predictions.async_create(model=MODEL, input=INPUT)
    await made.async_wait()
    check(made.status == "succeeded", "async create and wait")
    page = await client.predictions.async_list()
    check(page.results[0].id == made.id, "async list")


def pages(client):
    made = []
    while len(made) < 230:
        made.append(client.models.predictions.create(model=MODEL, input={}).id)
    found = [p.id for page in paginate(client.predictions.list) for p in page]
    check(found[:230] == made[::-1], "pages")


def webhooks():
    """Calls that the client finds well signed."""
    received = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            received.append((dict(self.headers), body))
            # The end is told again.
            self.send_response(500 if '"succeeded"' in body and len(received) < 3 else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as receiver, \
            serve("--allow-private-webhooks") as address:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        client = replicate.Client(base_url=address, api_token="none")
        secret = client.webhooks.default.secret()
        made = client.models.predictions.create(
            model=MODEL, input=INPUT, webhook=f"http://127.0.0.1:{receiver.server_port}/hook",
            webhook_events_filter=["start", "completed"])
        eventually(lambda: len(received) == 3, "three calls")
        receiver.shutdown()
        for headers, body in received:
            replicate.webhooks.validate(
                headers=headers, body=body, secret=secret, tolerance=60)
        sent = [json.loads(body) for _, body in received]
        check([one["status"] for one in sent] == ["processing", "succeeded", "succeeded"], "calls")
        check(sent[2]["output"] == client.predictions.get(made.id).output, "what is sent")


def restarts(directory):
    data = directory / "state"
    process, address = start("--data", str(data))
    client = replicate.Client(base_url=address, api_token="none")
    done = client.predictions.create(model=MODEL, input=INPUT)
    done.wait()
    running = client.predictions.create(model=MODEL, input=ENDLESS)
    eventually(lambda: client.predictions.get(running.id).status == "processing", "it runs")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process, address = start("--data", str(data))
    client = replicate.Client(base_url=address, api_token="none")
    check(client.predictions.get(done.id).output == done.output, "what is kept")
    lost = client.predictions.get(running.id)
    check(lost.status == "failed" and "the server ended" in lost.error, "what ran")
    process.terminate()
    check(process.wait() == 0, "the end")


def main():
    with tempfile.TemporaryDirectory() as name, serve("--slots", "2") as address:
        client = replicate.Client(base_url=address, api_token="none")
        version = models(client)
        runs(client, version)
        predictions(client, version)
        asyncio.run(asynchronously(client))
        pages(client)
        restarts(Path(name))
    webhooks()
    print(f"test-clients: replicate {replicate.__about__.__version__}: runs, streams, predictions, "
          "pages, restarts, webhooks")


main()
