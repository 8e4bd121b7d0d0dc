// Package host limits the threads and the address space that the Go runtime takes from the process that has loaded it.
// See host.c.
//
// Only the engine's main package imports it, because its C functions replace those of the C library in all of the
// library.
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

// processors is how many threads run Go code at a time; PROCESSORS in threads.c is the same number. (A processor, in
// the Go runtime, is the right to run Go code.) Each pool has a goroutine that sleeps in a system call. It keeps its
// processor until the runtime takes that away. To do so, a thread of the runtime looks every 20 us, unless there is an
// idle processor. So there are some more processors than are needed. With one for each core, small tasks took a fifth
// longer on two cores.
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
