package sys

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"github.com/goproc/goproc/core/guard"
	"golang.org/x/sys/unix"
)

// Execute starts the program at path and returns its process number as soon as the program runs, or why it does not.
//
// The child inherits the standard streams, unless they are close-on-exec here, and the descriptors in keep, all under
// the numbers that they have here: what is sent to the child names them. It inherits nothing else, whether
// close-on-exec or not (as with close_fds=True in Python's _posixsubprocess.fork_exec). Its signal mask, its priority and
// the processors that it may use are those of the calling thread, its limits and its working folder those of this process.
//
// Package syscall closes nothing in the child but what is close-on-exec, and to mark descriptors so in this process
// would change it under the program's other threads, which open inheritable descriptors as they like. So the child is
// made by a thread that has a descriptor table of its own, a copy: there everything is marked close-on-exec in one
// call, and only what is kept is unmarked. Where the kernel refuses that, see executeShared.
func Execute(path string, argv, environ []string, keep []int) (pid int, err error) {
	for _, fd := range keep {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return 0, fmt.Errorf("descriptor %d to be inherited: %w", fd, err)
		}
	}
	var mask unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, nil, &mask); err != nil {
		return 0, fmt.Errorf("read the signal mask: %w", err)
	}
	own := readScheduling()
	err = errNoPrivateTable
	if privateTables {
		err = onOwnThread(func() (started bool, err error) {
			if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_UNSHARE|unix.CLOSE_RANGE_CLOEXEC); err != nil {
				return false, errNoPrivateTable
			}
			own.apply() // on a thread that ends
			pid, err = executePrivate(path, argv, environ, keep, &mask)
			return true, err
		})
	}
	if errors.Is(err, errNoPrivateTable) {
		pid, err = executeShared(path, argv, environ, keep)
	}
	if err != nil {
		return 0, fmt.Errorf("execute %s: %w", path, err)
	}
	return pid, nil
}

// Block keeps a signal from the calling thread, and from what it executes, until the function is called that it returns. The
// goroutine stays on the thread.
func Block(signal unix.Signal) (unblock func()) {
	runtime.LockOSThread()
	var set, before unix.Sigset_t
	set.Val[(signal-1)/bitsOfWord] |= 1 << ((signal - 1) % bitsOfWord)
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &set, &before) // fails only for a wrong argument
	return func() {
		_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
		runtime.UnlockOSThread()
	}
}

// bitsOfWord is how many signals a word of a unix.Sigset_t stands for.
const bitsOfWord = unix.Signal(8 * unsafe.Sizeof(unix.Sigset_t{}.Val[0]))

// errNoPrivateTable says that close_range(2) could not make a private descriptor table (before Linux 5.11, or under
// an old seccomp policy).
var errNoPrivateTable = errors.New("no private descriptor table")

// privateTables is false where a thread with a descriptor table of its own cannot be had.
var privateTables = startPoller()

// startPoller makes the Go runtime open its network poller now. The runtime may use the poller from any thread, also
// from one with a table of its own, where it would not find a poller opened after the table was copied: that is fatal
// to the process, as is a poller that cannot be opened for want of descriptors, which is therefore tried first.
func startPoller() bool {
	var probe [2]int
	for i := range probe {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			for _, opened := range probe[:i] {
				_ = unix.Close(opened)
			}
			return false
		}
		probe[i] = fd
	}
	for _, fd := range probe {
		_ = unix.Close(fd)
	}
	time.AfterFunc(time.Hour, func() {}).Stop() // a timer needs the poller
	listNetpoll()
	return true
}

// executePrivate runs on a thread whose descriptor table is its own and in which all but the standard streams is
// close-on-exec.
func executePrivate(path string, argv, environ []string, keep []int, mask *unix.Sigset_t) (int, error) {
	for _, fd := range keep {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return 0, fmt.Errorf("descriptor %d to be inherited: %w", fd, err)
		}
	}
	files := standardStreams()
	// ForkExec moves its own pipe upwards if it lies at or below len(files), over whatever is there. When standard
	// streams are closed it could: so fill the gaps first.
	for {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			return 0, err
		}
		if fd > len(files) {
			_ = unix.Close(fd)
			break
		}
	}
	// ForkExec saves the thread's mask, blocks everything, and has the child restore what it saved.
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, mask, nil); err != nil {
		return 0, err
	}
	return syscall.ForkExec(path, argv, &syscall.ProcAttr{Env: environ, Files: files})
}

// executeShared starts the program without a private descriptor table: every number up to the highest inheritable one
// is closed in the child, one by one. A descriptor that another thread opens meanwhile, inheritable and higher, leaks
// into the child; there is no way to keep it out here.
func executeShared(path string, argv, environ []string, keep []int) (int, error) {
	highest := slices.Max(append([]int{2}, keep...))
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, err
	}
	for _, entry := range open {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= highest {
			continue
		}
		// An error means that it was closed since, as the one of the scan itself is.
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			highest = fd
		}
	}
	files := standardStreams()
	for range highest - 2 {
		files = append(files, closed)
	}
	for _, fd := range keep {
		files[fd] = uintptr(fd)
	}
	return syscall.ForkExec(path, argv, &syscall.ProcAttr{Env: environ, Files: files})
}

// closed, in place of a descriptor, makes ForkExec close that number in the child.
const closed = ^uintptr(0)

// standardStreams says what becomes of 0, 1 and 2 in a child: what is closed or close-on-exec here is closed there.
func standardStreams() []uintptr {
	files := []uintptr{closed, closed, closed}
	for _, fd := range StandardStreams() {
		files[fd] = uintptr(fd)
	}
	return files
}

// StandardStreams are those of 0, 1 and 2 that a program inherits.
func StandardStreams() (inherited []int) {
	for fd := range 3 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			inherited = append(inherited, fd)
		}
	}
	return inherited
}

// mainThread is the thread on which the Go runtime started: package initialisation runs there.
var mainThread = unix.Gettid()

// onOwnThread runs f on a thread that nothing else uses and that has ended when onOwnThread returns, if f returned
// true. Not before: the descriptors in a table of its own stay open until the thread has ended, and who closes the
// write end of a pipe after starting a process expects the reader to see the end at once.
func onOwnThread(f func() (end bool, err error)) (err error) {
	type outcome struct {
		thread int
		ended  bool
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		result := outcome{}
		defer func() { done <- result }()
		defer guard.Recover("Execute", &result.err)
		runtime.LockOSThread()
		if result.thread = unix.Gettid(); result.thread == mainThread {
			// The runtime cannot end this thread, it would park it for ever, with its table. While it is locked
			// here the next goroutine gets another one.
			defer runtime.UnlockOSThread()
			result.err = onOwnThread(f)
			return
		}
		if result.ended, result.err = f(); !result.ended {
			runtime.UnlockOSThread()
		} // else the thread ends with the goroutine, since it stays locked
	}()
	result := <-done
	for deadline := time.Now().Add(time.Second); result.ended && time.Now().Before(deadline); {
		if err := unix.Tgkill(os.Getpid(), result.thread, 0); err != nil {
			break // ESRCH: it is gone, and its table before it
		}
		time.Sleep(10 * time.Microsecond)
	}
	return result.err
}
