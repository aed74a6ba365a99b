"""The expressions of GitHub Actions that our workflows use, and no others: `${{ inputs.chip || 'x' }}`, `if:`.

Whatever is not known here (a function, a context) is an error, so that a test cannot pass by misreading it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>\d+)|(?P<operator>&&|\|\||==|!=|[!().,*])|(?P<name>[A-Za-z_][\w-]*))"
)
STATUS = ("always", "cancelled", "success", "failure")


class Expression:
    """One expression. contexts: by name (github, inputs, ...); workspace: for hashFiles; failed: has a step before?"""

    def __init__(self, text: str, contexts: dict[str, Any], workspace: Path, failed: bool = False):
        self.text, self.contexts, self.workspace, self.failed = text, contexts, workspace, failed
        self.tokens: list[tuple[str, str]] = []
        place = 0
        while text[place:].strip():
            match = TOKEN.match(text, place)
            assert match, f"cannot read the expression at {text[place:]!r}"
            self.tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            place = match.end()
        self.place = 0

    def value(self) -> Any:
        """What it comes to."""
        found = self._either()
        assert self.place == len(self.tokens), f"left over in {self.text!r}: {self.tokens[self.place :]}"
        return found

    def uses_status(self) -> bool:
        """Whether it asks how the steps before went; else GitHub adds success() to an `if`."""
        return any(kind == "name" and word in STATUS for kind, word in self.tokens)

    def _next(self, *words: str) -> str | None:
        if self.place < len(self.tokens):
            kind, word = self.tokens[self.place]
            if kind == "operator" and word in words:
                self.place += 1
                return word
        return None

    def _either(self) -> Any:
        found = self._both()
        while self._next("||"):
            other = self._both()
            found = found if truthy(found) else other
        return found

    def _both(self) -> Any:
        found = self._equal()
        while self._next("&&"):
            other = self._equal()
            found = other if truthy(found) else found
        return found

    def _equal(self) -> Any:
        found = self._unary()
        while operator := self._next("==", "!="):
            same = _comparable(found) == _comparable(self._unary())
            found = same if operator == "==" else not same
        return found

    def _unary(self) -> Any:
        if self._next("!"):
            return not truthy(self._unary())
        if self._next("("):
            found = self._either()
            assert self._next(")"), f"a parenthesis is open in {self.text!r}"
            return found
        kind, word = self.tokens[self.place]
        self.place += 1
        if kind == "text":
            return word[1:-1].replace("''", "'")
        if kind == "number":
            return int(word)
        assert kind == "name", f"{word!r} is out of place in {self.text!r}"
        return self._call(word) if self._next("(") else self._lookup(word)

    def _lookup(self, name: str) -> Any:
        if name in ("true", "false"):
            return name == "true"
        assert name in self.contexts, f"no context {name!r} here: {self.text!r}"
        found: Any = self.contexts[name]
        while self._next("."):
            kind, key = self.tokens[self.place]
            self.place += 1
            if key == "*":
                found = list(found.values()) if isinstance(found, dict) else list(found or [])
            elif isinstance(found, list):
                found = [item.get(key) for item in found]
            else:
                assert kind == "name" and (found is None or isinstance(found, dict)), f"{key!r} in {self.text!r}"
                found = (found or {}).get(key)  # a key that is not there is null
        return found

    def _call(self, name: str) -> Any:
        given: list[Any] = []
        while not self._next(")"):
            given.append(self._either())
            self._next(",")
        functions: dict[str, Callable[..., Any]] = {
            "always": lambda: True,
            "cancelled": lambda: False,
            "contains": lambda where, what: what in (where or []),
            "format": lambda form, *words: form.format(*words),
            "fromJSON": json.loads,
            "hashFiles": self._hash_files,
            "join": lambda words, between: between.join(map(str, words)),
        }
        assert name in functions, f"the function {name!r} is not known: {self.text!r}"
        return functions[name](*given)

    def _hash_files(self, pattern: str) -> str:
        found = sorted(path for path in self.workspace.glob(pattern) if path.is_file())
        found += sorted(inner for path in self.workspace.glob(pattern) if path.is_dir() for inner in path.rglob("*"))
        files = [path for path in dict.fromkeys(found) if path.is_file()]
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest() if files else ""


def truthy(value: Any) -> bool:
    """GitHub's idea of it: false, 0, '' and null are not."""
    return value not in (False, 0, "", None)


def _comparable(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else "" if value is None else value


def filled(text: Any, contexts: dict[str, Any], workspace: Path) -> Any:
    """A value of YAML with every ${{ }} in it filled in; one that is nothing else keeps its type."""
    if not isinstance(text, str):
        return text
    whole = re.fullmatch(r"\s*\$\{\{(.*?)\}\}\s*", text, re.DOTALL)
    if whole and "${{" not in whole[1]:
        return Expression(whole[1], contexts, workspace).value()
    return re.sub(
        r"\$\{\{(.*?)\}\}",
        lambda match: in_words(Expression(match[1], contexts, workspace).value()),
        text,
        flags=re.DOTALL,
    )


def in_words(value: Any) -> str:
    """As the runner writes a value into text and environment."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def condition(text: Any, contexts: dict[str, Any], workspace: Path, failed: bool) -> bool:
    """Whether a step's or a job's `if` holds; without one it is success()."""
    if text is None:
        return not failed
    inner = str(text).strip()
    if inner.startswith("${{") and inner.endswith("}}"):
        inner = inner[3:-2]
    expression = Expression(inner, contexts, workspace, failed)
    return truthy(expression.value()) and (expression.uses_status() or not failed)
