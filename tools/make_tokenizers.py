#!/usr/bin/env python3
"""Trains the two small tokenizers of Tests/Goldens/tokenizers and records what they do.

`digits` has the components of Granite 3.x (every digit alone, then the byte-level pattern) and
writes merges as strings; `split` has those of Granite 4.x (a Split pattern, then bytes without a
pattern) and writes merges as pairs. Both are trained on text of this project: the handbook in
Tests/Goldens/text and the samples below. golden.json lists, for every text, its `ids`, what they
decode to with special tokens (`decoded`) and without (`visible`).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "Tests" / "Goldens"
VOCABULARY = 1000

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# fmt: off
# What the handbook lacks: code, other scripts, runs of blanks and digits, shouting, line ends.
SAMPLES = [
    "for block in blocks {\n    let scale = block.scale * 127\n"
    "        if scale == 0 { continue }\n}\n",
    "{\"name\": \"quarry\", \"rows\": 4096, "
    "\"columns\": [16, 32], \"tied\": true, \"bias\": null}\n",
    "Der Steinbruch öffnet um 7:30 Uhr; große Blöcke über 20 t nur nach Anmeldung.\n",
    "La carrière est fermée l'été : « revenez à l'automne », dit l'écriteau.\n",
    "Гранит твёрже мрамора, а мрамор твёрже известняка.\n",
    "花岗岩比大理石硬。花岗岩由石英、长石和云母组成。\n",
    "花こう岩は大理石より硬いです。石を切る、石を運ぶ、石を量る。\n",
    "화강암은 대리석보다 단단하다.\n",
    "الجرانيت أصلب من الرخام.\n",
    "ग्रेनाइट संगमरमर से कठोर होता है।\n",
    "⛏️ 🪨 👷🏽‍♀️ 👨‍👩‍👧 🇨🇭 🇬🇧 ✅ ❤️\n",
    "DON'T STAND HERE. WE'RE BLASTING. IT'S LOUD. THEY'LL SHOUT. I'VE WARNED YOU.\n",
    "\tone\ttab\r\n\t\ttwo tabs\r\n\r\n\r\nthree line ends\n\n\n",
    "3.14159 1,000,000 2024-06-30 0x7F 1e-5 255.255.255.0 99.9% 10:45\n",
]

# fmt: on
SPECIAL_FIRST = ["<|end_of_text|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>"]
SPECIAL_LAST = ["<|start_of_role|>", "<|end_of_role|>", "<|pad|>"]
# Added but not special: they survive a decoding without special tokens. One is the beginning of
# another, one holds a blank, one is not ASCII.
ORDINARY_LAST = ["<tool_call>", "</tool_call>", "<doc>", "<doc><page>", "<two words>", "岩石印"]

# fmt: off
TEXTS = [
    "", " ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\n \n", " \n", "\n ", "\t\t\t x", "a", " a",
    "  a", "a ", "a  ", "a  b", "a   b    c", "     five leading blanks", "trailing blanks     ",
    "Stone is patient.", "stone\nstone\n\nstone\n\n\nstone",
    "line one\r\nline two\r\n\r\nline four", "old\rmac\rends", "blank before the end \n",
    "tabs\tand \t mixed\t \tblanks", "I'm we're they'll it's he'd I've don't",
    "I'M WE'RE THEY'LL IT'S HE'D I'VE DON'T", "'s 's' ''s 't'll'", "rock'n'roll o'clock 'twas",
    "can’t won’t it’s", "1", "12", "123", "1234", "12345678", "3.14159 and 2,650 kg",
    " 1 22 333 4444", "a1b22c333", "2024-06-30T07:10:59Z", "½ ² Ⅷ ٣ ४ 五 ¼cup", "0x7F 1e-5 -40",
    "007", "Zoë's café in Málaga", "Zoe\u0308 cafe\u0301 Ma\u0301laga", "naïve façade coöperate",
    "a\u0300\u0301\u0302b", "\u0301", "ﬁne ﬂint", "ǅ ß ẞ İ ı ſ", "Гранит твёрже мрамора",
    "花岗岩比大理石硬。", "石を切る、石を運ぶ", "화강암은 단단하다", "الجرانيت أصلب",
    "ग्रेनाइट कठोर", "ไทยไม่มีช่องว่าง", "中文 mixed with English 和数字123", "⛏️🪨", "👷🏽‍♀️",
    "👨‍👩‍👧‍👦 family", "🇨🇭🇬🇧", "❤ ❤️",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "\u00a0no-break\u00a0space\u2003em\u3000ideographic", "\u200bzero\u200bwidth\ufeff",
    "\u2028line\u2029par\u0085nel", "\x00\x01\x02\x1b[0m\x7f", "\x0b\x0c vertical",
    "\x1c\x1d\x1e\x1f x", "\ufffd\ufffe\U0010ffff", "!!! ??? ... --- ___ ***", "a.b,c;d:e!f?g",
    "(a) [b] {c} <d>", "$5 €7 £2 10s. 6d.",
    "x = y*2 + [z for z in w if z != 0]\n    return {\n\t'k': \"v\",\n    }\n",
    "if(a){b();}\n\n\n// end\n", "https://example.org/a/b?c=d&e=f#g",
    "C:\\stone\\blocks\\0001.slab", "user.name+tag@example.org",
    "CamelCaseWords snake_case_words kebab-case-words SHOUTING", "<|end_of_text|>",
    "<|start_of_role|>user<|end_of_role|>Hello!<|end_of_text|>\n", "a<|end_of_text|>b",
    " <|end_of_text|> ", "<|end_of_text|><|end_of_text|>", "<|end_of_text", "<|END_OF_TEXT|>",
    "<<|pad|>>", "<tool_call>{\"name\": \"weigh\"}</tool_call>", "5<tool_call>5",
    "don<tool_call>'t", "<doc><page>1</page></doc>", "<doc><pag", "<doc> <page>",
    "<doc><doc><page><page>", "a<two words>b <two  words>", "写着岩石印的石头 岩石",
    "  <fim_prefix>  x\n<fim_suffix>\n  <fim_middle>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "ababababababababababababab", "the the the thethethe", "quarryquarry Quarry QUARRY",
    "antidisestablishmentarianism", "\n".join(" " * n + "x" for n in range(12)),
    "".join(chr(c) for c in range(32, 127)), "".join(chr(c) for c in range(161, 256)),
]
# fmt: on


def added(content: str, special: bool) -> AddedToken:
    return AddedToken(
        content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=special
    )


def train(kind: str, handbook: str) -> Tokenizer:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "digits")
    if kind == "digits":
        first = pre_tokenizers.Digits(individual_digits=True)
    else:
        first = pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, byte_level])
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[added(t, True) for t in SPECIAL_FIRST],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([handbook] + SAMPLES * 3, trainer)
    tokenizer.add_tokens([added(t, False) for t in ORDINARY_LAST])
    tokenizer.add_special_tokens([added(t, True) for t in SPECIAL_LAST])
    return tokenizer


def as_published(tokenizer: Tokenizer, kind: str) -> dict[str, Any]:
    """The JSON form; Granite 4.x has empty affixes, and its added tokens in the vocabulary."""
    value = json.loads(tokenizer.to_str())
    if kind == "digits":
        value["model"]["merges"] = [" ".join(pair) for pair in value["model"]["merges"]]
    else:
        value["model"] |= {"continuing_subword_prefix": "", "end_of_word_suffix": ""}
        value["model"]["vocab"] |= {t["content"]: t["id"] for t in value["added_tokens"]}
    return value


def record(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    out = []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        out.append(
            {
                "text": text,
                "ids": ids,
                "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                "visible": tokenizer.decode(ids),
            }
        )
    return out


def write(path: Path, text: str, check: bool) -> None:
    if check:
        if path.read_text(encoding="utf-8") != text:
            raise SystemExit(f"{path} differs from what this script makes")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n"
        "  .venv/bin/python tools/make_tokenizers.py           train, record, write\n"
        "  .venv/bin/python tools/make_tokenizers.py --check   compare, write nothing",
    )
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed files; write nothing"
    )
    options = parser.parse_args()
    handbook = (GOLDENS / "text" / "quarry-handbook.txt").read_text(encoding="utf-8")
    for kind in ("digits", "split"):
        folder = GOLDENS / "tokenizers" / kind
        value = as_published(train(kind, handbook), kind)
        text = json.dumps(value, indent=2 if kind == "digits" else None, ensure_ascii=False) + "\n"
        write(folder / "tokenizer.json", text, options.check)
        tokenizer = Tokenizer.from_str(text)
        cases = record(tokenizer)
        lines = ",\n".join(json.dumps(case) for case in cases)
        write(folder / "golden.json", f"[\n{lines}\n]\n", options.check)
        print(
            f"{kind}: {tokenizer.get_vocab_size()} tokens, {len(value['model']['merges'])} merges, "
            f"{len(cases)} texts, {len(tokenizer.encode(handbook).ids)} tokens of handbook"
        )


if __name__ == "__main__":
    sys.exit(main())
