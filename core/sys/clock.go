package sys

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loaded is when the engine was loaded: by Go's clock, and by CLOCK_MONOTONIC in nanoseconds.
var loaded, loadedAt = time.Now(), clockMonotonic()

func clockMonotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // it cannot fail: the clock exists, the address is good
	return now.Nano()
}

// Monotonic is the time of CLOCK_MONOTONIC in nanoseconds, by which workers note when a task starts. Go's clock is the
// same one, and reading it takes no system call.
func Monotonic() int64 { return loadedAt + int64(time.Since(loaded)) }

// What package time offers for waiting is not used in the engine, nor are files of package os. These have the Go
// runtime open an epoll and an eventfd, and keep them. If the program closes descriptors that are not its own
// (os.closerange), the runtime either aborts the process, or writes to whatever file has the number of its eventfd
// then. So goroutines that wait for a time do so in a futex, each with a thread, and there are few of them.

// WaitClosed waits for the channel to be closed, and reports whether it was before patience was over.
func WaitClosed(closed <-chan struct{}, patience time.Duration) bool {
	select {
	case <-closed:
		return true
	default:
	}
	var over atomic.Uint32
	timeout := make(chan struct{})
	go func() {
		defer close(timeout)
		sleep(&over, patience)
	}()
	defer func() {
		over.Store(1)
		FutexWake((*uint32)(unsafe.Pointer(&over)))
		<-timeout
	}()
	select {
	case <-closed:
		return true
	case <-timeout:
		return false
	}
}

// Sleep is time.Sleep.
func Sleep(d time.Duration) {
	var never atomic.Uint32
	sleep(&never, d)
}

// sleep sleeps until the word is not 0, or until patience is over: signals interrupt a futex.
func sleep(word *atomic.Uint32, patience time.Duration) {
	for end := Monotonic() + int64(patience); word.Load() == 0; {
		left := end - Monotonic()
		if left <= 0 {
			return
		}
		FutexWait((*uint32)(unsafe.Pointer(word)), 0, time.Duration(left))
	}
}
