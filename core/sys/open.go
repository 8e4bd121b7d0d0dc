package sys

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// own takes ownership of a descriptor that has just been opened. If the program has closed its standard streams, the
// descriptor may have a number below three. Then it is moved up, because in a child 0, 1 and 2 are the standard
// streams, and because in some places 0 means "none".
func own(fd int, what string) (*FD, error) {
	if fd > 2 {
		return NewFD(fd, what), nil
	}
	moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	_ = unix.Close(fd)
	if err != nil {
		return nil, fmt.Errorf("move %s above the standard streams: %w", what, err)
	}
	return NewFD(moved, what), nil
}

// ownPair is own for two descriptors. If it fails, neither is left open.
func ownPair(first, second int, what string) (*FD, *FD, error) {
	a, err := own(first, what)
	if err != nil {
		_ = unix.Close(second)
		return nil, nil, err
	}
	b, err := own(second, what)
	if err != nil {
		_ = a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

// Pipe makes a pipe that no executed program inherits.
func Pipe(what string) (read, write *FD, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("pipe2 for %s: %w", what, err)
	}
	return ownPair(fds[0], fds[1], what)
}

// AlwaysReadable opens a descriptor that is always readable. It takes the place of a pidfd if somebody else has reaped
// the process before its pidfd could be opened.
func AlwaysReadable(what string) (*FD, error) {
	read, write, err := Pipe(what)
	if err != nil {
		return nil, err
	}
	return read, write.Close()
}

// Readable reports at once whether reading f would not block. A pidfd is readable when its process has ended,
// reaped or not.
func Readable(f *FD) (bool, error) {
	if err := f.Check(); err != nil {
		return false, err
	}
	return ReadableNumber(f.Int()), nil
}

// ReadableNumber is Readable for an open descriptor that C owns.
func ReadableNumber(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := retry(func() (int, error) { return unix.Poll(fds, 0) })
	return err == nil && n > 0
}

// retry repeats a system call that a signal interrupted.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		result, err := call()
		if err != unix.EINTR {
			return result, err
		}
	}
}
