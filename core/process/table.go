// Package process is the table of the processes that this engine started, by whichever start method: it starts them,
// waits for them, keeps each exit status once, and tells whoever subscribed. Package pybind calls it for Python's
// Process objects, core/prefork for the children of the fork server, and pools subscribe to the end of their
// workers.
//
//	Prepare ──fork in C──► Commit ─┐
//	Spawn ─────────────────────────┼─► running ──pidfd readable──► ended ──forgotten──► dropped
//	Adopt ──Employ─────────────────┘
//
// A child's pidfd tells when to reap it. The reaper goroutine does so, and ExitCode inline, so that whoever asks just
// after the sentinel became readable gets the answer. Both hold the entry's lock, and the first one keeps the status.
package process

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// Method is how a process was started.
type Method int

// The start methods, and Server: a process that serves the engine itself and counts as none of the program's.
const (
	Fork Method = iota
	Spawn
	Forkserver
	Server
	methods
)

// String is the name of the start method, as multiprocessing has it.
func (m Method) String() string {
	return [...]string{"fork", "spawn", "forkserver", "server"}[m]
}

// Exit codes that are not a process's own.
const (
	// Running stands for the exit code of a process that has not ended; no exit code or signal is that large.
	Running = 1 << 20
	// Unknown is the exit code of a process whose status nobody can learn any more, as with
	// multiprocessing.popen_forkserver.
	Unknown = 255
)

var (
	// ErrClosed is wrapped by what a closed table returns.
	ErrClosed = errors.New("the engine is closed")
	// ErrInvalid is wrapped by errors about an argument.
	ErrInvalid = errors.New("invalid argument")
)

// Table is the process table. A table that has not been used has no goroutine and no descriptor.
type Table struct {
	started [methods]atomic.Int64

	mu      sync.Mutex
	closed  bool
	nextID  int
	entries map[int]*entry
	reaper  *reaper // nil until the first entry, or until there are seats
	seats   *Seats  // nil until C shares them
}

// NewTable makes an empty table.
func NewTable() *Table { return &Table{entries: map[int]*entry{}} }

// add makes an entry. The reaper is ready when it returns, so that what can fail fails before there is a process.
func (t *Table) add(m Method, s state) (*entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(); err != nil {
		return nil, err
	}
	t.nextID++
	e := &entry{id: t.nextID, method: m, state: s}
	t.entries[e.id] = e
	return e, nil
}

// ready sees to it that there is a reaper. t is locked.
func (t *Table) ready() error {
	if t.closed {
		return ErrClosed
	}
	if t.reaper != nil {
		t.reaper.checkLocked()
		return nil
	}
	r, err := startReaper(t)
	if err != nil {
		return err
	}
	t.reaper = r
	if t.seats != nil && !t.watchSeats() {
		r.lookSoon()
	}
	return nil
}

// entry looks an id up.
func (t *Table) entry(id int) (*entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	e := t.entries[id]
	if e == nil && id < 0 {
		var err error
		if e, err = t.adopt(id); err != nil {
			return nil, err
		}
	}
	if e != nil {
		return e, nil
	}
	return nil, noEntry(id)
}

func noEntry(id int) error { return fmt.Errorf("%w: there is no process entry %d", ErrInvalid, id) }

// known is the entry that the reaper has been woken for. A seat that nothing in Go knows is settled here.
func (t *Table) known(id int) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	e := t.entries[id]
	if e == nil && id < 0 {
		t.settleSeat(id)
	}
	return e
}

// with calls f on the entry, locked.
func with[T any](t *Table, id int, f func(e *entry) (T, error)) (T, error) {
	var none T
	e, err := t.entry(id)
	if err != nil {
		return none, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dropped {
		return none, noEntry(id)
	}
	return f(e)
}

// drop takes the entry out of the table; its descriptor must be closed already.
func (t *Table) drop(id int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.entries, id)
}

// Pid is the number of the process.
func (t *Table) Pid(id int) (int, error) {
	return with(t, id, func(e *entry) (int, error) { return e.pid, e.mustHaveStarted() })
}

// Sentinel is the pidfd of the process, or what takes its place, which is readable when the process has ended. The
// table owns it, and closes it once the process has ended and is forgotten.
func (t *Table) Sentinel(id int) (int, error) {
	return with(t, id, func(e *entry) (int, error) { return e.pidfd.Int(), e.mustHaveStarted() })
}

// ExitCode is the exit code of the process, the negative number of the signal that ended it, or [Running].
func (t *Table) ExitCode(id int) (int, error) {
	return with(t, id, func(e *entry) (int, error) {
		if err := e.mustHaveStarted(); err != nil {
			return 0, err
		}
		e.check()
		if e.state != ended {
			return Running, nil
		}
		return e.status, nil
	})
}

// Signal sends a signal to the process; to one that has ended, none.
func (t *Table) Signal(id, signal int) error {
	_, err := with(t, id, func(e *entry) (struct{}, error) {
		if err := e.mustHaveStarted(); err != nil || e.state == ended {
			return struct{}{}, err
		}
		if e.foreign {
			return struct{}{}, sys.SignalStranger(e.pid, e.pidfd, unix.Signal(signal))
		}
		return struct{}{}, sys.Signal(e.pid, e.pidfd, unix.Signal(signal))
	})
	return err
}

// OnExit has f called once, with the exit code, when the process has ended: on the goroutine of the reaper, never
// within a call of this package, and soon if the process has ended already. f must not wait for anything, since the
// ends of all other processes come after it.
func (t *Table) OnExit(id int, f func(status int)) error {
	_, err := with(t, id, func(e *entry) (struct{}, error) {
		e.onExit = append(e.onExit, f)
		if e.settled {
			t.reaper.settle(id)
		}
		return struct{}{}, nil
	})
	return err
}

// Forget says that nobody will ask about the entry any more. It is dropped once the process has ended, which is still
// waited for. Forgetting what is not there, or after Close, does nothing.
func (t *Table) Forget(id int) {
	_, _ = with(t, id, func(e *entry) (struct{}, error) {
		e.forgotten = true
		if e.settled {
			t.reaper.settle(id)
		}
		return struct{}{}, nil
	})
}

// Started is how many processes were started by the method.
func (t *Table) Started(m Method) int64 {
	n := t.started[m].Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	if m == Fork && t.seats != nil {
		n += t.seats.started.Load()
	}
	return n
}

// all is every entry.
func (t *Table) all() []*entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.entries))
}

// Running is how many processes of the program have not ended, as far as is known.
func (t *Table) Running() int {
	t.mu.Lock()
	n := t.seated()
	t.mu.Unlock()
	for _, e := range t.all() {
		e.mu.Lock()
		if e.state == running && e.method != Server {
			n++
		}
		e.mu.Unlock()
	}
	return n
}

// Close stops the reaper and closes all descriptors; processes that run go on.
// It must not be called from an OnExit function.
func (t *Table) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	entries, r := t.entries, t.reaper
	t.entries = nil
	if t.seats != nil {
		// C goes on with those that have no entry, without the reaper.
		t.seats.refused.Store(1)
		t.seats.epoll.Store(-1)
		t.seats.mark.Store(0)
	}
	t.mu.Unlock()

	var errs []error
	if r != nil {
		errs = append(errs, r.close())
	}
	for _, e := range entries {
		errs = append(errs, e.close())
	}
	return errors.Join(errs...)
}
