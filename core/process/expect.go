package process

import (
	"errors"
	"fmt"

	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// The entries of processes that a fork server starts. They are its children, not ours: their pidfds come from it, and
// their statuses too. Package core/forkserver calls these.

// Expect makes an entry for a process that the fork server is about to be asked for. Adopt or Abort must follow.
func (t *Table) Expect() (id int, err error) {
	e, err := t.add(Forkserver, expected)
	if err != nil {
		return 0, err
	}
	return e.id, nil
}

// Adopt gives the entry its process, and takes over the pidfd. A process that cannot be taken on, or has been forgotten
// already, is ended.
func (t *Table) Adopt(id, pid int, pidfd *sys.FD) (sentinel int, err error) {
	sentinel, err = with(t, id, func(e *entry) (int, error) {
		if e.state != expected {
			return 0, fmt.Errorf("%w: entry %d is not expected", ErrInvalid, id)
		}
		e.pid, e.pidfd = pid, pidfd
		if err := t.reaper.watch(e); err != nil {
			e.state = closed
			t.drop(id)
			return 0, err
		}
		e.state = running
		t.started[Forkserver].Add(1)
		if e.forgotten {
			_ = sys.PidfdSignal(pidfd, unix.SIGKILL)
		}
		return pidfd.Int(), nil
	})
	if err != nil {
		return 0, errors.Join(err, sys.PidfdSignal(pidfd, unix.SIGKILL), pidfd.Close())
	}
	return sentinel, nil
}

// Exited keeps the status that the fork server sent, once.
func (t *Table) Exited(id, status int) {
	_, _ = with(t, id, func(e *entry) (struct{}, error) {
		e.end(status)
		t.reaper.settle(id)
		return struct{}{}, nil
	})
}

// Orphan says that the fork server is gone: when the process ends, and if it has already, its status is [Unknown].
func (t *Table) Orphan(id int) {
	_, _ = with(t, id, func(e *entry) (struct{}, error) {
		e.orphan = true
		t.reaper.settle(id)
		return struct{}{}, nil
	})
}
