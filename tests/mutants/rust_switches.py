"""Turns patches of Rust files into switches, so that one build contains many planted bugs.

Each patch is applied to the unchanged file on its own. The function that it changes then gets two
bodies, and an environment variable selects one of them when the program runs:

    fn is_due(&self) -> bool {
        match crate::planted() {
            0x3c17_5b0e_91aa_42d6 => { // planted due_only_after
                self.at < now
            }
            _ => {
                self.at <= now
            }
        }
    }

The names are numbers here, so that the compiler searches instead of comparing one after another:
functions that are called often have a hundred switches.

This way, patches don't affect each other even if they change the same line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Added to the root of each crate of the copied tree. The code of bugs has warnings.
HEAD = "#![allow(warnings)]\n"
PLANTED = """
/// The number of the planted bug that is switched on: the FNV-1a hash of its name.
#[inline]
pub fn planted() -> u64 {
    static CHOSEN: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("POLOS_PLANTED").unwrap_or_default();
        name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    })
}
"""


@dataclass(frozen=True)
class Change:
    """The text from `start` to `end` is replaced by `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Body:
    """The positions of a function's body, between its braces."""

    start: int
    end: int


# Tokens that may contain braces or the word `fn` without being code, and the relevant tokens.
TOKEN = re.compile(
    r"""
    (?P<skip> //[^\n]* | /\*.*?\*/
        | b?r(?P<hashes>\#*)".*?"(?P=hashes)
        | b?"(?:\\.|[^"\\])*"
        | b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\\n])'
        | '[A-Za-z_]\w*
    )
    | (?P<word> [A-Za-z_]\w* )
    | (?P<sign> [{}()\[\];] )
    """,
    re.VERBOSE | re.DOTALL,
)


def outermost_functions(source: str) -> list[Body]:
    """Return the bodies of all functions that are not in another function."""
    bodies: list[Body] = []
    depth = 0
    # The depth of brackets and braces at which a signature or a body began.
    signature: int | None = None
    body: tuple[int, int] | None = None
    words: list[str] = []
    for token in TOKEN.finditer(source):
        if token["skip"]:
            continue
        if token["word"]:
            # A name after `fn`: types such as `fn(u8)` have none.
            if words[-1:] == ["fn"] and body is None and "const" not in words:
                signature = depth
            words = [*words[-3:], token["word"]]
            continue
        sign = token["sign"]
        words = []
        if sign in "([{":
            if sign == "{" and signature == depth:
                body, signature = (depth, token.end()), None
            depth += 1
        elif sign in ")]}":
            depth -= 1
            if body is not None and depth == body[0]:
                bodies.append(Body(body[1], token.start()))
                body = None
        elif sign == ";" and signature == depth:
            signature = None
    return bodies


def switched(source: str, patches: dict[str, list[Change]]) -> tuple[str, list[str]]:
    """Return the source with a switch for each patch, and the names of other patches.

    A patch can be a switch if all its changes are in bodies of functions that are not `const`.
    """
    bodies = outermost_functions(source)
    variants: dict[Body, list[tuple[str, str]]] = {}
    refused = []
    for name, changes in patches.items():
        by_body: dict[Body, list[Change]] = {}
        for change in changes:
            home = [body for body in bodies if body.start <= change.start <= change.end <= body.end]
            by_body.setdefault(home[0] if home else Body(0, 0), []).append(change)
        if Body(0, 0) in by_body:
            refused.append(name)
            continue
        for body, inside in by_body.items():
            text = replaced(source[: body.end], inside)[body.start :]
            variants.setdefault(body, []).append((name, text))
    switches = []
    for body, bad in variants.items():
        branches = "".join(
            f"{number(name):#x} => {{ // planted {name}\n{text}\n}}\n" for name, text in bad
        )
        good = source[body.start : body.end]
        switch = f"\nmatch crate::planted() {{\n{branches}_ => {{{good}\n}}\n}}\n"
        switches.append(Change(body.start, body.end, switch))
    return replaced(source, switches), refused


def number(name: str) -> int:
    """Return the FNV-1a hash of a bug's name, as the switches compare it."""
    value = 0xCBF2_9CE4_8422_2325
    for byte in name.encode():
        value = (value ^ byte) * 0x0100_0000_01B3 % 2**64
    return value


def replaced(source: str, changes: list[Change]) -> str:
    """Return the source after all changes."""
    for change in sorted(changes, key=lambda change: change.start, reverse=True):
        source = source[: change.start] + change.text + source[change.end :]
    return source
