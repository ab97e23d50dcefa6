"""Quantizes a GGUF as llama-quantize does, by the function that it calls.

usage: llama_cpp_quantize.py FILE OUTPUT TYPE THREADS
"""

import sys
from pathlib import Path

from llama_cpp_models import FILE_TYPES, Failure, quantize


def main() -> None:
    source, target, name, threads = sys.argv[1:]
    try:
        quantize(Path(source), Path(target), FILE_TYPES[name], int(threads))
    except Failure as failure:
        sys.exit(str(failure))


main()
