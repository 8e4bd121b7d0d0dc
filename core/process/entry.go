package process

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/goproc/goproc/core/sys"
	"github.com/goproc/goproc/core/trace"
)

// state is how far an entry's process is.
type state int

const (
	prepared state = iota // the entry waits for Commit or Abort; the process may not exist yet
	running
	ended // status is valid
	closed
)

// entry is what is known about one process.
type entry struct {
	id     int
	method Method

	mu        sync.Mutex
	state     state
	pid       int
	pidfd     *sys.FD // or the read end of a tether: see sys.HavePidfds
	reserve   *sys.FD // while prepared: a descriptor that is closed if the process may open no more for the pidfd
	status    int
	foreign   bool // the fork server's child, not ours: the server sends its status
	orphan    bool // foreign, and the server is gone: nobody will send its status
	forgotten bool
	watched   bool        // the pidfd is in the reaper's poller
	lost      atomic.Bool // the poller has been replaced, and the pidfd may not be in the new one
	settled   bool        // the reaper has seen the end
	left      bool        // the reaper has seen the end, and has left the status to who asks
	dropped   bool        // settled and forgotten: the table has the entry only until the subscribers have been told
	onExit    []func(status int)
	seat      *seat // nil for an entry that is not a seat's
}

// mustHaveStarted refuses an entry without a process. The entry is locked.
func (e *entry) mustHaveStarted() error {
	switch e.state {
	case prepared:
		return fmt.Errorf("%w: the process of entry %d has not started", ErrInvalid, e.id)
	case closed:
		return ErrClosed
	default:
		return nil
	}
}

// isLeft reports whether the reaper leaves the status to who asks for it: a call of the program's, such as join(), or
// os.wait(). multiprocessing, too, reaps the processes of a program only in such calls. The entry is locked.
func (e *entry) isLeft() bool {
	return e.method != Server && !e.foreign && !e.forgotten && len(e.onExit) == 0
}

// check finds out whether a running process has ended, and keeps its status. The entry is locked.
func (e *entry) check() {
	if e.state != running {
		return
	}
	if e.foreign {
		// The server sends the status (Table.Exited). If it is gone, only the pidfd tells that the process has ended.
		if e.orphan {
			readable, err := sys.Readable(e.pidfd)
			if readable || err != nil && sys.Gone(e.pid) {
				e.end(Unknown)
			}
		}
		return
	}
	if e.seat != nil {
		e.seat.acquire()
		if e.seat.look() {
			e.end(int(e.seat.status))
		}
		e.seat.release()
		return
	}
	status, done, err := sys.Wait(e.pid)
	switch {
	case err != nil:
		// ECHILD: the program has called os.wait, or ignores SIGCHLD. So the child has been reaped, and its status is
		// lost. multiprocessing's popen_fork says "still running" from then on, and join() waits for ever. Its fork
		// server says 255 for a lost status, and so does this.
		e.end(Unknown)
	case done:
		e.end(status)
	}
}

// end notes that the process has ended with the status, unless an end has been noted already. The entry is locked.
func (e *entry) end(status int) {
	if e.state == running {
		e.state, e.status = ended, status
		trace.Printf("process %d has ended with exit code %d", e.pid, status)
	}
}

// close closes the entry's descriptors, whatever its state.
func (e *entry) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state = closed
	e.unseat()
	return errors.Join(e.pidfd.Close(), e.reserve.Close())
}
