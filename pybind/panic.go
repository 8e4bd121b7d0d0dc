package pybind

import (
	"fmt"

	"github.com/goproc/goproc/core/engine"
	"github.com/goproc/goproc/core/guard"
	"github.com/goproc/goproc/core/process"
)

// DebugPanic panics on purpose, in the call itself ("call") or in a goroutine ("goroutine"), so that tests can check
// that the interpreter survives. With "goroutine", DebugPanic itself succeeds, and the next call reports the panic.
func DebugPanic(where string) (int, error) {
	return do("DebugPanic", func(*engine.Engine) error {
		switch where {
		case "call":
			panic("provoked by DebugPanic")
		case "goroutine":
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer guard.Goroutine("DebugPanic's goroutine")
				panic("provoked by DebugPanic")
			}()
			<-done
			return nil
		default:
			return fmt.Errorf("%w: there is no place %q to panic in", process.ErrInvalid, where)
		}
	})
}
