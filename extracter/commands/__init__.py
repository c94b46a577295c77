"""The subcommands of `extracter`, one module per group; extracter/cli.py combines them."""
