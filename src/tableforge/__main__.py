"""`python -m tableforge`: the same as the command `tableforge`."""

from tableforge.cli import main

if __name__ == "__main__":
    main(prog_name="tableforge")
