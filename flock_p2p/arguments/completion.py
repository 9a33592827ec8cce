"""The arguments of `completion`."""

import argparse

from flock_p2p.arguments.command import Command

DETAILS = (
    'bash: eval "$(flock-p2p completion bash)" in ~/.bashrc; zsh: eval "$(flock-p2p completion zsh)" in ~/.zshrc, '
    "after compinit; fish: flock-p2p completion fish | source, in ~/.config/fish/config.fish."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="whose script is printed")


COMMAND = Command("completion", "print what a shell needs to complete these commands", add_arguments, DETAILS)
