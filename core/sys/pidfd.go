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

// PidfdSignal sends sig to the process, not to whatever has its number now. A process that has ended is no error.
func PidfdSignal(pidfd *FD, sig unix.Signal) error {
	err := unix.PidfdSendSignal(pidfd.Int(), sig, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("pidfd_send_signal %d: %w", sig, err)
	}
	return nil
}

// childSiginfo is what waitid(2) fills in for a child: siginfo_t with the fields of SIGCHLD, which unix.Siginfo hides.
type childSiginfo struct {
	signo int32
	errno int32
	code  int32
	_     [unsafe.Sizeof(uintptr(0)) - 4]byte // the union of siginfo_t is aligned to a pointer
	pid   int32
	uid   uint32
	// status is an exit code or a signal's number, as code says.
	status int32
	_      [112]byte // the kernel writes 128 bytes
}

// The values of si_code for a child that a signal ended (siginfo.h); otherwise it exited.
const (
	cldKilled = 2
	cldDumped = 3
)

// PidfdWait reaps the child if it has ended, without waiting. status is its exit code, or the negative number of the
// signal that ended it: multiprocessing's exitcode. The error wraps ECHILD when the child has ended and somebody else
// has reaped it.
func PidfdWait(pidfd *FD) (status int, ended bool, err error) { return WaitPidfd(pidfd.Int()) }

// WaitPidfd is PidfdWait for a descriptor that C owns.
func WaitPidfd(pidfd int) (status int, ended bool, err error) {
	var info childSiginfo
	_, err = retry(func() (struct{}, error) {
		return struct{}{}, unix.Waitid(unix.P_PIDFD, pidfd, (*unix.Siginfo)(unsafe.Pointer(&info)),
			unix.WEXITED|unix.WNOHANG, nil)
	})
	if err != nil {
		return 0, false, fmt.Errorf("waitid: %w", err)
	}
	switch {
	case info.pid == 0:
		return 0, false, nil
	case info.code == cldKilled || info.code == cldDumped:
		return -int(info.status), true, nil
	default:
		return int(info.status), true, nil
	}
}

// KillAndReap ends a child of which there is no pidfd, and waits until it is gone. As long as it is our child, reaped by
// nobody, its number is its own; a process that is not our child is left alone.
func KillAndReap(pid int) {
	_, err := retry(func() (struct{}, error) {
		return struct{}{}, unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	})
	if err != nil {
		return // ECHILD
	}
	_ = unix.Kill(pid, unix.SIGKILL)
	_, _ = retry(func() (int, error) { return unix.Wait4(pid, nil, 0, nil) })
}
