"""What each command does: a module per command, each with ``run(arguments) -> exit code``."""
