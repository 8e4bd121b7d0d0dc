package sys

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PidfdOpen opens a pidfd (Linux 5.3) of the process pid. It works on a process that has ended as long as nobody has
// reaped it. The error wraps ESRCH when there is no such process.
func PidfdOpen(pid int) (*FD, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open of process %d: %w", pid, err)
	}
	return own(fd, "pidfd")
}

// Wait reaps the child if it has ended, without waiting. status is its exit code, or the negative number of the signal
// that ended it: multiprocessing's exitcode. The error wraps ECHILD when the child has ended and somebody else has
// reaped it. Wait takes the child's number, not its pidfd. The number belongs to the child until it has been reaped; a
// pidfd may be closed by the program.
func Wait(pid int) (status int, ended bool, err error) {
	var how unix.WaitStatus
	reaped, err := retry(func() (int, error) { return unix.Wait4(pid, &how, unix.WNOHANG, nil) })
	switch {
	case err != nil:
		return 0, false, fmt.Errorf("wait for process %d: %w", pid, err)
	case reaped == 0:
		return 0, false, nil
	case how.Signaled():
		return -int(how.Signal()), true, nil
	default:
		return how.ExitStatus(), true, nil
	}
}

// look reports whether the child has ended, and does not reap it. The error is ECHILD when it has been reaped.
func look(pid int) (ended bool, err error) {
	var info struct { // siginfo_t with the fields of SIGCHLD, which unix.Siginfo hides
		_   [12]byte
		_   [unsafe.Sizeof(uintptr(0)) - 4]byte // its union is aligned to a pointer
		pid int32
		_   [112]byte // the kernel writes 128 bytes
	}
	_, err = retry(func() (struct{}, error) {
		return struct{}{}, unix.Waitid(unix.P_PID, pid, (*unix.Siginfo)(unsafe.Pointer(&info)),
			unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	})
	if err != nil && !errors.Is(err, unix.ECHILD) { // the call is refused
		return Gone(pid), nil
	}
	return info.pid != 0, err
}

// Ended reports whether the child has ended, and leaves its status to others. It is true as well if somebody has reaped
// the child.
func Ended(pid int) bool {
	ended, err := look(pid)
	return ended || err != nil
}

// Signal sends a signal to a child. The caller makes sure that the engine does not reap it meanwhile. If the child has
// ended, Signal does nothing.
func Signal(pid int, pidfd *FD, sig unix.Signal) error {
	ended, err := look(pid)
	switch {
	case err == nil && !ended:
		return kill(pid, sig)
	case err != nil && pidfd.Ours():
		_ = unix.PidfdSendSignal(pidfd.Int(), sig, nil, 0) // the number may be another process's now
	}
	return nil
}

// SignalStranger is Signal for a process that is not a child of this one. pidfd is its pidfd, or the read end of its
// tether.
func SignalStranger(pid int, pidfd *FD, sig unix.Signal) error {
	if !pidfd.Ours() {
		return kill(pid, sig) // as multiprocessing does
	}
	err := unix.PidfdSendSignal(pidfd.Int(), sig, nil, 0)
	switch {
	case err == nil || errors.Is(err, unix.ESRCH):
		return nil
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) && sig == 0:
		return fmt.Errorf("pidfd_send_signal %d to process %d: %w", sig, pid, err)
	}
	// pidfd is a tether, or the call is refused. So look whether the process runs, and use its number.
	if ended, err := Readable(pidfd); err == nil && ended {
		return nil
	}
	return kill(pid, sig)
}

// kill is kill(2). If there is no such process, it does nothing.
func kill(pid int, sig unix.Signal) error {
	if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d by signal %d: %w", pid, sig, err)
	}
	return nil
}

// Gone reports whether the process has ended: there is none of that number, or it has ended and was not reaped. Orphans
// stay like that where process 1 does not reap them.
func Gone(pid int) bool {
	if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return true
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return isZombie(pid)
	}
	defer func() { _ = unix.Close(fd) }()
	ended := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(ended, 0)
	return err == nil && n == 1
}

// HavePidfds reports whether pidfds can be used: older kernels have none, and some sandboxes refuse them. If not, each
// child gets a tether: the write end of a pipe that nothing is ever written to. The read end takes the place of the
// pidfd.
func HavePidfds() bool {
	fd, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// ReapIfEnded reaps a child that has ended. It reports whether there is no such child any more.
func ReapIfEnded(pid int) bool {
	reaped, err := retry(func() (int, error) { return unix.Wait4(pid, nil, unix.WNOHANG, nil) })
	return reaped == pid || errors.Is(err, unix.ECHILD)
}

// KillAndReap ends a child, and waits until it is gone. It does nothing if pid is not a child of this process, or has
// been reaped: then the number may be another process's.
func KillAndReap(pid int) {
	if _, err := look(pid); err != nil {
		return
	}
	_ = unix.Kill(pid, unix.SIGKILL)
	_, _ = retry(func() (int, error) { return unix.Wait4(pid, nil, 0, nil) })
}
