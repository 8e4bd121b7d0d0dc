package sys

import (
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Executor makes the child of Execute, by C. Package capi sets it; keep is sorted. It is nil in tests of packages
// that are not linked with C.
var Executor func(path string, argv, environ []string, keep []int) (pid int, err error)

// Execute starts the program at path and returns its process number as soon as the program runs, or why it does not.
//
// The child inherits the standard streams, unless they are close-on-exec here, and the descriptors in keep, all under
// the numbers that they have here: what is sent to the child names them. It inherits no other descriptor, whether
// close-on-exec or not (as with close_fds=True in Python's _posixsubprocess.fork_exec).
//
// The calling thread makes the child. A call from Python runs on the Python thread that makes it. So the child has all
// that execve(2) preserves of that thread: its credentials, capabilities, seccomp filters, Landlock domain, namespaces,
// scheduling, signal mask. Another thread of this process may have other ones: the program may have given up rights on
// this one since.
func Execute(path string, argv, environ []string, keep []int) (pid int, err error) {
	for _, fd := range keep {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return 0, fmt.Errorf("descriptor %d to be inherited: %w", fd, err)
		}
	}
	execute := Executor
	if execute == nil {
		execute = executeByGo
	}
	if pid, err = execute(path, argv, environ, slices.Sorted(slices.Values(keep))); err != nil {
		return 0, fmt.Errorf("execute %s: %w", path, err)
	}
	return pid, nil
}

// Block keeps a signal from the calling thread, and from what it executes, until the function is called that it
// returns. The goroutine stays on the thread.
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

// executeByGo is an Executor without C: every number up to the highest inheritable one is closed in the child, one by
// one. A descriptor that another thread opens meanwhile, inheritable and higher, leaks into the child.
func executeByGo(path string, argv, environ []string, keep []int) (int, error) {
	highest := slices.Max(append([]int{2}, keep...))
	for _, fd := range openDescriptors() {
		if fd <= highest {
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
