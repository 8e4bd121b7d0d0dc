// Package trace writes on standard error what the engine does, a line for each event.
//
// It is off until [Set] turns it on. The lines look like those of multiprocessing's log, but do not go through that
// log: most are written while no Python thread is in the engine. Callers on a hot path look at [On] before they make
// arguments.
package trace

import (
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

var on atomic.Bool

// Set turns tracing on or off.
func Set(wanted bool) { on.Store(wanted) }

// On reports whether tracing is on.
func On() bool { return on.Load() }

// Printf writes a line, if tracing is on. One system call writes it, so lines of several processes do not mix.
func Printf(format string, args ...any) {
	if on.Load() {
		line := fmt.Appendf(nil, "[DEBUG/engine of %d] "+format+"\n", append([]any{os.Getpid()}, args...)...)
		_, _ = unix.Write(int(os.Stderr.Fd()), line)
	}
}
