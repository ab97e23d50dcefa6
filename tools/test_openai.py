"""The openai client against a real `quarry serve`; see tools/test-clients."""

import asyncio
import json
import tempfile
from pathlib import Path

import openai

from quarry_server import CALLS, TOOL, check, eventually, metric, raises, scripted, serve

USER = [{"role": "user", "content": "What is granite?"}]


def models(client):
    listed = client.models.list().data
    check([model.id for model in listed] == ["local/pebble"], "the list of models")
    check(client.models.retrieve("local/pebble").id == "local/pebble", "a model by its id")


def chats(client):
    request = dict(model="local/pebble", messages=USER, seed=7, max_tokens=30)
    answer = client.chat.completions.create(**request)
    text = answer.choices[0].message.content
    check(len(text) > 10, "an answer")
    check(answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens,
          "usage")
    check(client.chat.completions.create(**request).choices[0].message.content == text, "the seed")

    stream = client.chat.completions.create(
        **request, stream=True, stream_options={"include_usage": True})
    pieces, usage, reasons = [], None, []
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            pieces.append(choice.delta.content or "")
            reasons.append(choice.finish_reason)
    check("".join(pieces) == text, "the stream says the same")
    check(usage == answer.usage or usage.completion_tokens == answer.usage.completion_tokens,
          "usage at the end of a stream")
    check([reason for reason in reasons if reason] == [answer.choices[0].finish_reason], "reasons")

    # The helper takes an answer that was cut for an error.
    ended = {**request, "max_tokens": 1000, "stop": text[5:9]}
    with client.chat.completions.stream(**ended) as events:
        content = events.get_final_completion().choices[0].message.content
    check(content == text[:text.index(text[5:9])], "the stream helper")

    several = client.chat.completions.create(**request, n=3, logprobs=True, top_logprobs=4)
    check(len(several.choices) == 3, "n")
    check(several.choices[0].message.content == text, "the first of several")
    for choice in several.choices:
        tokens = choice.logprobs.content
        check(b"".join(bytes(token.bytes) for token in tokens).decode() == choice.message.content,
              "bytes of tokens")
        check(all(len(token.top_logprobs) == 4 for token in tokens), "top_logprobs")

    cut = client.chat.completions.create(**request, stop=text[5:9])
    check(cut.choices[0].message.content == text[:text.index(text[5:9])], "stop")
    check(cut.choices[0].finish_reason == "stop", "finish_reason of stop")


def completions(client):
    scored = client.completions.create(
        model="local/pebble", prompt="Granite is a rock", echo=True, logprobs=1, max_tokens=0)
    logprobs = scored.choices[0].logprobs
    check("".join(logprobs.tokens) == "Granite is a rock", "echo")
    check(logprobs.token_logprobs[0] is None and all(v <= 0 for v in logprobs.token_logprobs[1:]),
          "scores")
    pieces = client.completions.create(
        model="local/pebble", prompt=["Granite", "Basalt"], max_tokens=8, temperature=0, stream=True)
    texts = ["", ""]
    for chunk in pieces:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    whole = client.completions.create(
        model="local/pebble", prompt=["Granite", "Basalt"], max_tokens=8, temperature=0)
    check(texts == [choice.text for choice in whole.choices], "streams of two prompts")


def errors(client, address):
    create = client.chat.completions.create
    raises(openai.NotFoundError, lambda: create(model="gpt-4o", messages=USER), "an unknown model")
    error = raises(openai.BadRequestError, lambda: create(
        model="local/pebble", messages=USER, response_format={"type": "json_object"}), "a format")
    check(error.param == "response_format", "the field at fault")
    raises(openai.BadRequestError, lambda: create(
        model="local/pebble", messages=USER, tools=[TOOL]), "tools without a template for them")
    raises(openai.BadRequestError, lambda: create(
        model="local/pebble", messages=USER, temperature=9), "a temperature")
    error = raises(openai.APIStatusError, lambda: create(
        model="local/pebble", messages=[{"role": "user", "content": "x" * (9 << 20)}]), "a large body")
    check(error.status_code == 413, "the status of a large body")
    stream = [create(model="local/pebble", messages=USER, stream=True, logit_bias={"0": -100})
              for _ in range(3)]
    raises(openai.RateLimitError, lambda: create(model="local/pebble", messages=USER), "a full queue")
    for one in stream:
        next(one)
        one.close()
        if one is stream[0]:
            eventually(lambda: metric(address, "quarry_requests_cancelled_total") > 0,
                       "a stream that is closed frees its slot")
    eventually(lambda: metric(address, "quarry_sequences_running") == 0, "slots are free")


async def asynchronously(address):
    client = openai.AsyncOpenAI(base_url=address + "/v1", api_key="none", max_retries=0)

    async def answer(seed):
        stream = await client.chat.completions.create(
            model="local/pebble", messages=USER, seed=seed, max_tokens=20, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    together = await asyncio.gather(*(answer(seed) for seed in range(3)))
    check(together == [await answer(seed) for seed in range(3)], "texts together and alone")

    # A task that is cancelled in the middle of an answer.
    before = metric(address, "quarry_requests_cancelled_total")
    task = asyncio.create_task(client.chat.completions.create(
        model="local/pebble", messages=USER, logit_bias={"0": -100}))
    while metric(address, "quarry_sequences_running") == 0:
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    eventually(lambda: metric(address, "quarry_requests_cancelled_total") > before, "cancelled task")
    await client.close()


def tools(client):
    request = dict(model="local/scripted", messages=USER, tools=[TOOL], temperature=0)
    choice = client.chat.completions.create(**request).choices[0]
    calls = choice.message.tool_calls
    check([(c.function.name, json.loads(c.function.arguments)) for c in calls] == CALLS, "calls")
    check(choice.message.content == "One moment.", "content beside calls")
    check(choice.message.reasoning_content == "Rain or sun?", "thoughts")
    check(choice.finish_reason == "tool_calls", "finish_reason of calls")
    with client.chat.completions.stream(**request) as events:
        final = events.get_final_completion().choices[0]
    check([(c.function.name, json.loads(c.function.arguments))
           for c in final.message.tool_calls] == CALLS, "streamed calls")
    check(final.finish_reason == "tool_calls", "finish_reason of streamed calls")
    messages = USER + [choice.message.model_dump(exclude_none=True)] + [
        {"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in calls]
    client.chat.completions.create(**{**request, "messages": messages})


def keys():
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "keys.txt"
        file.write_text("secret\n")
        with serve("--api-key-file", str(file)) as address:
            wrong = openai.OpenAI(base_url=address + "/v1", api_key="wrong", max_retries=0)
            raises(openai.AuthenticationError, wrong.models.list, "a wrong key")
            openai.OpenAI(base_url=address + "/v1", api_key="secret").models.list()


def main():
    with serve("--slots", "2", "--max-queue", "1") as address:
        client = openai.OpenAI(base_url=address + "/v1", api_key="none", max_retries=0)
        models(client)
        chats(client)
        completions(client)
        errors(client, address)
        asyncio.run(asynchronously(address))
    with scripted() as address:
        tools(openai.OpenAI(base_url=address + "/v1", api_key="none", max_retries=0))
    keys()
    print(f"test-clients: openai {openai.__version__}: chats, completions, tools, errors, keys")


main()
