"""The subcommands of `extracter`: a module for each group, put together in extracter/cli.py."""
