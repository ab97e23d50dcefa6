#!/usr/bin/env python3
"""Records what Hugging Face's tokenizers does with single components of tokenizer.json.

Tests/Goldens/components/pretokenizers.json lists pre-tokenizers with the words that they cut texts
into (spelled in the byte-level alphabet). added_tokens.json lists sets of added tokens with the ids
of texts and what these decode to; the rest of that tokenizer is Tests/Goldens/tokenizers/digits.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

GOLDENS = Path(__file__).resolve().parent.parent / "Tests" / "Goldens"
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]

# fmt: off
# Every construct that Oniguruma and PCRE2 read differently, and the patterns of known models.
PATTERNS = [
    r"-+", r"\s", r"\S+", r"\w+", r"\W+", r"\w+|[^\w\s]+", r"\bfoo|o\b|\Bt", r"x*", r"^a|b$",
    r"(?=a)|b",
    r"\d{1,3}(?=(?:\d{3})*\b)", r"\p{Han}+", r"\p{Lu}?\p{Ll}+", r"\p{^L}+", r"[^\r\n\p{L}\p{N}]?"
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t)?|\p{N}{1,3}|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?<=a)b|(?<!o)o", r"a|ab|abc", r"\u0061+", r"\x{61}+", r"[^a-c]", r"[[:space:]]",
    r"[[:upper:]]+", r"[[:alpha:][:digit:]]+", r"[]a]", r"(a)(b)?", r"a{,2}b", r"(?i)THE", r"a.",
    r"\X", r"\R", r"\p{P}|\p{S}", r"[!-/:-@\[-`{-~]", r"\A.|.\z", r"[\w']+", r"[\s\d]+",
    r"(?:a|b)++c",
    r"a??b",
]
TEXTS = [
    "--the-final--countdown-", " foo  o foot\n\n abc ab THE the\r\n The x xx aab ",
    "\ta1b22c333 1234567\n",
    "it's IT'S 'ſ don't\u00a0we've_been", "²½Ⅷ \u180e 漢字ー e\u0301 é\u3000Ā 🦙\u200d_", "",
    "a", "b\nb\n", "]a] [x-y]{a}",
]
STRINGS = ["-", "--", ".", " ", "a", "漢", ""]
WORDS = [
    "a", "b", "ab", "abc", "foo", " ", "  ", "\n", "\t", "12", "x", "'s", "é", "e\u0301", "_", "\u3000",
    "<x>", "<xy>", "<w>", "<", "漢", "\u200d", "½",
]
CONTENTS = [
    "<x>", "<xy>", "<w>", "ab", "abc", "foo", "\n", "\u00e9", "a b", "12",
    " foo", "\u0120w", "漢",
]
# fmt: on


def byte_level(prefix: bool, regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": prefix,
        "trim_offsets": True,
        "use_regex": regex,
    }


def pretokenizers() -> list[dict[str, Any]]:
    def split(pattern: dict[str, str], behavior: str, invert: bool) -> dict[str, Any]:
        return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}

    steps: list[list[dict[str, Any]]] = [[]]
    steps += [[{"type": "Digits", "individual_digits": flag}] for flag in (False, True)]
    steps += [[split({"Regex": p}, "Isolated", False)] for p in PATTERNS]
    for pattern, behavior, invert in itertools.product(
        ["-+", "x*", r"\s"], BEHAVIORS, (False, True)
    ):
        steps.append([split({"Regex": pattern}, behavior, invert)])
    for i, text in enumerate(STRINGS):
        steps.append([split({"String": text}, BEHAVIORS[i % 5], i % 2 == 1)])
    result = [{"type": "Sequence", "pretokenizers": s + [byte_level(False, False)]} for s in steps]
    result += [byte_level(prefix, regex) for prefix in (False, True) for regex in (False, True)]
    nested = {"type": "Sequence", "pretokenizers": [byte_level(True, True)]}
    result.append({"type": "Sequence", "pretokenizers": steps[1] + steps[5] + [nested]})
    return result


def overlay(base: dict[str, Any], members: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(base | members))


def pretokenizer_cases(base: dict[str, Any]) -> list[dict[str, Any]]:
    cases = []
    for component in pretokenizers():
        pre_tokenizer = overlay(base, {"pre_tokenizer": component}).pre_tokenizer
        words = [[w for w, _ in pre_tokenizer.pre_tokenize_str(t)] if t else [] for t in TEXTS]
        cases.append({"pre_tokenizer": component, "texts": TEXTS, "words": words})
    return cases


def added_token_cases(base: dict[str, Any]) -> list[dict[str, Any]]:
    generator = random.Random(4)
    vocabulary = base["model"]["vocab"]

    def flag(probability: float) -> bool:
        return generator.random() < probability

    cases = []
    for _ in range(40):
        tokens: list[dict[str, Any]] = []
        next_id = len(vocabulary)
        for content in generator.sample(CONTENTS, 6):
            tokens.append(
                {
                    "id": vocabulary.get(content, next_id),
                    "content": content,
                    "single_word": flag(0.3),
                    "lstrip": flag(0.3),
                    "rstrip": flag(0.3),
                    "normalized": flag(0.4),
                    "special": flag(0.5),
                }
            )
            next_id += content not in vocabulary
        decoder = base["decoder"] if flag(0.8) else None
        tokenizer = overlay(base, {"added_tokens": tokens, "decoder": decoder})
        texts = [
            "".join(generator.choice(WORDS) for _ in range(generator.randint(1, 14)))
            for _ in range(12)
        ]
        ids = [tokenizer.encode(text).ids for text in texts]
        cases.append(
            {
                "added_tokens": tokens,
                "decoder": decoder,
                "texts": texts,
                "ids": ids,
                "decoded": [tokenizer.decode(i, skip_special_tokens=False) for i in ids],
                "visible": [tokenizer.decode(i) for i in ids],
            }
        )
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed files; write nothing"
    )
    check = parser.parse_args().check
    base = json.loads((GOLDENS / "tokenizers/digits/tokenizer.json").read_text(encoding="utf-8"))
    for name, cases in (
        ("pretokenizers.json", pretokenizer_cases(base)),
        ("added_tokens.json", added_token_cases(base)),
    ):
        text = "[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n"
        path = GOLDENS / "components" / name
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != text:
            raise SystemExit(f"{path} differs from what this script makes")
        print(f"{name}: {len(cases)} cases")


if __name__ == "__main__":
    main()
