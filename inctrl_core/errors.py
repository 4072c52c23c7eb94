"""Errors whose message is meant for the person who caused them.

Every message is one sentence that says what to do. Interfaces show it as it stands; anything that
is not an :class:`InctrlError` is a defect of this program and keeps its stack trace.
"""


class InctrlError(ValueError):
    """Base of all errors with a message for the user."""


class ImageError(InctrlError):
    """An image cannot be used: unreadable, too large, of an unsupported kind."""


class PromptError(InctrlError):
    """Normal images, object name or phrases cannot make a prompt bank."""


class ModelError(InctrlError):
    """A model's files are missing, damaged, or do not fit this program."""
