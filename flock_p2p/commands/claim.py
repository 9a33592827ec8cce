"""`claim`: what `stake claim` does, by the name that people look for."""

from flock_p2p.commands.stake import run as run
