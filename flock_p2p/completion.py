"""Completion scripts for bash, zsh and fish, written from the parsers. Knows no command's meaning."""

from collections.abc import Callable, Iterable

from flock_p2p.arguments.walk import Argument, Listed
from flock_p2p.cli import PROGRAM

SHELLS = ("bash", "zsh", "fish")


def render(shell: str, commands: Iterable[Listed]) -> str:
    writers: dict[str, Callable[[list[Listed]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    return writers[shell](list(commands))


# ---- bash


def _bash(commands: list[Listed]) -> str:
    cases = "\n".join(_bash_case(command) for command in commands)
    names = " ".join(command.name for command in commands)
    return f"""# eval "$({PROGRAM} completion bash)"
_flock_p2p() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command= word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $word in -*) ;; *) command=$word; break ;; esac
    done
    COMPREPLY=()
    case $command in
        "") COMPREPLY=($(compgen -W "{names} --help --version" -- "$current")) ;;
{cases}
    esac
}}
complete -F _flock_p2p {PROGRAM}
"""


def _bash_case(command: Listed) -> str:
    lines = [f"        {command.name})", "            case $previous in"]
    for argument in command.arguments:
        if argument.options and argument.value:
            lines.append(f"                {'|'.join(argument.options)}) {_bash_values(argument)}; return ;;")
    words = [*(word for argument in command.arguments if not argument.options for word in argument.choices)]
    plain = f'COMPREPLY=($(compgen -W "{" ".join([*words, *command.options])}" -- "$current"))'
    if any(argument.is_path and not argument.options for argument in command.arguments):
        plain += '; COMPREPLY+=($(compgen -f -- "$current"))'
    return "\n".join([*lines, "            esac", f"            {plain} ;;"])


def _bash_values(argument: Argument) -> str:
    if argument.choices:
        return f'COMPREPLY=($(compgen -W "{" ".join(argument.choices)}" -- "$current"))'
    return 'COMPREPLY=($(compgen -f -- "$current"))' if argument.is_path else ":"


# ---- zsh


def _zsh(commands: list[Listed]) -> str:
    rows = "\n".join(f"        {_quote(f'{command.name}:{command.description}')}" for command in commands)
    cases = "\n".join(_zsh_case(command) for command in commands)
    return f"""#compdef {PROGRAM}
# eval "$({PROGRAM} completion zsh)"
_flock_p2p() {{
    local -a commands
    commands=(
{rows}
    )
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
{cases}
    esac
}}
compdef _flock_p2p {PROGRAM}
"""


def _zsh_case(command: Listed) -> str:
    specs = [_quote(spec) for argument in command.arguments for spec in _zsh_specs(argument)]
    return "        {}) _arguments {} ;;".format(command.name, " ".join(specs))


def _zsh_specs(argument: Argument) -> list[str]:
    action = f"({' '.join(argument.choices)})" if argument.choices else "_files" if argument.is_path else " "
    value = f":{_zsh_text(argument.value.strip('{}'))[:20]}:{action}" if argument.value else ""
    if not argument.options:
        return [f"1{value}"]
    return [f"*{option}[{_zsh_text(argument.help)}]{value}" for option in argument.options]


def _zsh_text(text: str) -> str:
    return "".join("\\" + c if c in ":[]\\" else c for c in text)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# ---- fish


def _fish(commands: list[Listed]) -> str:
    lines = [f"# {PROGRAM} completion fish | source", f"complete -c {PROGRAM} -f"]
    for command in commands:
        lines.append(
            f"complete -c {PROGRAM} -n __fish_use_subcommand -a {command.name} -d {_fish_quote(command.description)}"
        )
        condition = f"-n '__fish_seen_subcommand_from {command.name}'"
        for argument in command.arguments:
            lines += [f"complete -c {PROGRAM} {condition} {words}" for words in _fish_words(argument)]
    return "\n".join(lines) + "\n"


def _fish_words(argument: Argument) -> list[str]:
    values = f" -a {_fish_quote(' '.join(argument.choices))}" if argument.choices else ""
    if not argument.options:
        return [values.strip()] if values else ["-F"]
    needs = f" -x{values}" if argument.value and not argument.is_path else " -r -F" if argument.value else ""
    names = [
        f"-l {option.removeprefix('--')}" if option.startswith("--") else f"-s {option.removeprefix('-')}"
        for option in argument.options
    ]
    return [f"{name}{needs} -d {_fish_quote(argument.help)}" for name in names]


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
