"""``python -m etl``."""

import sys

try:
    from etl.cli import start
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] == "etl":
        raise
    # In a fresh checkout, the Python of the system has none of the libraries.
    sys.stderr.write(
        f"error: {sys.executable} lacks the library {error.name!r}: pip install -r "
        "requirements.txt, or use the .venv that make run makes\n"
    )
    raise SystemExit(2) from None

if __name__ == "__main__":
    start()
