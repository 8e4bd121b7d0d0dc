package process

import (
	"errors"
	"fmt"

	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// Tether makes a tether for the child of a prepared entry, where the kernel has no pidfds. It returns the write end,
// which only the child shall have. Where there are pidfds, no tether is needed, and it returns nil.
func (t *Table) Tether(id int) (write *sys.FD, err error) {
	if sys.HavePidfds() {
		return nil, nil
	}
	return with(t, id, func(e *entry) (write *sys.FD, err error) {
		if e.state != prepared {
			return nil, fmt.Errorf("%w: entry %d has a process", ErrInvalid, id)
		}
		e.pidfd, write, err = sys.Pipe("tether")
		return write, err
	})
}

// Prepare is Go's part of a fork before the system call. C makes the call, because no Go can run in a forked child.
// Commit or Abort must follow.
func (t *Table) Prepare() (id int, err error) { return t.prepare(Fork) }

func (t *Table) prepare(m Method) (id int, err error) {
	e, err := t.add(m, prepared)
	if err != nil {
		return 0, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == closed {
		return 0, ErrClosed // the table has been closed meanwhile: nobody would close a descriptor that is opened now
	}
	if e.reserve, err = sys.AlwaysReadable("reserve"); err != nil {
		t.drop(e.id)
		return 0, err
	}
	return e.id, nil
}

// Commit is Go's part of a fork after the system call, in the parent. The prepared entry belongs to the child pid from
// now on. Commit returns the sentinel. If it fails, it has ended and reaped the child: after an error there is no
// child, and no entry.
func (t *Table) Commit(id, pid int) (sentinel int, err error) {
	if pid <= 0 {
		return 0, fmt.Errorf("%w: %d is no process", ErrInvalid, pid)
	}
	sentinel, err = with(t, id, func(e *entry) (int, error) {
		if e.state != prepared {
			return 0, fmt.Errorf("%w: %w: entry %d", ErrInvalid, errTaken, id)
		}
		if err := t.takeOn(e, pid); err != nil {
			e.state = closed
			t.drop(id)
			return 0, errors.Join(err, e.pidfd.Close(), e.reserve.Close())
		}
		t.started[e.method].Add(1)
		return e.pidfd.Int(), nil
	})
	if err != nil && !errors.Is(err, errTaken) {
		sys.KillAndReap(pid)
	}
	return sentinel, err
}

// errTaken says that an entry has a process already: a second Commit must not end that process.
var errTaken = errors.New("the process is known already")

// takeOn opens the child's pidfd, unless it has a tether, and has the reaper watch the child. The pid means no other
// process yet: even if somebody else has reaped the child, the kernel does not use its number again so soon. The entry
// is locked.
func (t *Table) takeOn(e *entry, pid int) (err error) {
	e.pid = pid
	if e.pidfd == nil {
		e.pidfd, err = sys.PidfdOpen(pid)
	}
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		_ = e.reserve.Close() // it was opened to be given up here
		e.pidfd, err = sys.PidfdOpen(pid)
	}
	if errors.Is(err, unix.ESRCH) {
		// It has ended, and somebody else has reaped it: SIGCHLD is ignored, or another thread was in os.wait.
		if e.reserve.Int() < 0 {
			if e.reserve, err = sys.AlwaysReadable("reserve"); err != nil {
				return err
			}
		}
		e.pidfd, e.reserve = e.reserve, nil
		e.state, e.status = ended, Unknown
		t.reaper.settle(e.id)
		return nil
	}
	if err != nil {
		return err
	}
	if err = t.reaper.watch(e); err != nil {
		return err
	}
	e.state = running
	return e.reserve.Close()
}

// Abort gives up an entry whose process was not started after all.
func (t *Table) Abort(id int) error {
	_, err := with(t, id, func(e *entry) (struct{}, error) {
		if e.state != prepared {
			return struct{}{}, fmt.Errorf("%w: entry %d has a process", ErrInvalid, id)
		}
		e.state = closed
		t.drop(id)
		return struct{}{}, errors.Join(e.pidfd.Close(), e.reserve.Close())
	})
	return err
}
