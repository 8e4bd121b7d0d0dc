"""A package that can be run: python -m package."""
