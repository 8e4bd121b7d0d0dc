"""Installs goproc in the workers of pytest-xdist, which pytest-xdist starts as plain interpreters."""

import goproc

goproc.install()
