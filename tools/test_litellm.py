"""LiteLLM against a real `quarry serve`; see tools/test-clients."""

import asyncio
import json
import os
from importlib.metadata import version

# Prices and lists of models come with the package; nobody else is asked for newer ones.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm

from quarry_server import CALLS, TOOL, check, eventually, metric, raises, scripted, serve

USER = [{"role": "user", "content": "What is granite?"}]
litellm.telemetry = False
litellm.suppress_debug_info = True


def chats(options):
    request = dict(**options, model="openai/local/pebble", messages=USER, seed=7, max_tokens=30)
    answer = litellm.completion(**request)
    text = answer.choices[0].message.content
    check(len(text) > 10, "an answer")
    check(answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens,
          "usage")
    chunks = list(litellm.completion(**request, stream=True, stream_options={"include_usage": True}))
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    check(len(pieces) > 5 and "".join(pieces) == text, "the stream says the same")
    built = litellm.stream_chunk_builder(chunks, messages=USER)
    check(built.choices[0].message.content == text, "a stream that is put together")
    check(built.usage.completion_tokens == answer.usage.completion_tokens, "usage of a stream")
    check(built.choices[0].finish_reason == answer.choices[0].finish_reason, "finish_reason")
    again = asyncio.run(litellm.acompletion(**request))
    check(again.choices[0].message.content == text, "asynchronously")
    cut = litellm.completion(**request, stop=text[5:9])
    check(cut.choices[0].message.content == text[:text.index(text[5:9])], "stop")
    completed = litellm.text_completion(
        **options, model="text-completion-openai/local/pebble", prompt="Granite is", max_tokens=9)
    check(completed.choices[0].text, "completions")


def tools(options):
    request = dict(
        **options, model="openai/local/scripted", messages=USER, tools=[TOOL], temperature=0)
    message = litellm.completion(**request).choices[0].message
    check(named(message.tool_calls) == CALLS, "calls")
    check(message.content == "One moment.", "content beside calls")
    check(message.reasoning_content == "Rain or sun?", "thoughts")
    chunks = list(litellm.completion(**request, stream=True))
    choice = litellm.stream_chunk_builder(chunks, messages=USER).choices[0]
    check(named(choice.message.tool_calls) == CALLS, "streamed calls")
    check(choice.message.reasoning_content == "Rain or sun?", "streamed thoughts")
    check(choice.finish_reason == "tool_calls", "finish_reason of streamed calls")
    results = [{"role": "tool", "tool_call_id": call.id, "content": "rain"}
               for call in message.tool_calls]
    litellm.completion(**{**request, "messages": [*USER, message, *results]})


def named(calls):
    return [(call.function.name, json.loads(call.function.arguments)) for call in calls]


def errors(options, address):
    def create(**changes):
        request = {**options, "model": "openai/local/pebble", "messages": USER, **changes}
        return litellm.completion(**request)

    raises(litellm.NotFoundError, lambda: create(model="openai/gpt-4o"), "an unknown model")
    raises(litellm.BadRequestError, lambda: create(temperature=9), "a temperature")
    raises(litellm.BadRequestError, lambda: create(response_format={"type": "json_object"}),
           "a format")
    long = [{"role": "user", "content": "granite " * 20000}]
    raises(litellm.ContextWindowExceededError, lambda: create(messages=long), "a long prompt")
    # Its class is told by words of the message.
    long = [{"role": "user", "content": "granite " * 20000}]
    raises(litellm.ContextWindowExceededError, lambda: create(messages=long), "a long prompt")
    streams = [create(stream=True, logit_bias={"0": -100}) for _ in range(3)]
    raises(litellm.RateLimitError, create, "a full queue")
    for stream in streams:
        stream.close()
    eventually(lambda: metric(address, "quarry_sequences_running") == 0, "slots are free")


def main():
    with serve("--slots", "2", "--max-queue", "1", "--context", "4096") as address:
        options = dict(api_base=address + "/v1", api_key="none", num_retries=0, max_retries=0)
        chats(options)
        errors(options, address)
    with scripted() as address:
        tools(dict(api_base=address + "/v1", api_key="none"))
    print(f"test-clients: litellm {version('litellm')}: chats, streams, tools, errors")


main()
