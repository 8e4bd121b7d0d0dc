package process

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goproc/goproc/core/guard"
	"github.com/goproc/goproc/core/sys"
	"github.com/goproc/goproc/core/trace"
)

// reaper is the one goroutine that waits for all processes of a table. Apart from ExitCode's look at a single child,
// nothing in the engine calls wait.
//
// It is told of an end by epoll, as a rule. What it is not told of it finds out by looking at all processes from time
// to time: where there is no epoll; when the program has closed the engine's descriptors (os.closerange), or the other
// end of a tether.
type reaper struct {
	table  *Table
	poller atomic.Pointer[sys.Poller]
	done   chan struct{}
	soon   atomic.Bool // some process is not in the poller

	mu      sync.Mutex
	stop    bool
	pending []int // entries to settle although their pidfds say nothing new
}

// How often the reaper looks, when processes run that it will not be told of; and whether its descriptors are there.
const (
	lookFirst = 5 * time.Millisecond // then ever more rarely
	lookLast  = 100 * time.Millisecond
	lookEver  = 2 * time.Second
)

func startReaper(t *Table) (*reaper, error) {
	poller, err := newPoller()
	if err != nil {
		return nil, err
	}
	r := &reaper{table: t, done: make(chan struct{})}
	r.poller.Store(poller)
	r.soon.Store(poller.Blind())
	go r.run(poller)
	return r, nil
}

func newPoller() (*sys.Poller, error) {
	poller, err := sys.NewPoller("reaper")
	if sys.Refused(err) {
		trace.Printf("processes are looked at every few milliseconds: %v", err)
		return sys.NewBlindPoller(), nil
	}
	return poller, err
}

// settle has the reaper look at the entry soon. Once the reaper is closed it does nothing.
func (r *reaper) settle(id int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stop {
		r.pending = append(r.pending, id)
		r.poller.Load().Wake()
	}
}

// lookSoon says that there is a process of which the poller does not tell.
func (r *reaper) lookSoon() {
	if !r.soon.Swap(true) {
		r.poller.Load().Wake()
	}
}

// checkLocked replaces the poller, and the goroutine that waits by it, if the program has closed its descriptors. The
// table is locked.
func (r *reaper) checkLocked() {
	if poller := r.poller.Load(); !poller.Intact() {
		r.replaceLocked(poller)
	}
}

func (r *reaper) replaceLocked(lost *sys.Poller) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop || r.poller.Load() != lost {
		return
	}
	poller, err := newPoller()
	if err != nil {
		trace.Printf("processes are looked at every few milliseconds from now on: %v", err)
		poller = sys.NewBlindPoller() // there may be no descriptors left
	}
	trace.Printf("the program has closed descriptors of the engine's: the reaper goes on with others")
	r.done = make(chan struct{}) // the old goroutine ends when its wait does; nobody can end that
	r.poller.Store(poller)
	r.soon.Store(true)
	for _, e := range r.table.entries {
		e.lost.Store(true)
	}
	if r.table.seats != nil {
		r.table.watchSeats()
	}
	go r.run(poller)
}

// close ends the goroutine, waits for it, and closes the descriptors.
func (r *reaper) close() error {
	r.mu.Lock()
	r.stop = true
	poller, done := r.poller.Load(), r.done
	poller.Wake()
	r.mu.Unlock()
	if !poller.Intact() {
		return nil // it sees that when its wait is over
	}
	<-done
	return poller.Close()
}

// run is the goroutine, as long as the poller is the reaper's.
func (r *reaper) run(poller *sys.Poller) {
	r.mu.Lock()
	done := r.done
	r.mu.Unlock()
	defer guard.Goroutine("the reaper")
	defer close(done)
	var ids []int
	pause := lookFirst
	for {
		patience := lookEver
		if r.soon.Load() {
			patience = pause
		}
		var err error
		ids, err = poller.Wait(ids[:0], patience)
		sys.MendRuntime()
		if errors.Is(err, sys.ErrLost) {
			r.table.mu.Lock()
			r.replaceLocked(poller)
			r.table.mu.Unlock()
		}
		r.mu.Lock()
		if r.poller.Load() != poller {
			stop := r.stop
			r.mu.Unlock()
			if !stop {
				_ = poller.Close()
			}
			return
		}
		ids, r.pending = append(ids, r.pending...), r.pending[:0]
		stop := r.stop
		r.mu.Unlock()
		if stop {
			return
		}
		for _, id := range ids {
			// An entry dropped meanwhile is not found; ids are never used again.
			if e := r.table.known(id); e != nil {
				r.look(e)
			}
		}
		if r.soon.Load() && len(ids) == 0 {
			r.lookAtAll(poller)
			pause = min(2*pause, lookLast)
		} else if !r.soon.Load() {
			pause = lookFirst
		}
	}
}

// lookAtAll looks at each process, and finds out whether the poller will tell of all that run.
func (r *reaper) lookAtAll(poller *sys.Poller) {
	r.soon.Store(poller.Blind())
	for _, e := range r.table.all() {
		r.look(e)
	}
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	if r.table.lookAtSeats() && !r.table.closed && !r.table.watchSeats() {
		r.soon.Store(true)
	}
}

// look finds out whether the entry's process has ended, tells the subscribers, and drops what nobody will ask about.
func (r *reaper) look(e *entry) {
	status, subscribers, drop := r.settled(e)
	for _, f := range subscribers {
		f(status)
	}
	if drop {
		r.table.drop(e.id)
	}
}

// settled is the part of look that needs the lock; the subscribers are called without it, as they may ask the table.
func (r *reaper) settled(e *entry) (status int, subscribers []func(int), drop bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == running && (e.lost.Swap(false) || !e.watched) {
		e.watched = false
		_ = r.watch(e)
	}
	fired := false // before it is checked: should it end meanwhile, the pidfd brings us back here
	if e.state == running && e.watched {
		fired, _ = sys.Readable(e.pidfd)
	}
	e.check()
	switch e.state {
	case running:
		// It may have ended with its status still on the way, or have closed its tether: the pidfd would be reported
		// again and again. What brings the status of the fork server's child, or the end of the server, also brings us
		// back here.
		if fired {
			r.unwatch(e)
		}
		if !e.watched && !(e.foreign && fired) {
			r.soon.Store(true)
		}
		return 0, nil, false
	case ended:
		r.unwatch(e)
		e.settled = true
		subscribers, e.onExit = e.onExit, nil
		if e.dropped = e.forgotten; e.dropped {
			e.unseat()
			_ = e.pidfd.Close()
		}
		return e.status, subscribers, e.dropped
	default:
		return 0, nil, false
	}
}

// watch has the reaper told when the entry's process ends. What cannot be watched, where there is no epoll, is looked
// at. The entry is locked.
func (r *reaper) watch(e *entry) error {
	err := r.poller.Load().Add(e.pidfd, e.id)
	e.watched = err == nil
	if err != nil && (r.poller.Load().Blind() || !r.poller.Load().Intact() || !e.pidfd.Ours()) {
		r.lookSoon()
		return nil
	}
	return err
}

// unwatch undoes watch. The entry is locked.
func (r *reaper) unwatch(e *entry) {
	if e.watched {
		e.watched = false
		if e.pidfd.Ours() { // else it has been closed, which removes it, too
			_ = r.poller.Load().Remove(e.pidfd)
		}
	}
}
