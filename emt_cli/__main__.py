"""Run the command line as `python -m emt_cli`."""

from emt_cli.cli import main

if __name__ == "__main__":
    main()
