"""The one exception whose message is meant for the user."""


class UserError(Exception):
    """A mistake that the user can mend: one line, or one for each mistake, saying what is wrong, where, what to do."""

    def __str__(self) -> str:
        """What a file or its name may hold, such as a line break, is escaped: a line stays one."""
        return "\n".join("".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(line)) for line in self.args)
