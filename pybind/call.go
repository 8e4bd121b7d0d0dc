package pybind

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/goproc/goproc/core/engine"
	"github.com/goproc/goproc/core/guard"
	"github.com/goproc/goproc/core/pool"
	"github.com/goproc/goproc/core/prefork"
	"github.com/goproc/goproc/core/process"
)

// call calls f for a bound function. It refuses a poisoned engine, turns a panic into an error, and gives errors the
// form that Python reads. Every bound function returns a value besides the error, because gopy leaks memory for
// functions that return only an error.
func call[T any](where string, f func(e *engine.Engine) (T, error)) (result T, err error) {
	defer func() { err = encodeError(err) }()
	defer guard.Recover(where, &err)
	if err := guard.Check(); err != nil {
		return result, err
	}
	return f(engine.Get())
}

// do is call for functions without a result.
func do(where string, f func(e *engine.Engine) error) (int, error) {
	return call(where, func(e *engine.Engine) (int, error) { return 0, f(e) })
}

// encodeError gives an error the form "goproc:CODE:ERRNO:TEXT". From that, python/goproc/_common/engine.py finds the
// exception to raise. gopy passes only the text of an error on.
func encodeError(err error) error {
	var errno syscall.Errno
	code := "INTERNAL"
	switch {
	case err == nil:
		return nil
	case errors.Is(err, guard.ErrPoisoned):
		code = "POISONED"
	case errors.Is(err, process.ErrClosed):
		code = "CLOSED"
	case errors.Is(err, prefork.ErrGone):
		code = "GONE"
	case errors.Is(err, pool.ErrNone):
		code = "NO_POOL"
	case errors.Is(err, process.ErrInvalid), errors.Is(err, pool.ErrClosed):
		code = "INVALID"
	case errors.As(err, &errno):
		code = "OS"
	}
	if code != "OS" {
		errno = 0
	}
	return fmt.Errorf("goproc:%s:%d:%w", code, int(errno), err)
}
