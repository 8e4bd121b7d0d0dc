package process

import (
	"errors"
	"fmt"

	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// The entries of processes that a server of package core/prefork has forked ahead of need. The parent of such a process
// reaps it. The fork server is the parent of its processes, and sends their statuses. This process is the parent of the
// spawn server's processes.

// Adopt makes an entry of a process, and takes over its pidfd. The process counts as one of the program's only once
// Employ has been called. foreign says that it is not a child of this process. If Adopt fails, it has ended the
// process.
func (t *Table) Adopt(pid int, pidfd *sys.FD, foreign bool) (id int, err error) {
	e, err := t.add(Server, prepared)
	if err == nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.state == closed {
			err = ErrClosed
		} else {
			e.pid, e.pidfd, e.foreign = pid, pidfd, foreign
			if err = t.reaper.watch(e); err == nil {
				e.state = running
				return e.id, nil
			}
			e.state = closed
			t.drop(e.id)
		}
	}
	err = errors.Join(err, sys.SignalStranger(pid, pidfd, unix.SIGKILL))
	if !foreign {
		sys.KillAndReap(pid)
	}
	return 0, errors.Join(err, pidfd.Close())
}

// Employ says that an adopted process is one of the program's from now on, started by the start method m. Who has been
// told of its end until now is told no more.
func (t *Table) Employ(id int, m Method) error {
	_, err := with(t, id, func(e *entry) (struct{}, error) {
		if e.method != Server {
			return struct{}{}, fmt.Errorf("%w: entry %d is one of the program's already", ErrInvalid, id)
		}
		e.method, e.onExit = m, nil
		t.started[m].Add(1)
		return struct{}{}, nil
	})
	return err
}

// Exited keeps the status that the fork server sent for a process. A second status for it is ignored.
func (t *Table) Exited(id, status int) {
	_, _ = with(t, id, func(e *entry) (struct{}, error) {
		e.end(status)
		t.reaper.settle(id)
		return struct{}{}, nil
	})
}

// Orphan says that the fork server is gone. The status of its process is [Unknown], whether it has ended already, or
// will.
func (t *Table) Orphan(id int) {
	_, _ = with(t, id, func(e *entry) (struct{}, error) {
		e.orphan = true
		t.reaper.settle(id)
		return struct{}{}, nil
	})
}
