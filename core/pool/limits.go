package pool

import (
	"math"
	"time"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/sys"
	"github.com/goproc/goproc/core/trace"
	"golang.org/x/sys/unix"
)

// Grace is the time between SIGTERM and SIGKILL for a worker that is ended because of its task.
const Grace = 2 * time.Second

// waitingLook is how often enforce looks at a worker that may wait until the program takes parts of its task.
const waitingLook = 100 * time.Millisecond

// taskID names a task.
type taskID struct{ job, index uint64 }

// first is the flight's task whose result comes next.
func (fl *flight) first() taskID {
	return taskID{fl.frame.Job, fl.frame.Index + uint64(fl.frame.First)}
}

// Limit limits how long task (job, index) may run, counted from the moment when a worker begins it. It must be called
// before the task is submitted. A limit of 0 removes the limit. When a task is over its limit, its worker is ended;
// when the worker is gone, the task completes as timed out.
func (p *Pool) Limit(job, index uint64, limit time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := taskID{job, index}
	switch {
	case limit <= 0:
		delete(p.limits, id)
		return
	case p.state != open:
		return
	case len(p.limits) == 0:
		p.limits = map[taskID]int64{}
		p.shortest = math.MaxInt64
	}
	p.limits[id] = int64(limit)
	p.shortest = min(p.shortest, int64(limit))
	p.wakeBy(later(sys.Monotonic(), int64(limit)))
}

// wakeBy has the pump look at the limits at the given time, or earlier.
func (p *Pool) wakeBy(at int64) {
	if p.state == terminated || p.alarmAt != 0 && p.alarmAt <= at {
		return
	}
	p.alarmAt = at
	p.memory.CallPump()
}

// enforce ends the workers whose tasks are over their limit, and arranges for the next look. No message tells when a
// task begins. But a task that has not begun by now cannot be over its limit before the shortest limit has passed. So
// for such tasks it is enough to look again after that time.
func (p *Pool) enforce() {
	// The time is read before the results. If a worker's task has begun later than this time, it may not be the task of
	// the first flight, but the one behind.
	now := sys.Monotonic()
	p.harvest(p.keep)
	next, running := int64(math.MaxInt64), 0
	for _, w := range p.active {
		switch {
		case w.verdict != 0 && w.killAt != 0 && w.killAt <= now:
			w.killAt = 0
			w.signal(unix.SIGKILL)
		case w.verdict != 0 && w.killAt != 0:
			next = min(next, w.killAt)
		}
		if w.verdict != 0 || w.broken || len(w.flights) == 0 {
			continue
		}
		limit, limited := p.limits[w.flights[0].first()]
		_, _, started := w.slot.Current()
		if limited && started == 0 && w.parts > 0 {
			// It may wait until the program takes parts. This time does not count: its start is moved afterwards.
			next = min(next, later(now, min(limit, int64(waitingLook))))
		}
		if !limited || started == 0 || started > uint64(now) {
			continue
		}
		if due := later(int64(started), limit); due > now {
			next = min(next, due)
			running++
		} else {
			p.end(w, ring.KindTimeout)
		}
	}
	if running < len(p.limits) {
		next = min(next, later(now, p.shortest))
	}
	if next != math.MaxInt64 {
		p.wakeBy(next)
	}
}

// later is at + wait, or never.
func later(at, wait int64) int64 {
	if wait > math.MaxInt64-1-at {
		return math.MaxInt64 - 1
	}
	return at + wait
}

// Cancel withdraws the tasks of the job. Tasks that have not begun complete as cancelled at once. A worker that runs
// one is ended, and the task completes as cancelled when that worker is gone. Cancel returns how many tasks it has
// cancelled; others had completed before.
func (p *Pool) Cancel(job uint64) int {
	return p.cancel(func(other uint64) bool { return other == job }, true)
}

// Withdraw withdraws the tasks of the job that have not begun: they complete as cancelled. It returns how many there
// were. Tasks that have begun go on, and so does the first task of a worker that has not begun any.
func (p *Pool) Withdraw(job uint64) int {
	return p.cancel(func(other uint64) bool { return other == job }, false)
}

// WithdrawAll is Withdraw for all jobs.
func (p *Pool) WithdrawAll() int {
	return p.cancel(func(uint64) bool { return true }, false)
}

// CancelAll is Cancel for all jobs.
func (p *Pool) CancelAll() int {
	return p.cancel(func(uint64) bool { return true }, true)
}

// cancel withdraws the tasks of the jobs that match. running: whether workers that run one are ended.
func (p *Pool) cancel(matches func(job uint64) bool, running bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == terminated {
		return 0
	}
	p.harvest(p.keep)
	cancelled := 0
	withdraw := func(t task) {
		p.complete(ring.KindCancelled, t.frame, t.extent(), "")
		cancelled += t.frame.Tasks()
	}
	p.queue.remove(func(t *task) bool { return matches(t.frame.Job) }, withdraw)
	for _, w := range p.active {
		for i := len(w.flights) - 1; i >= 0; i-- {
			if !matches(w.flights[i].frame.Job) {
				continue
			}
			most := ring.MaxBatch
			if !running && i == 0 && w.settle() && w.flights[0].next == w.flights[0].frame.First {
				most = w.flights[0].frame.Tasks() - 1
			}
			if most == 0 {
				continue
			}
			if t, ok := w.takeBack(i, most); ok {
				withdraw(t)
			}
		}
		if running && len(w.flights) > 0 && matches(w.flights[0].frame.Job) && p.end(w, ring.KindCancelled) {
			cancelled++
		}
	}
	p.step()
	if len(p.ready) > p.readyAt {
		p.memory.Ring()
	}
	return cancelled
}

// endings says, in traces, why a worker is ended because of its task.
var endings = map[ring.Kind]string{
	ring.KindTimeout:   "is over its time limit",
	ring.KindMemory:    "is over its memory limit",
	ring.KindCancelled: "was cancelled",
}

// end ends a worker's process because of the task that it runs, its first. When the process is gone, that task
// completes as verdict says. The tasks that it has not begun go to other workers. end returns false, and ends nothing,
// when the result of the task has come meanwhile.
func (p *Pool) end(w *worker, verdict ring.Kind) bool {
	first := w.flights[0].first()
	for i := len(w.flights) - 1; i >= 0; i-- {
		t, ok := w.takeBack(i, ring.MaxBatch)
		if !ok {
			break // the worker has begun all of this flight, so it has begun all of those before it, too
		}
		p.queue.pushFront(t)
	}
	p.harvestWorker(w, p.keep)
	if len(w.flights) == 0 || w.flights[0].first() != first {
		return false
	}
	delete(p.limits, first)
	ending := w.verdict != 0
	w.verdict = verdict
	if ending {
		return true
	}
	trace.Printf("worker %d is ended: %v %s", w.pid, w.flights[0].frame, endings[verdict])
	w.left = 0
	if verdict == ring.KindMemory { // it may take the memory of all others while it handles SIGTERM
		w.signal(unix.SIGKILL)
		return true
	}
	w.killAt = sys.Monotonic() + int64(Grace)
	p.wakeBy(w.killAt)
	w.slot.Stop() // if it catches SIGTERM, and goes on, it ends after its task
	w.signal(unix.SIGTERM)
	w.slot.Rouse() // a signal that comes just before a sleep does not end it
	return true
}
