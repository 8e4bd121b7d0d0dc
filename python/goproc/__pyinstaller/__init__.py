"""Tells PyInstaller where the hook for goproc is (entry point pyinstaller40 in pyproject.toml)."""

import os

__all__ = ["get_hook_dirs"]


def get_hook_dirs() -> "list[str]":
    """Return the folders with hooks. Source: PyInstaller's manual, "Providing PyInstaller Hooks with your Package"."""
    return [os.path.dirname(__file__)]
