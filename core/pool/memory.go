package pool

import (
	"time"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/sys"
)

// measureEvery is how often the pump measures how much memory the workers have that run a task.
const measureEvery = 20 * time.Millisecond

// LimitMemory limits how many bytes of private resident memory each task may take, counted from what its worker has
// when it begins the task. The worker says how much that is (Slot.Base). When a task is over the limit, its worker is
// killed; when the worker is gone, the task completes with KindMemory. 0 removes the limit.
func (p *Pool) LimitMemory(bytes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mostMemory = bytes
	p.step()
}

// measureAgain has the pump measure after measureEvery, if there is a limit, unless that is arranged already.
func (p *Pool) measureAgain() {
	if p.mostMemory == 0 || p.measureAt != 0 || p.state == terminated {
		return
	}
	p.measureAt = sys.Monotonic() + int64(measureEvery)
	p.memory.CallPump()
}

// measure ends the workers whose tasks have taken too much memory. The pump calls it.
func (p *Pool) measure() {
	p.harvest(p.keep)
	for _, w := range p.active {
		if w.verdict != 0 || w.broken || len(w.flights) == 0 {
			continue
		}
		job, index, started := w.slot.Current()
		base := w.slot.Base()
		if started == 0 || base == 0 || (taskID{job, index}) != w.flights[0].first() {
			continue
		}
		has, ok := sys.PrivateMemory(w.pid)
		if !ok || has < base || has-base <= p.mostMemory {
			continue
		}
		if _, _, still := w.slot.Current(); still == started { // else another task has begun meanwhile
			p.end(w, ring.KindMemory)
		}
	}
}
