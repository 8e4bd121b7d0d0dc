package process

import (
	"errors"
	"fmt"

	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// The entries of processes that a server of package core/prefork has forked, ahead of need. Whose child such a
// process is decides who waits for it: those of the fork server are its own, and their statuses come from it; those of
// the spawn server are ours.

// Adopt makes an entry of a process, and takes over its pidfd. It counts as none of the program's processes until
// Employ is called. foreign says that it is not our child. A process that cannot be taken on is ended.
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

// Employ says that an adopted process is one of the program's from now on, started by the method.
func (t *Table) Employ(id int, m Method) error {
	_, err := with(t, id, func(e *entry) (struct{}, error) {
		if e.method != Server {
			return struct{}{}, fmt.Errorf("%w: entry %d is one of the program's already", ErrInvalid, id)
		}
		e.method = m
		t.started[m].Add(1)
		return struct{}{}, nil
	})
	return err
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
