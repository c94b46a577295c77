"""The one exception for whatever a user can put right."""


class UserError(Exception):
    """Says in one sentence what is wrong, where, and what to do; the command line prints it and exits 1."""
