"""Everything that wants a CUDA device, in the order of its value, inside a budget of seconds: ``make gpu``."""
