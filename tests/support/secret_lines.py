"""The corpus of secrets: lines with made-up credentials, and what of each is secret."""

import random
import re
import string
import tomllib
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parent.parent / "corpus" / "secrets.toml"
_ALPHABETS = {
    "alnum": string.ascii_letters + string.digits,
    "upper": string.ascii_uppercase + "234567",
    "lower": string.ascii_lowercase,
    "digit": string.digits,
    "hex": "0123456789abcdef",
    "word": string.ascii_letters + string.digits + "_-",
    "b64": string.ascii_letters + string.digits + "+/",
}
_HOLE = re.compile(r"<([a-z0-9]+):(\d+)>")
_SECRET = re.compile(r"«(.*?)»", re.DOTALL)


@dataclass(frozen=True)
class Line:
    """A line, and its secrets."""

    name: str
    text: str
    secrets: tuple[str, ...]


def filled(template: str, rng: random.Random) -> str:
    """`template` with random characters in its holes; each begins and ends with a letter or digit."""

    def made(match: re.Match[str]) -> str:
        kind, length = match[1], int(match[2])
        inner = [rng.choice(_ALPHABETS[kind]) for _ in range(length)]
        # Of every kind there is one, so that a random word does not look like one of the language.
        edge = _ALPHABETS["digit"] if kind in ("digit", "hex") else _ALPHABETS["lower" if kind == "lower" else kind][:20]
        inner[0], inner[-1] = rng.choice(edge), rng.choice(edge)
        if kind in ("alnum", "word", "b64"):
            inner[length // 2] = rng.choice(string.digits)
        return "".join(inner)

    return _HOLE.sub(made, template)


def line(name: str, template: str, rng: random.Random) -> Line:
    """The line of a template."""
    text = filled(template, rng)
    return Line(name, text.replace("«", "").replace("»", ""), tuple(_SECRET.findall(text)))


def positive(seed: int = 0) -> list[Line]:
    """All lines with secrets."""
    rng = random.Random(seed)
    return [
        line(name, template, rng)
        for name, lines in tomllib.loads(CORPUS.read_text("utf-8")).items()
        for template in lines["positive"]
    ]


def negative() -> list[Line]:
    """All lines without."""
    return [Line(name, text, ()) for name, lines in tomllib.loads(CORPUS.read_text("utf-8")).items() for text in lines["negative"]]
