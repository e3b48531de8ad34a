"""The one exception for mistakes that the user can mend."""


class UserError(ValueError):
    """Bad input: one line naming the thing, the place and the remedy.

    The programs in `experiments/` print it without a traceback and exit with status 1.
    """
