"""Where the documentation explains a message: what it means, why, what to do, how to check."""

from functools import cached_property

__all__ = ["DOCUMENTATION", "Explained", "explained", "page", "see"]

#: `Documentation` of [project.urls] in pyproject.toml, and `site_url` in mkdocs.yml.
DOCUMENTATION = "https://asgi-redis-session.github.io/asgi-redis-session/"


def see(kind: str) -> str:
    """
    Return the sentence that leads to the section of `docs/errors.md` about this kind of message.

    *kind*: the name of an error's class, of a log record or of a warning, which is the title of
    the section.
    """
    return page(f"errors/#{kind.lower()}")


def page(path: str) -> str:
    """Return the sentence that leads to a page of the documentation."""
    return f"See {DOCUMENTATION}{path}"


class Explained(Exception):
    """An error whose traceback ends with the address of its explanation."""

    # A note, and no part of the message: what an app shows or compares stays as it is. Made when a
    # traceback is printed, and not for each error that an app handles.
    @cached_property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        return [see(type(self).__name__)]


def explained(error: Exception) -> str:
    """Return the message of an error that a command prints, with its address if it has one."""
    return " ".join([str(error), *getattr(error, "__notes__", ())])
