package sys

import (
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Executor is the function in C that makes the child for Execute. keep is sorted. Package capi sets it; it is nil in
// tests of packages that are not linked with C.
var Executor func(path string, argv, environ []string, keep []int) (pid int, err error)

// Execute starts the program at path. It returns the process number as soon as the program runs, or an error that says
// why it does not run.
//
// The child inherits the standard streams, unless they are close-on-exec here, and the descriptors in keep. Each has
// the number that it has here, because messages to the child name it. The child inherits no other descriptor, whether
// close-on-exec or not (as with close_fds=True in Python's _posixsubprocess.fork_exec).
//
// The calling thread makes the child. If the call comes from Python, that is the Python thread. So the child has all
// that execve(2) preserves of it: credentials, capabilities, seccomp filters, Landlock domain, namespaces, scheduling,
// signal mask. On another thread of this process these may differ, because the program may have given up rights on this
// one.
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

// Block blocks a signal in the calling thread, and in programs that it executes, until unblock is called. The goroutine
// is locked to the thread meanwhile.
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

// executeByGo is an Executor without C. In the child, it closes the descriptors one by one, up to the highest
// inheritable number. If another thread opens a higher inheritable descriptor meanwhile, that leaks into the child.
func executeByGo(path string, argv, environ []string, keep []int) (int, error) {
	highest := slices.Max(append([]int{2}, keep...))
	for _, fd := range openDescriptors() {
		if fd <= highest {
			continue
		}
		// An error means that it has been closed since. The descriptor by which they were listed has been, too.
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

// standardStreams says what becomes of 0, 1 and 2 in a child. A stream that is closed or close-on-exec here is closed
// there.
func standardStreams() []uintptr {
	files := []uintptr{closed, closed, closed}
	for _, fd := range StandardStreams() {
		files[fd] = uintptr(fd)
	}
	return files
}

// StandardStreams are those of the descriptors 0, 1 and 2 that an executed program inherits.
func StandardStreams() (inherited []int) {
	for fd := range 3 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			inherited = append(inherited, fd)
		}
	}
	return inherited
}
