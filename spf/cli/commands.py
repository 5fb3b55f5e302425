"""The commands of spf among the lines that ``make -n`` prints, and the configuration that each amounts to."""

import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr
from functools import cache
from io import StringIO
from itertools import pairwise
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace, auto_parser, capture_parser

from spf.cli.fit import fit
from spf.cli.test import test
from spf.evaluation.triples import triples

VERBS = ("fit", "test", "triples")
OURS = re.compile(rf"\bspf\s+({'|'.join(VERBS)})\b")


def commands(dry_run: str) -> Iterator[tuple[str, list[str]]]:
    """Verb and arguments of each `spf fit`, `spf test` and `spf triples`; everything else is passed over.

    Raises ValueError for a line of ours that no shell would read.
    """
    for line in filter(OURS.search, dry_run.replace("\\\n", " ").splitlines()):
        for words in _split(line):
            for place, (program, verb) in enumerate(pairwise(words)):
                if Path(program).name == "spf" and verb in VERBS:
                    yield verb, words[place + 2:]
                    break


def _split(line: str) -> Iterator[list[str]]:
    """The words of each command that stands in a line."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    words = list[str]()
    try:
        for word in [*reader, ";"]:
            if set(word) - set("();<>|&"):
                words.append(word)
            else:
                yield words
                words = []
    except ValueError as error:
        raise ValueError(f"the plan holds a line that no shell reads ({error}): {line.strip()}") from None


def parsed(verb: str, arguments: list[str]) -> Namespace:
    """The whole configuration of one command. Raises ValueError where it is not understood."""
    said = StringIO()
    try:
        with redirect_stderr(said):
            config = parser(verb).parse_args(arguments if verb == "triples" else [verb, *arguments])
    except SystemExit:
        raise ValueError(f"the plan holds a command that is not understood: spf {verb} {shlex.join(arguments)}\n"
                         f"{said.getvalue().rpartition('error: ')[2].strip()}") from None
    return config if verb == "triples" else config[verb]


@cache
def parser(verb: str) -> ArgumentParser:
    """That of the verb itself; of `fit` and `test` it has the verb for a subcommand, as Lightning has."""
    if verb == "triples":
        return auto_parser(triples, as_positional=True)
    return capture_parser(lambda: {"fit": fit, "test": test}[verb]([]))
