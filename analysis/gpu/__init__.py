"""All runs that need a CUDA device, by priority, within a budget of seconds: ``make gpu``."""
