"""``python -m anydiff`` is the command ``anydiff``."""

from anydiff.cli.main import main

main()
