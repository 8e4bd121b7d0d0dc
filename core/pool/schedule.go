package pool

import (
	"cmp"
	"slices"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/trace"
)

// The window is how many tasks may wait in a worker's ring behind the task that runs. One waiting task hides the time
// in which a result travels to the parent, and the next task to the worker. For very short tasks the window is larger:
// waking a process for each would cost more than the task. Then it is as many as fit in about windowTime. A task that
// turns out to wait behind a slow one is taken back.
//
// Of a divided chunk, a worker is given as many tasks as fit in about pieceTime. It unpickles the whole chunk for them.
// With a few tasks at a time, unpickling would take longer than the tasks. If they turn out to be slow, they are taken
// back, too.
const (
	windowTime = 200.0 // microseconds
	windowMax  = 256
	pieceTime  = 1000.0 // microseconds
	batchMost  = 32     // tasks of a batch that is no divided chunk, at most: as in submitter.py
)

func (p *Pool) window() int {
	if p.busy == 0 {
		return 1
	}
	return max(1, min(windowMax, int(windowTime/p.busy)))
}

// piece is how many tasks of the frame to give at once to a worker that has queued tasks waiting.
func (p *Pool) piece(f ring.Frame, queued int) int {
	count := p.window() - queued
	if tasks := f.Tasks(); tasks > batchMost {
		if p.busy == 0 {
			count = max(count, tasks/8)
		} else {
			count = max(count, int(min(float64(tasks), pieceTime/p.busy)))
		}
	}
	return max(1, min(f.Tasks(), count))
}

// pick is the worker to give the next task to: the worker with the least to do. If several have equally little, a
// worker that has come up is preferred; of those, one that is awake. best is nil when no worker may be given a task.
// idle is how many workers have nothing to do.
func (p *Pool) pick() (best *worker, idle int) {
	window := p.window()
	bestLoad := 0
	for _, w := range p.active {
		if !w.settle() || w.left == 0 || w.queued >= window || w.slow && w.tasks > 0 {
			continue
		}
		if w.tasks == 0 {
			idle++
		}
		load := 4 * w.tasks
		if !w.up {
			load += 2
		} else if w.slot.Sleeping() {
			load++
		}
		if best == nil || load < bestLoad {
			best, bestLoad = w, load
		}
	}
	return best, idle
}

// share gives the tasks of t to workers, as many as they may be given, and removes these from t. It returns whether
// nothing is left in t.
func (p *Pool) share(t *task) bool {
	for {
		w, idle := p.pick()
		if w == nil {
			return false
		}
		f := t.frame
		count := p.piece(f, w.queued)
		if idle > 1 {
			count = min(count, (f.Tasks()+idle-1)/idle)
		}
		if w.left > 0 {
			count = min(count, w.left)
		}
		f.End = f.First + uint32(count)
		if !w.push(task{f, t.payload, t.retries}) {
			return false // its ring is full, though it has the least to do
		}
		w.slot.Publish()
		if trace.On() {
			trace.Printf("%v was handed to worker %d", f, w.pid)
		}
		if t.frame.First = f.End; t.frame.Tasks() == 0 {
			return true
		}
	}
}

// putBack puts tasks that were taken back into the queue: before all that are queued, and in the order in which they
// were submitted.
func (p *Pool) putBack(tasks []task) {
	slices.SortFunc(tasks, func(a, b task) int {
		return cmp.Or(cmp.Compare(b.frame.Job, a.frame.Job), cmp.Compare(b.frame.Index, a.frame.Index))
	})
	for _, t := range tasks {
		p.queue.pushFront(t)
	}
}

// feed moves queued tasks to workers. When the queue is empty, it moves tasks that wait behind others to idle workers.
func (p *Pool) feed() {
	for !p.queue.empty() && p.share(p.queue.front()) {
		p.queue.popFront()
	}
	if p.queue.empty() && len(p.active) > 1 {
		p.balance()
	}
}

// balance gives idle workers tasks that others have not begun. A worker's only task is taken back only if the worker
// has not come up: coming up may take long, and its initializer may never return.
func (p *Pool) balance() {
	onlyUp := false // what is left to take may only go to workers that have come up
	for _, idle := range p.active {
		if idle.tasks > 0 || !idle.settle() || idle.left == 0 || onlyUp && !idle.up {
			continue
		}
		var victim *worker
		for _, w := range p.active {
			if w.spare() && w.settle() && w.spare() && (w.tasks > 1 || idle.up) &&
				(victim == nil || w.queued > victim.queued) {
				victim = w
			}
		}
		if victim == nil {
			if idle.up {
				return
			}
			onlyUp = true
			continue
		}
		last := len(victim.flights) - 1
		half := (int(victim.flights[last].frame.End-victim.flights[last].next) + 1) / 2
		if idle.left > 0 {
			half = min(half, idle.left)
		}
		t, ok := victim.takeBack(last, half)
		if !ok {
			continue
		}
		if trace.On() {
			trace.Printf("%v was taken back from worker %d for worker %d", t.frame, victim.pid, idle.pid)
		}
		if idle.push(t) {
			idle.slot.Publish()
		} else {
			p.queue.pushFront(t)
		}
	}
}

// harvest reads the results of all workers, and gives them to take, until take returns false: it has no more room.
func (p *Pool) harvest(take func(ring.Frame, []byte) bool) {
	for _, w := range p.active {
		if !p.harvestWorker(w, take) {
			return
		}
	}
}

// harvestWorker is harvest for one worker. It returns false if take has no more room. A worker that breaks the protocol
// is killed, and gets no more tasks; when its process has ended, Exited settles those that it has.
func (p *Pool) harvestWorker(w *worker, take func(ring.Frame, []byte) bool) bool {
	for !w.broken {
		f, payload, ok, err := w.slot.Result()
		if err == nil && ok && (p.state == terminated || w.verdict != 0) {
			w.slot.Release()
			continue // the result is dropped: its task has been cancelled, or will complete as the verdict says
		}
		if err == nil && ok && f.Kind == ring.KindPart {
			if !w.owesPart(f) {
				w.condemn()
				return true
			}
			if !take(f, payload) {
				return false
			}
			w.slot.Release()
			w.yielded()
			continue
		}
		if err == nil && ok && !w.owes(f) {
			if f.Job == ring.NoJob && f.Kind == ring.KindFailure && !w.served && !w.failed {
				f.Index = uint64(w.pid) // the worker says why it cannot begin: its initializer or an import has raised
				if !take(f, payload) {
					return false
				}
				w.slot.Release()
				w.failed = true
				continue
			}
			err = ring.ErrProtocol
		}
		if err != nil {
			w.condemn()
			return true
		}
		if !ok {
			return true
		}
		if !take(f, payload) {
			return false
		}
		if trace.On() {
			trace.Printf("worker %d has delivered %v", w.pid, f)
		}
		w.slot.Release()
		w.received++
		w.served = true
		w.showTaken(w.parts) // the worker's next task need not wait until the program has taken these
		for range f.Tasks() {
			p.finish(&w.flights[0])
			w.delivered()
		}
		if f.Busy > 0 {
			busy := float64(f.Busy) / float64(f.Tasks())
			if p.busy == 0 {
				p.busy = busy
			} else {
				p.busy += (busy - p.busy) / 8
			}
		}
		if p.counters != nil {
			p.counters.AddTasks(int64(f.Tasks()))
		}
	}
	return true
}
