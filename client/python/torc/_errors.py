"""An exception for each status of torc/err.h; the names and sentences come from libtorc itself."""
from torc._library import LIBRARY


class Error(Exception):
    """Any failure. `status` is its number, `name` its name, `str(error)` one line for people."""

    status = -1

    @property
    def name(self) -> str:
        return LIBRARY.torc_error_name(self.status).decode()

    @property
    def retryable(self) -> bool:
        """The same call may succeed later."""
        return bool(LIBRARY.torc_retryable(self.status))

    @property
    def maybe_applied(self) -> bool:
        """A write may have taken effect."""
        return bool(LIBRARY.torc_maybe_applied(self.status))


def _make_all():
    """CamelCase classes for all statuses that libtorc names; OK and NOT_FOUND are no errors."""
    made = {}
    for number in range(256):
        name = LIBRARY.torc_error_name(number).decode()
        if name in ("UNKNOWN", "OK"):
            continue
        title = "".join(word.capitalize() for word in name.split("_"))
        base = (Error, ValueError) if name == "INVALID_ARGUMENT" else (Error,)
        made[number] = type(title, base, {
            "status": number,
            "__doc__": LIBRARY.torc_error_sentence(number).decode() + ".",
            "__module__": "torc"})
    return made


BY_STATUS = _make_all()
globals().update({kind.__name__: kind for kind in BY_STATUS.values()})
__all__ = ["Error", *sorted(kind.__name__ for kind in BY_STATUS.values())]


def make(status: int, text: str) -> Error:
    """The exception of a status, with its line of text."""
    kind = BY_STATUS.get(status, Error)
    error = kind(text or LIBRARY.torc_error_sentence(status).decode())
    error.status = status
    return error
