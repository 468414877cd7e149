"""The command line: a thin face over ``autoprune.api``. Each module imports what a command needs inside the command."""
