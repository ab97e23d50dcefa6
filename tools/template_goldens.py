#!/usr/bin/env python3
"""Renders the templates under Tests/Goldens/templates with Python's jinja2, for the tests.

Every JSON file there holds `variables`, `date` and `cases`; a case holds a `template`, or the name
of a `file` beside it, perhaps `variables` of its own, and what this script fills in: the rendered
`text`, or the `error` that rendering raises (of which only the fact is compared). To add a case,
write one without a result and run this script.

    tools/template_goldens.py           fill in all results
    tools/template_goldens.py --check   report results that differ, change nothing

The environment is the one of transformers' `apply_chat_template` (transformers 5.23), whose
functions are used where that package is installed.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import re
import sys
from pathlib import Path

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

FOLDER = Path(__file__).resolve().parent.parent / "Tests" / "Goldens" / "templates"


class Generation(Extension):
    """The `generation` block, which marks what the assistant wrote and prints it."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("call_body")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def call_body(self, caller):
        return caller()


class CheckedNamespace(jinja2.utils.Namespace):
    """A namespace that refuses names that begin with an underscore."""

    def __init__(*args, **kwargs):
        self, *rest = args
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            CheckedNamespace.check(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name, value):
        CheckedNamespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}")


def environment() -> ImmutableSandboxedEnvironment:
    """What transformers renders chat templates in, made from jinja2 alone."""

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
            sort_keys=sort_keys)

    result = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    result.filters["tojson"] = tojson
    result.globals["raise_exception"] = raise_exception
    result.globals["namespace"] = CheckedNamespace
    return result


def compiler():
    """A function from source to template."""
    try:
        from transformers.utils.chat_template_utils import _compile_jinja_template
    except ImportError:
        return environment().from_string
    return _compile_jinja_template


def render(compile_template, source: str, variables: dict, date: list[int]) -> dict:
    try:
        template = compile_template(source)
        # Set on the template, so that it replaces the function that tells the real time.
        template.globals["strftime_now"] = lambda form: datetime.datetime(*date).strftime(form)
        # Some filters of jinja2 change lists that they are given.
        text = template.render(**copy.deepcopy(variables))
        text.encode()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:160]}
    if re.search(r" at 0x[0-9a-f]+", text):
        return {"error": "printed the address of an object"}
    return {"text": text}


def line(value) -> str:
    return json.dumps(value, ensure_ascii=False)


def written(document: dict) -> str:
    """The document with one line for every variable and case."""
    variables = ",\n".join(f"  {line(k)}: {line(v)}" for k, v in document["variables"].items())
    cases = ",\n".join(f"  {line(case)}" for case in document["cases"])
    return (
        f'{{\n"date": {line(document["date"])},\n"variables": {{\n{variables}\n}},\n'
        f'"cases": [\n{cases}\n]\n}}\n')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="report differences, change nothing")
    parser.add_argument("files", nargs="*", type=Path, help="JSON files instead of all")
    arguments = parser.parse_args()
    if jinja2.__version__ != "3.1.6":
        print(f"jinja2 is {jinja2.__version__}, the goldens need 3.1.6", file=sys.stderr)
        return 1
    compile_template = compiler()
    differences = 0
    for path in arguments.files or sorted(FOLDER.glob("*.json")):
        document = json.loads(path.read_text())
        cases = []
        for case in document["cases"]:
            inputs = {k: v for k, v in case.items() if k not in ("text", "error")}
            source = case.get("template")
            if source is None:
                source = (FOLDER / case["file"]).read_text()
            variables = document["variables"] | case.get("variables", {})
            result = inputs | render(compile_template, source, variables, document["date"])
            cases.append(result)
            if arguments.check and result != case:
                differences += 1
                print(f"{path.name}: {line(inputs)} gives {line(result)}", file=sys.stderr)
        if not arguments.check:
            path.write_text(written(document | {"cases": cases}))
        print(f"{path.name}: {len(cases)} cases, {sum('error' in c for c in cases)} of them errors")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
