package pool

import (
	"time"

	"github.com/goproc/goproc/core/sys"
)

// A worker can write into all of the memory that it shares with its parent. What it destroys there may leave somebody
// waiting: for a result that is never seen, a task that the worker does not see, a wake that does not come. So
// while there are tasks, the pool looks over the workers from which nothing has come since it last looked. It compares
// the words that only it writes with its own copies, and what a worker does with what it should do. What is impossible
// makes it a lost worker. Sleepers are woken without regard to whether their memory says that they sleep.

// lookEvery is how often.
const lookEvery = 500 * time.Millisecond

// mostDoubts is how often in a row a worker may be found asleep although it has something to do. It has been woken
// since. Only one that was stopped in the few instructions before it sleeps could be found twice without fault.
const mostDoubts = 3

// lookAgain has the pump look over the workers in a while.
func (p *Pool) lookAgain() {
	if p.lookAt != 0 || p.state == terminated {
		return
	}
	p.lookAt = sys.Monotonic() + int64(lookEvery)
	p.memory.CallPump()
}

// lookOver is called by the pump.
func (p *Pool) lookOver() {
	p.memory.SetSpin(spin())
	for _, w := range p.active {
		if w.received == w.receivedBefore && (len(w.flights) > 0 || p.stopped) {
			p.inspect(w)
		} else {
			w.doubts = 0
		}
		w.receivedBefore = w.received
	}
}

// inspect looks for what a sound worker cannot have done.
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
	// In this order: it sleeps after it has delivered what it has begun.
	begun := len(w.flights) > 0 && w.flights[0].next > w.flights[0].frame.First
	asleep, forTask := w.slot.Asleep()
	received := w.received
	if !p.harvestWorker(w, p.keep) || w.broken || w.received != received {
		return
	}
	switch {
	case !asleep:
		w.doubts = 0
	case forTask && begun:
		w.condemn() // what it delivered has been destroyed
		return
	default:
		if w.doubts++; w.doubts == mostDoubts {
			w.condemn() // it does not see its tasks, or the room for its result
			return
		}
	}
	w.slot.Rouse()
}
