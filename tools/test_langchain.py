"""LangChain's clients for OpenAI and Replicate against a real `quarry serve`; see tools/test-clients."""

import asyncio
import os
import warnings
from importlib.metadata import version

os.environ["LANGSMITH_TRACING"] = os.environ["LANGCHAIN_TRACING_V2"] = "false"
os.environ["REPLICATE_API_TOKEN"] = "none"

# It says at each import that it is no longer looked after.
warnings.filterwarnings("ignore", message="`langchain-community`")

from langchain_community.llms import Replicate
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI, OpenAI
from langchain_openai.chat_models.base import OpenAIContextOverflowError, OpenAIModelNotFoundError

from quarry_server import CALLS, TOOL, check, raises, scripted, serve

QUESTION = "What is granite?"


def chats(address):
    options = dict(model="local/pebble", base_url=address + "/v1", api_key="none", max_retries=0)
    chat = ChatOpenAI(**options, seed=7, max_tokens=30, stream_usage=True)
    answer = chat.invoke(QUESTION)
    text = answer.content
    check(len(text) > 10, "an answer")
    check(answer.usage_metadata["output_tokens"] > 0, "usage")
    check(answer.response_metadata["finish_reason"] in ("stop", "length"), "finish_reason")
    check(chat.invoke(QUESTION).content == text, "the seed")

    whole = None
    for chunk in (chunks := list(chat.stream(QUESTION))):
        whole = chunk if whole is None else whole + chunk
    check(len(chunks) > 5 and whole.content == text, "the stream says the same")
    check(whole.usage_metadata["total_tokens"] == answer.usage_metadata["total_tokens"],
          "usage of a stream")
    check(chat.batch([QUESTION, QUESTION])[1].content == text, "a batch")
    check(asyncio.run(chat.ainvoke(QUESTION)).content == text, "asynchronously")

    template = ChatPromptTemplate([("system", "Answer {how}."), ("human", "{question}")])
    chain = template | chat
    check(chain.invoke({"how": "briefly", "question": QUESTION}).content, "a chain")
    cut = chat.invoke(QUESTION, stop=[text[5:9]]).content
    check(cut == text[:text.index(text[5:9])], "stop")
    scored = chat.bind(logprobs=True, top_logprobs=2).invoke(QUESTION)
    pieces = scored.response_metadata["logprobs"]["content"]
    check("".join(piece["token"] for piece in pieces) == text, "log-probabilities")

    # OpenAI's older interface.
    completion = OpenAI(**options, seed=7, max_tokens=20)
    text = completion.invoke("Granite is")
    check(len(text) > 5 and "".join(completion.stream("Granite is")) == text, "completions")
    raises(OpenAIModelNotFoundError,
           lambda: ChatOpenAI(**{**options, "model": "gpt-4o"}).invoke("Hi"), "an unknown model")
    raises(OpenAIContextOverflowError, lambda: chat.invoke("granite " * 20000), "a long prompt")


def tools(address):
    chat = ChatOpenAI(
        model="local/scripted", base_url=address + "/v1", api_key="none", temperature=0)
    chat = chat.bind_tools([TOOL])
    answer = chat.invoke(QUESTION)
    check([(call["name"], call["args"]) for call in answer.tool_calls] == CALLS, "calls")
    check(answer.content == "One moment.", "content beside calls")
    whole = None
    for chunk in chat.stream(QUESTION):
        whole = chunk if whole is None else whole + chunk
    check([(call["name"], call["args"]) for call in whole.tool_calls] == CALLS, "streamed calls")
    check(not whole.invalid_tool_calls, "calls that are streamed are whole")
    results = [ToolMessage("rain", tool_call_id=call["id"]) for call in answer.tool_calls]
    check(chat.invoke([HumanMessage(QUESTION), answer, *results]).content == "One moment.",
          "results of calls")


def predictions(address):
    os.environ["REPLICATE_BASE_URL"] = address
    inputs = {"seed": 7, "max_tokens": 30}
    model = Replicate(model="ibm-granite/granite-3.3-8b-instruct", model_kwargs=inputs)
    text = model.invoke(QUESTION)
    check(len(text) > 10, "an answer")
    check(model.prompt_key == "prompt", "the input that comes first in the schema")
    check("".join(model.stream(QUESTION)) == text, "the stream says the same")
    cut = model.invoke(QUESTION, stop=[text[5:9]])
    check(cut == text[:text.index(text[5:9])], "stop")
    versioned = Replicate(model=f"local/pebble:{model.version_obj.id}", model_kwargs=inputs)
    check(versioned.invoke(QUESTION) == text, "a version")
    pieces = Replicate(model="local/pebble", model_kwargs={**inputs, "stream": True})
    pieces = list(pieces.stream(QUESTION))
    check(len(pieces) > 5 and "".join(pieces) == text, "pieces")
    wrong = Replicate(model="local/pebble", model_kwargs={"min_tokens": 9, "max_tokens": 1})
    raises(RuntimeError, lambda: wrong.invoke(QUESTION), "a prediction that fails")


def main():
    with serve("--slots", "2", "--context", "4096") as address:
        chats(address)
        predictions(address)
    with scripted() as address:
        tools(address)
    print(f"test-clients: langchain-openai {version('langchain-openai')}: chats, streams, tools; "
          f"langchain-community {version('langchain-community')}: Replicate's predictions")


main()
