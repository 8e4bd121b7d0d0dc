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

// processors is PROCESSORS of threads.c: how many threads run Go code at a time. Each pool has a goroutine that sleeps
// in a system call, and so keeps a processor until the runtime takes it away. The runtime looks for that every 20 us
// unless there is an idle processor. With one for each core, small tasks took a fifth longer on two cores.
const processors = 4

func init() {
	runtime.GOMAXPROCS(processors)
	sys.AddThread = addThread
}

func addThread() error {
	if code := C.goproc_host_add_thread(); code != 0 {
		return fmt.Errorf("pthread_create: %w", unix.Errno(code))
	}
	return nil
}
