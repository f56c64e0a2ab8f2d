"""``polos completion``: print a shell completion script."""

from __future__ import annotations

from typing import Annotated

import typer

from polos.cli.ui.console import TYPED_WRONG, fail, out

__all__ = ["completion"]

# Printed rather than installed, so that users see what goes into their dotfiles.
_SCRIPTS = {
    "bash": r"""
_polos_completion() {
    local IFS=$'\n'
    COMPREPLY=($(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \
        _POLOS_COMPLETE=complete_bash "$1" 2>/dev/null))
}
complete -o default -F _polos_completion polos
""",
    "zsh": r"""
#compdef polos
_polos_completion() {
    eval "$(_TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _POLOS_COMPLETE=complete_zsh \
        polos 2>/dev/null)"
}
compdef _polos_completion polos
""",
    "fish": r"""
function _polos_completion
    _POLOS_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] \
        _TYPER_COMPLETE_ARGS=(commandline -cp) polos 2>/dev/null
end
complete --command polos --no-files --arguments '(_polos_completion get-args)' \
    --condition '_polos_completion is-args'
""",
}

_HINTS = {
    "bash": "eval \"$(polos completion bash)\" in ~/.bashrc",
    "zsh": "eval \"$(polos completion zsh)\" in ~/.zshrc, after compinit",
    "fish": "polos completion fish > ~/.config/fish/completions/polos.fish",
}  # fmt: skip


def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print a shell completion script.

    For bash, put `eval "$(polos completion bash)"` into ~/.bashrc; for zsh likewise into ~/.zshrc,
    after compinit; for fish, `polos completion fish > ~/.config/fish/completions/polos.fish`.
    """
    script = _SCRIPTS.get(shell)
    if script is None:
        fail(f"completion: `{shell}` given, expected `bash`, `zsh` or `fish`", TYPED_WRONG)
    out(f"# {_HINTS[shell]}\n{script.strip()}" if shell != "zsh" else script.strip())
