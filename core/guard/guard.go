// Package guard turns a panic anywhere in the engine into an error, and keeps it.
//
// A Go panic that reaches C ends the whole interpreter. So every function that Python or C calls, and every goroutine,
// defers [Recover] or [Goroutine]. After the first panic the state of the engine cannot be trusted: the engine is
// poisoned. Every later call is refused, with an error that names the panic.
package guard

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// ErrPoisoned is wrapped by every error that a poisoned engine returns.
var ErrPoisoned = errors.New("the goproc engine is poisoned by an internal error")

var poison atomic.Pointer[string]

var watchers struct {
	sync.Mutex
	list []func()
}

// OnPoison has f called when the engine is poisoned. If it is poisoned already, f is called at once. f must not panic,
// and must not wait.
func OnPoison(f func()) {
	watchers.Lock()
	defer watchers.Unlock()
	watchers.list = append(watchers.list, f)
	if poison.Load() != nil {
		f()
	}
}

// Check returns nil, or, if the engine is poisoned, an error that wraps [ErrPoisoned] and names the panic.
func Check() error {
	if by := poison.Load(); by != nil {
		return fmt.Errorf("%w: %s", ErrPoisoned, *by)
	}
	return nil
}

// Recover, deferred, turns a panic into *err. where names the call.
func Recover(where string, err *error) {
	if v := recover(); v != nil {
		record(where, v)
		*err = Check()
	}
}

// Goroutine, deferred first in every goroutine, keeps its panic from ending the process.
func Goroutine(where string) {
	if v := recover(); v != nil {
		record(where, v)
	}
}

// record poisons the engine with the first panic, and prints its stack. Later panics are not recorded.
func record(where string, v any) {
	by := fmt.Sprintf("panic in %s: %v", where, v)
	if poison.CompareAndSwap(nil, &by) {
		watchers.Lock()
		for _, f := range watchers.list {
			f()
		}
		watchers.Unlock()
		fmt.Fprintf(os.Stderr, "goproc: %s\n%s", by, debug.Stack())
	}
}
