"""pytest-xdist starts its workers itself, as plain interpreters; this has the tests in them run on goproc."""

import goproc

goproc.install()
