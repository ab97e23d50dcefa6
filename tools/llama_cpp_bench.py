"""Loads a GGUF with llama.cpp and measures prefill and decode as its own llama-bench does: random
tokens, logits of the last token of the prompt and of every token decoded, no sampling. Prints JSON.

usage: llama_cpp_bench.py FILE THREADS PREFILL DECODE repacked|plain flash|plain
"""

import json
import random
import sys
import time

import llama_cpp


def main() -> None:
    path, (threads, prefill, decode) = sys.argv[1], map(int, sys.argv[2:5])
    repacked, flash = sys.argv[5] == "repacked", sys.argv[6] == "flash"
    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, None)
    llama_cpp.llama_backend_init()
    model_parameters = llama_cpp.llama_model_default_params()
    model_parameters.use_extra_bufts = repacked
    model = llama_cpp.llama_model_load_from_file(path.encode(), model_parameters)
    if not model:
        sys.exit(f"llama.cpp cannot load {path}")
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = max(prefill, decode) + 1
    parameters.n_batch = max(512, prefill)
    parameters.n_threads = parameters.n_threads_batch = threads
    parameters.flash_attn_type = (
        llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash
        else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED)
    context = llama_cpp.llama_init_from_model(model, parameters)
    if not context:
        sys.exit(f"llama.cpp cannot make a context for {path}")
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    numbers = random.Random(0)

    def rate(count: int, at_once: int) -> float:
        """Tokens per second from an empty cache."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        tokens = (llama_cpp.llama_token * count)(*(numbers.randrange(vocabulary)
                                                   for _ in range(count)))
        start = time.perf_counter()
        for first in range(0, count, at_once):
            piece = (llama_cpp.llama_token * at_once)(*tokens[first:first + at_once])
            if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(piece, at_once)):
                sys.exit(f"llama.cpp failed to run {path}")
            llama_cpp.llama_synchronize(context)
        return count / (time.perf_counter() - start)

    rate(min(prefill, 128), min(prefill, 128))  # fills caches and what is allocated at first use
    rate(1, 1)
    print(json.dumps({
        "prefill": rate(prefill, prefill), "decode": rate(decode, 1),
        "system": llama_cpp.llama_print_system_info().decode(),
    }))


main()
