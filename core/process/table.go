// Package process is the table of the processes that this engine has started or adopted. It starts processes, reaps
// them, keeps their exit statuses, and tells subscribers when a process has ended. Package pybind calls it for Python's
// Process objects, package core/prefork for the servers and their processes. Pools subscribe to their workers.
//
//	Prepare ──fork in C──► Commit ─┐
//	Spawn ─────────────────────────┼─► running ──pidfd readable──► ended ──forgotten──► dropped
//	Adopt ──Employ─────────────────┘
//
// A child's pidfd tells when to reap it. The reaper goroutine reaps it. ExitCode does, too, so that a caller that asks
// just after the sentinel became readable gets an answer. Whoever reaps holds the entry's lock, and the first one keeps
// the status.
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

// The start methods, and Server: a process that serves the engine itself and does not count as one of the program's.
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
	// Running stands in the place of an exit code for a process that has not ended; no exit code is that large.
	Running = 1 << 20
	// Unknown is the exit code of a process whose status is lost. multiprocessing.popen_forkserver has the same number.
	Unknown = 255
)

var (
	// ErrClosed is wrapped by the errors of a closed table.
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

// ready starts the reaper, unless there is one. t is locked.
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

// known returns the entry for which the reaper has been woken. If id is that of a seat without an entry, known settles
// the seat, and returns nil.
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

// with locks the entry, calls f on it, and returns what f returns.
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

// Sentinel is the descriptor that is readable when the process has ended: its pidfd, or the read end of its tether. The
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

// Signal sends a signal to the process. It does nothing if the process has ended.
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

// OnExit has f called once, with the exit code, when the process has ended. If it has ended already, f is called soon.
// The reaper's goroutine calls f, or a goroutine that calls Settle. f must not wait for anything: meanwhile the reaper
// could not look at other processes.
func (t *Table) OnExit(id int, f func(status int)) error {
	_, err := with(t, id, func(e *entry) (struct{}, error) {
		e.onExit = append(e.onExit, f)
		if e.settled || e.left {
			t.reaper.settle(id)
		}
		return struct{}{}, nil
	})
	return err
}

// Settle does at once what the reaper would do if the process has ended: the caller's goroutine calls the functions
// that were given to OnExit. It does nothing while the process runs, or if there is no such entry.
func (t *Table) Settle(id int) {
	e, err := t.entry(id)
	if err != nil {
		return
	}
	e.mu.Lock()
	e.check()
	hasEnded := e.state == ended
	e.mu.Unlock()
	if hasEnded {
		t.reaper.look(e)
	}
}

// Forget says that nobody will ask about the entry any more. If the process has ended, and no subscriber is still to be
// told, its descriptor is closed when Forget returns. Otherwise the reaper closes it. Forget does nothing if there is
// no such entry, or after Close.
func (t *Table) Forget(id int) {
	drop, _ := with(t, id, func(e *entry) (bool, error) {
		e.forgotten = true
		e.check()
		if e.state == ended && len(e.onExit) == 0 {
			t.reaper.settled(e)
		}
		return e.dropped, nil
	})
	if drop {
		t.drop(id)
	}
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

// Running is how many processes of the program are not known to have ended.
func (t *Table) Running() int {
	t.mu.Lock()
	n := t.seated()
	t.mu.Unlock()
	for _, e := range t.all() {
		e.mu.Lock()
		if e.state == running && e.method != Server && !e.left {
			n++
		}
		e.mu.Unlock()
	}
	return n
}

// Close stops the reaper and closes all descriptors; processes that run go on. A function that was given to OnExit must
// not call it.
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
		// C goes on with the seats that have no entry, without the reaper.
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
