// Package pybind is the engine's control plane, as gopy binds it: functions of ints and strings.
package pybind

import _ "github.com/goproc/goproc/capi" // its exports share this library, and so the Go runtime

// version is set by setup.py (-ldflags -X), from __version__ in python/goproc/__init__.py.
var version = "unset"

// Version is the version of the package that the engine was built for; "unset" in Go's own tests.
func Version() string { return version }
