package pool

import (
	"github.com/goproc/goproc/core/ring"
)

// The window is how many tasks may wait in a worker's ring behind the one it runs. One hides the time in which a
// result travels to the parent and the next task back. More pays when tasks are so short that waking anybody for each
// of them would cost more than the task; then as many as fit in about windowTime. Tasks that turn out to wait behind a
// slow one are taken back.
const (
	windowTime = 200.0 // microseconds
	windowMax  = 64
)

func (p *Pool) window() int {
	if p.busy == 0 {
		return 1
	}
	return max(1, min(windowMax, int(windowTime/p.busy)))
}

// pick is the worker to give the next task to, nil when all have enough: the one with the least to do, of those one that
// has come up, and of those one that is awake.
func (p *Pool) pick() *worker {
	window := p.window()
	var best *worker
	bestLoad := 0
	for _, w := range p.active {
		if !w.settle() || w.left == 0 || w.queued >= window {
			continue
		}
		load := 4 * len(w.flights)
		if !w.up {
			load += 2
		} else if w.slot.Sleeping() {
			load++
		}
		if best == nil || load < bestLoad {
			best, bestLoad = w, load
		}
	}
	return best
}

// feed moves queued tasks to workers, and tasks that wait behind others to workers that have nothing.
func (p *Pool) feed() {
	for !p.queue.empty() {
		w := p.pick()
		if w == nil {
			break
		}
		t := p.queue.front()
		if !w.push(t.frame, t.payload) {
			break // its ring is full, though it has the least to do
		}
		p.queue.popFront()
		w.slot.Publish()
	}
	if p.queue.empty() && len(p.active) > 1 {
		p.balance()
	}
}

// balance takes tasks back from workers that have not come to them, for workers that have none. The only task of a worker
// is taken when that one has not come up: starting may take long, and its initializer may never return.
func (p *Pool) balance() {
	onlyUp := false // only who is up can still be given anything
	for _, idle := range p.active {
		if len(idle.flights) > 0 || !idle.settle() || idle.left == 0 || onlyUp && !idle.up {
			continue
		}
		var victim *worker
		for _, w := range p.active {
			if w.spare() && w.settle() && w.spare() && (len(w.flights) > 1 || idle.up) &&
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
		fl := victim.flights[last]
		payload, ok := victim.slot.TakeBack(fl.position, fl.size)
		if !ok {
			continue
		}
		victim.flights = victim.flights[:last]
		victim.queued--
		if victim.left >= 0 {
			victim.left++
		}
		if idle.push(fl.frame, payload) {
			idle.slot.Publish()
		} else {
			p.queue.pushFront(task{fl.frame, payload})
		}
	}
}

// harvest takes results from all workers until take says that it has no more room.
func (p *Pool) harvest(take func(ring.Frame, []byte) bool) {
	for _, w := range p.active {
		if !p.harvestWorker(w, take) {
			return
		}
	}
}

// harvestWorker takes the worker's results. A worker that breaks the protocol gets nothing more and is ended: its
// exit then settles what it had.
func (p *Pool) harvestWorker(w *worker, take func(ring.Frame, []byte) bool) bool {
	for !w.broken {
		f, payload, ok, err := w.slot.Result()
		if err == nil && ok && p.state == terminated {
			w.slot.Release()
			continue // its task has been completed as cancelled
		}
		if err == nil && ok && (len(w.flights) == 0 || w.flights[0].frame.Job != f.Job || w.flights[0].frame.Index != f.Index) {
			err = ring.ErrProtocol // a result for a task that it does not have
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
		w.slot.Release()
		w.served = true
		w.flights[0] = flight{}
		w.flights = w.flights[1:]
		w.queued = min(w.queued, len(w.flights))
		if f.Busy > 0 {
			if p.busy == 0 {
				p.busy = float64(f.Busy)
			} else {
				p.busy += (float64(f.Busy) - p.busy) / 8
			}
		}
		if p.counters != nil {
			p.counters.AddTasks(1)
		}
	}
	return true
}
