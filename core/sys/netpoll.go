package sys

import (
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The two descriptors of the Go runtime.
//
// Problem: the runtime's network poller has an epoll and an eventfd. It opens them when the first timer is set or the
// first file is polled, and uses them from then on. If the program closes descriptors that are not its own
// (os.closerange), the runtime aborts the process, or writes to the file that has got the number of its eventfd.
//
// What does not work: to use neither timers nor files. The engine does not (see clock.go), but the runtime's scavenger
// sets timers.
//
// Solution: the poller is opened when the engine is loaded, at numbers from 1024 on. Loops over all descriptors often
// leave these out, and the program's files do not get them. Before a call from Python enters Go
// (capi/native/runtime.c), and after each wait of the reaper, it is checked whether both descriptors are open. If one
// is not, it is opened anew. That is enough, because the engine waits for no event of the runtime's poller.
//
// A timer is set that never goes off, so that one idle thread of the runtime always waits in the epoll. Then the other
// threads use the epoll only at the end of a garbage collection. Without the timer, each thread would use it whenever
// it is idle.
//
// Limits: the runtime may use a lost descriptor before the check, in a garbage collection, or after it, if the program
// closes one during a call. And if the standard streams do not block, the runtime polls these before the engine is
// loaded. Then its poller has low numbers, and is not checked.

// OpenRuntimePoller opens the poller, once. The thread that loads the engine calls it while it is still loading,
// because meanwhile it opens and closes descriptors.
var OpenRuntimePoller = sync.OnceFunc(func() { *register.runtime = openRuntimePoller() })

// aboveUsualLoops is the usual soft limit of descriptors: loops over all descriptors often end there.
const aboveUsualLoops = 1024

func openRuntimePoller() (fds [2]int32) {
	filler, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fds // there are no descriptors left: the runtime would abort
	}
	filled := []int{filler}
	defer func() {
		for _, fd := range filled {
			_ = unix.Close(fd)
		}
	}()
	next := filler
	for next < aboveUsualLoops-1 {
		if next, err = unix.FcntlInt(uintptr(filler), unix.F_DUPFD_CLOEXEC, next+1); err != nil {
			break // the limit is lower
		}
		filled = append(filled, next)
	}
	if err != nil {
		if len(filled) < 3 {
			return fds
		}
		for _, fd := range filled[len(filled)-2:] {
			_ = unix.Close(fd)
		}
		filled = filled[:len(filled)-2]
		next = filled[len(filled)-1]
	}
	first, err := unix.FcntlInt(uintptr(filler), unix.F_DUPFD_CLOEXEC, 0)
	for ; err == nil && first < next; first, err = unix.FcntlInt(uintptr(filler), unix.F_DUPFD_CLOEXEC, 0) {
		filled = append(filled, first) // another thread has closed a lower number meanwhile, and this is it
	}
	if err != nil {
		return fds
	}
	second, err := unix.FcntlInt(uintptr(filler), unix.F_DUPFD_CLOEXEC, 0)
	_ = unix.Close(first)
	if err != nil {
		return fds
	}
	_ = unix.Close(second)
	time.AfterFunc(math.MaxInt64, func() {}) // a timer needs the poller
	var event unix.EpollEvent
	if unix.EpollCtl(first, unix.EPOLL_CTL_ADD, second, &event) != unix.EEXIST {
		return fds // it had its poller already
	}
	register.add(first, Mark(first), "")
	register.add(second, Mark(second), "")
	return [2]int32{int32(first), int32(second)}
}

// MendRuntime opens the descriptors of the runtime anew if the program has closed them.
func MendRuntime() {
	if register.runtime[0] == 0 {
		return
	}
	for i, open := range []func() (int, error){
		func() (int, error) { return unix.EpollCreate1(unix.EPOLL_CLOEXEC) },
		func() (int, error) { return unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK) },
	} {
		number := int(register.runtime[i])
		if _, err := unix.FcntlInt(uintptr(number), unix.F_GETFD, 0); err == nil {
			continue
		}
		fd, err := open()
		if err == nil && fd != number {
			_ = unix.Dup3(fd, number, unix.O_CLOEXEC)
			_ = unix.Close(fd)
		}
	}
}
