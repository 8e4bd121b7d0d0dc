package sys

import "golang.org/x/sys/unix"

// Monotonic is the time of CLOCK_MONOTONIC in nanoseconds, by which workers note when a task starts.
func Monotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // it cannot fail: the clock exists, the address is good
	return now.Nano()
}
