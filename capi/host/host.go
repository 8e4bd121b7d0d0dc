// Package host bounds what the Go runtime takes from the process that it is loaded into: threads and address space. See
// host.c.
//
// Only the engine's main package imports it: its C functions replace the C library's for the whole library.
package host

// #cgo LDFLAGS: -lpthread -ldl
// #include "host.h"
import "C"

import (
	"fmt"
	"runtime"

	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// mostProcessors is MOST_PROCESSORS of host.c. The engine's own goroutines need no more: most work is done on its
// callers' threads.
const mostProcessors = 4

func init() {
	runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), mostProcessors))
	sys.AddThread = addThread
}

func addThread() error {
	if code := C.goproc_host_add_thread(); code != 0 {
		return fmt.Errorf("pthread_create: %w", unix.Errno(code))
	}
	return nil
}
