"""``python -m etl``."""

from etl.cli import start

if __name__ == "__main__":
    start()
