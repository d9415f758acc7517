"""What an operator does with a data folder: look whether all is well, copy it, bring a copy back, walk through it."""
