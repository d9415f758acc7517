"""The numbered scripts that bring a database to the present form; they only go forward."""
