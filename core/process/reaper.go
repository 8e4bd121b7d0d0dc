package process

import (
	"sync"

	"github.com/goproc/goproc/core/guard"
	"github.com/goproc/goproc/core/sys"
)

// reaper is the one goroutine that waits for all processes of a table. Apart from ExitCode's look at a single child,
// nothing in the engine calls wait.
type reaper struct {
	table  *Table
	poller *sys.Poller
	done   chan struct{}

	mu      sync.Mutex
	stop    bool
	pending []int // entries to settle although their pidfds say nothing new
}

func startReaper(t *Table) (*reaper, error) {
	poller, err := sys.NewPoller("reaper")
	if err != nil {
		return nil, err
	}
	r := &reaper{table: t, poller: poller, done: make(chan struct{})}
	go r.run()
	return r, nil
}

// settle has the reaper look at the entry soon. Once the reaper is closed it does nothing.
func (r *reaper) settle(id int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stop {
		r.pending = append(r.pending, id)
		r.poller.Wake()
	}
}

// close ends the goroutine, waits for it, and closes the descriptors.
func (r *reaper) close() error {
	r.mu.Lock()
	r.stop = true
	r.poller.Wake()
	r.mu.Unlock()
	<-r.done
	return r.poller.Close()
}

func (r *reaper) run() {
	defer guard.Goroutine("the reaper")
	defer close(r.done)
	var ids []int
	for {
		var err error
		if ids, err = r.poller.Wait(ids[:0]); err != nil {
			panic(err) // of an epoll descriptor that is ours and open: a defect, and without the reaper nothing ends
		}
		r.mu.Lock()
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
	hasEnded := false // before it is checked: should it end meanwhile, the pidfd brings us back here
	if e.foreign && e.state == running {
		readable, err := sys.Readable(e.pidfd)
		hasEnded = readable || err != nil
	}
	e.check()
	switch e.state {
	case running:
		// It may have ended with its status still on the way: the pidfd would be reported again and again. What
		// brings the status, or the end of the server, also brings us back here.
		if hasEnded {
			r.unwatch(e)
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

// watch has the reaper told when the entry's process ends. The entry is locked.
func (r *reaper) watch(e *entry) error {
	err := r.poller.Add(e.pidfd, e.id)
	e.watched = err == nil
	return err
}

// unwatch undoes watch. The entry is locked.
func (r *reaper) unwatch(e *entry) {
	if e.watched {
		e.watched = false
		_ = r.poller.Remove(e.pidfd) // fails only if the program has closed the descriptor, which removes it too
	}
}
