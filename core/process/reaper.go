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

// reaper is the one goroutine that waits until processes of a table end. It reaps those whose end somebody has asked to
// be told, such as a pool's workers, and those that have been forgotten. ExitCode, Settle and Forget reap a child, too,
// and C reaps children in seats.
//
// As a rule, epoll tells it that a process has ended. In three cases epoll cannot, and the reaper looks at all
// processes from time to time: there is no epoll; the program has closed the engine's descriptors (os.closerange); a
// child has closed its end of its tether, and goes on.
type reaper struct {
	table  *Table
	poller atomic.Pointer[sys.Poller]
	done   chan struct{}
	soon   atomic.Bool // some process is not in the poller: all are looked at from time to time

	mu      sync.Mutex
	stop    bool
	pending []int // ids of entries to look at although their pidfds have not become readable
}

// How often the reaper looks at all processes while some are not in the poller: after lookFirst, and then ever more
// rarely, up to lookLast. If all are in it, the reaper only looks whether its own descriptors are still there, every
// lookEver.
const (
	lookFirst = 5 * time.Millisecond
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

// lookSoon says that there is a process that is not in the poller.
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
	r.done = make(chan struct{}) // the old goroutine ends when its wait is over; nothing can end the wait earlier
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
		return nil // the goroutine sees when its wait is over that it is to stop
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

// lookAtAll looks at each process, and notes whether all that run are in the poller.
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

// look finds out whether the entry's process has ended. If it has, look tells the subscribers, and drops the entry if
// it has been forgotten.
func (r *reaper) look(e *entry) {
	status, subscribers, drop := r.lookLocked(e)
	for _, f := range subscribers {
		f(status)
	}
	if drop {
		r.table.drop(e.id)
	}
}

// lookLocked is the part of look that needs the entry's lock. The subscribers are called without it, because they may
// call the table.
func (r *reaper) lookLocked(e *entry) (status int, subscribers []func(int), drop bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state == running && (e.lost.Swap(false) || !e.watched) && !e.left {
		e.watched = false
		_ = r.watch(e)
	}
	// Before e.check: if the process ends in between, its pidfd becomes readable, and the reaper looks at it again.
	fired := false
	if e.state == running && e.watched {
		fired, _ = sys.Readable(e.pidfd)
	}
	if e.state == running && e.isLeft() {
		if e.left = e.left || sys.Ended(e.pid); e.left {
			r.unwatch(e)
			return 0, nil, false
		}
	} else {
		e.check()
	}
	switch e.state {
	case running:
		// The pidfd is readable, but there is no status: the fork server has still to send it, or the child has closed
		// its tether and goes on. The poller would report the pidfd again and again. The fork server's message, or its
		// death, also has the reaper look here again.
		if fired {
			r.unwatch(e)
		}
		if !e.watched && !(e.foreign && fired) {
			r.soon.Store(true)
		}
		return 0, nil, false
	case ended:
		subscribers, e.onExit = e.onExit, nil
		r.settled(e)
		return e.status, subscribers, e.dropped
	default:
		return 0, nil, false
	}
}

// settled notes that the end of the entry's process has been seen. If the entry has been forgotten, too, its descriptor
// is closed, and the caller has to drop it. The entry is locked.
func (r *reaper) settled(e *entry) {
	r.unwatch(e)
	e.settled = true
	if e.dropped = e.forgotten; e.dropped {
		e.unseat()
		_ = e.pidfd.Close()
	}
}

// watch puts the entry's pidfd into the poller. Where there is no epoll, the reaper looks at the process from time to
// time instead. The entry is locked.
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
