package pool

import (
	"time"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/sys"
)

// A worker can write into all of the memory that it shares with its parent. What it destroys there may make the parent
// wait in vain for a result, the worker for a task, or somebody for a wake. So while there are tasks, the pool looks
// over the workers from which no result has come since it last looked. It compares the words that only the parent
// writes with its own copies. And it compares what a worker does with what it should do. A worker that has done
// something impossible counts as lost. Sleepers are woken even if the memory does not say that they sleep.

// lookEvery is how often the pool looks over its workers.
const lookEvery = 500 * time.Millisecond

// mostDoubts is a number of looks. If that many in a row find a worker asleep although it has something to do, the
// worker counts as lost. Each look wakes it. So a sound worker could be found asleep twice only if it was stopped in
// the few instructions before it sleeps.
const mostDoubts = 3

// lookAgain has the pump look over the workers after lookEvery, unless that is arranged already.
func (p *Pool) lookAgain() {
	if p.lookAt != 0 || p.state == terminated {
		return
	}
	p.lookAt = sys.Monotonic() + int64(lookEvery)
	p.memory.CallPump()
}

// lookOver inspects the workers from which no result has come since the last look. The pump calls it.
func (p *Pool) lookOver() {
	p.memory.SetSpin(spin())
	var overtaken []task
	for _, w := range p.active {
		if w.received == w.receivedBefore && (len(w.flights) > 0 || p.stopped) {
			p.inspect(w)
			if len(p.active) > 1 {
				overtaken = append(overtaken, w.relieve()...)
			}
		} else {
			w.doubts = 0
		}
		w.receivedBefore = w.received
	}
	p.putBack(overtaken)
}

// relieve takes back the tasks that a slow worker has not begun, and returns them. Otherwise the other workers would
// first be given the queued tasks, which were submitted later. From now on the worker is given a task only when it has
// none.
func (w *worker) relieve() []task {
	if w.broken || w.verdict != 0 || !w.up {
		return nil
	}
	w.slow = true
	return w.takeBackAll()
}

// takeBackAll takes back all tasks that the worker has not begun, and returns them.
func (w *worker) takeBackAll() (tasks []task) {
	for i := len(w.flights) - 1; i >= 0; i-- {
		if t, ok := w.takeBack(i, ring.MaxBatch); ok {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// inspect condemns the worker if it has done something that a sound worker cannot do.
func (p *Pool) inspect(w *worker) {
	if w.broken || w.verdict != 0 {
		return
	}
	if w.slot.Intact() != nil {
		w.condemn()
		return
	}
	if !w.settle() {
		return
	}
	// The order matters. A sound worker delivers what it has begun before it sleeps. So what it has begun is read
	// first, then whether it sleeps, and then its results.
	begun := len(w.flights) > 0 && w.flights[0].next > w.flights[0].frame.First
	asleep, forTask := w.slot.Asleep()
	received := w.received
	if !p.harvestWorker(w, p.keep) || w.broken || w.received != received {
		return
	}
	switch {
	case !asleep || w.parts > w.taken && w.slot.AwaitsTaken():
		w.doubts = 0 // the program takes its time
	case forTask && begun:
		w.condemn() // it has begun tasks, and sleeps, but there is no result: what it delivered has been destroyed
		return
	default:
		if w.doubts++; w.doubts == mostDoubts {
			w.condemn() // it does not see its tasks, or that there is room for its result
			return
		}
	}
	w.slot.Rouse()
}
