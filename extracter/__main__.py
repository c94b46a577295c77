"""The `extracter` command, also as `python -m extracter`.

The commands take a second to import. Ctrl-C and SIGTERM are handled before that, so that they always end in one line.
"""

import os
import signal
import sys

from extracter.errors import UserError

_INTERRUPTED, _ENDED = 130, 128 + signal.SIGTERM


def main() -> None:
    """Run the command. An error that the user can fix prints one line to stderr and exits with code 1."""
    signal.signal(signal.SIGTERM, _end)
    # They are None if the caller closed them.
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        # Rich takes any file for a terminal where this is set; a log wants no control codes.
        os.environ.pop("FORCE_COLOR", None)
    try:
        from extracter.cli import app

        app()
    except UserError as error:
        print(f"extracter: {error}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as stop:
        # Typer turns Ctrl-C into exit code 130 without a message.
        code = _INTERRUPTED if isinstance(stop, KeyboardInterrupt) else stop.code
        if code in (_INTERRUPTED, _ENDED):
            how = "interrupted" if code == _INTERRUPTED else "ended"
            print(f"extracter: {how}; run the same command again to resume", file=sys.stderr)
        sys.exit(code)


def _end(*_: object) -> None:
    """Let SIGTERM raise an exception, as Ctrl-C does, so that half-written files are removed."""
    raise SystemExit(_ENDED)


if __name__ == "__main__":
    main()
