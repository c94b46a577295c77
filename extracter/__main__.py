"""`python -m extracter`: the `extracter` command."""

from extracter.cli import main

if __name__ == "__main__":
    main()
