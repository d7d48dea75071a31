"""Where cnnjax keeps what it can make again."""

import os
from pathlib import Path

from cnnjax.core.errors import Refused


def user_cache(*parts: str) -> Path:
    """A folder in the user's cache ($XDG_CACHE_HOME/cnnjax or ~/.cache/cnnjax), made if absent."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnjax"
    return writable_folder(root.joinpath(*parts), "cache folder", "set XDG_CACHE_HOME to another")


def own_folder(path: Path, kind: str, marks: tuple[str, ...], option: str = "--workdir") -> Path:
    """`path` as a folder for a run or a study: empty, or one that has any of `marks` already.

    Raises:
      Refused: it cannot be written, or holds something else.
    """
    if path.is_dir():
        visible = sorted(entry.name for entry in path.iterdir() if entry.name[0] != ".")
        if visible and not any(mark in visible for mark in marks):
            raise Refused(
                f"{kind} {path} holds other files ({', '.join(visible[:3])}); give another {option}"
            )
    return writable_folder(path, kind, f"give another {option}")


def unicode_path(path: Path, kind: str, option: str = "--workdir") -> None:
    """Refuse a folder whose path is no UTF-8: what writes checkpoints takes no other."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise Refused(
            f"{kind} {path}: its path ({path.absolute()}) is no UTF-8, which checkpoints need; give"
            f" another {option}"
        ) from None


def writable_folder(path: Path, kind: str, hint: str) -> Path:
    """`path` as a folder that can be written, made if absent.

    Raises:
      Refused: it is a file, or cannot be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Refused(f"{kind} {path} cannot be written ({reason}); {hint}") from None
    return path
