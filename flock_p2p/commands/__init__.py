"""One module per command, each with `run(arguments) -> exit code`; loaded only when its command runs."""
