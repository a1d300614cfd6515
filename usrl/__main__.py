"""``python -m usrl``: the command line."""

from usrl.cli import app

app(prog_name="usrl")
