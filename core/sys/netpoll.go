package sys

import (
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The Go runtime's network poller is an epoll and an eventfd. It opens them when the first timer is set or the first
// file is polled, and uses them from then on. Problem: if the program closes descriptors that are not its own
// (os.closerange), the runtime aborts the process, or writes to whatever file has the number of its eventfd then. What
// does not work: to do without. The engine sets no timers and polls no files (see clock.go), but the runtime's own
// scavenger does.
//
// Solution: the poller is opened when the engine is loaded, at numbers from 1024 on, which loops over all descriptors
// often leave out, and the program's files do not get. Whoever is about to enter Go from Python
// (capi/native/runtime.c), and the reaper, look whether both are there, and open them anew if not. Nothing waits for
// what the old ones would have told.
//
// There is a timer that never goes off, so one idle thread of the runtime waits in its epoll, all the time. As long as
// one does, the others look there only at the end of a garbage collection: else each would whenever it has nothing to
// do.
//
// Limits: a collection that was quicker, or a program that closes them between that look and the end of the call. Where
// the standard streams do not block, the runtime polls these, has opened its poller at low numbers, and is not looked
// after.

// OpenRuntimePoller opens the poller, once. The thread that has loaded the engine calls it: while it is still loading,
// it closes descriptors.
var OpenRuntimePoller = sync.OnceFunc(func() { *register.runtime = openRuntimePoller() })

// aboveUsualLoops is where loops over all descriptors often end, and the usual soft limit.
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
		filled = append(filled, first) // another thread has closed it meanwhile
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
