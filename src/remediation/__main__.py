"""``python -m remediation``: the command line."""

from remediation.cli import main

if __name__ == "__main__":
    main()
