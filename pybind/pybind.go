// Package pybind is the engine's control plane, as gopy binds it: functions of ints and strings.
package pybind

import _ "github.com/goproc/goproc/capi" // its exports share this library, and so the Go runtime

// Version is the engine's version.
func Version() string { return "0.1.0" }
