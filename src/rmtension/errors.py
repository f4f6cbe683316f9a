"""The one exception whose message is meant for the user."""


class UserError(Exception):
    """A mistake that the user can mend: its message is one line saying what is wrong, where, and what to do."""
