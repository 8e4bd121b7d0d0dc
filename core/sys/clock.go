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

// Monotonic is the time of CLOCK_MONOTONIC in nanoseconds. Workers note by this clock when a task starts. Go's own
// clock is the same, and reading that takes no system call.
func Monotonic() int64 { return loadedAt + int64(time.Since(loaded)) }

// The engine uses neither the timers of package time nor files of package os. For these the Go runtime opens an epoll
// and an eventfd, and goes on using them. If the program closes descriptors that are not its own (os.closerange), the
// runtime either aborts the process, or writes to the file that has got the number of its eventfd. So a goroutine that
// waits for a time waits in a futex. It holds a thread meanwhile, so there are few such goroutines.

// WaitClosed waits until the channel is closed, or until patience is over. It reports whether the channel is closed.
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

// sleep sleeps until the word is not 0, or until patience is over. It loops, because signals interrupt FutexWait.
func sleep(word *atomic.Uint32, patience time.Duration) {
	for end := Monotonic() + int64(patience); word.Load() == 0; {
		left := end - Monotonic()
		if left <= 0 {
			return
		}
		FutexWait((*uint32)(unsafe.Pointer(word)), 0, time.Duration(left))
	}
}
