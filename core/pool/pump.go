package pool

import (
	"time"

	"github.com/goproc/goproc/core/guard"
	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/sys"
)

// How tasks are moved on. The pump is a goroutine that New starts. Each call that has changed what is queued or in
// flight ends with step, and so does each round of the pump. All methods but pump and pumpOnce are called with the pool
// locked.

// pump moves tasks and results while no Python thread is in a call of the pool, and enforces limits. It has a thread of
// its own, which sleeps on a futex: a program that closes descriptors cannot disturb it. Destroy ends it.
func (p *Pool) pump() {
	defer close(p.pumped)
	defer guard.Goroutine("a pool's pump")
	for seen, patience := uint32(0), time.Duration(-1); ; {
		p.memory.AwaitCall(seen, patience)
		seen = p.memory.Calls()
		if p.ending.Load() {
			return
		}
		patience = p.pumpOnce()
	}
}

// pumpOnce is one round of the pump: it does what a thread that collects would do. It returns the time until the next
// round, if nobody calls the pump before. A negative time means that no round is needed. The lock is released by defer,
// so that a panic leaves it free.
func (p *Pool) pumpOnce() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == terminated {
		return -1
	}
	if p.alarmAt != 0 && p.alarmAt <= sys.Monotonic() {
		p.alarmAt = 0
		p.enforce()
	} else {
		p.harvest(p.keepIfRoom)
	}
	if p.measureAt != 0 && p.measureAt <= sys.Monotonic() {
		p.measureAt = 0
		p.measure()
	}
	look := p.lookAt != 0 && p.lookAt <= sys.Monotonic()
	if look {
		p.lookAt = 0
		p.lookOver()
	}
	p.step()
	switch {
	case len(p.ready) == p.readyAt:
	case look:
		p.memory.Rouse()
	default:
		p.memory.Ring()
	}
	next := int64(0)
	for _, at := range []int64{p.alarmAt, p.lookAt, p.measureAt} {
		if at != 0 && (next == 0 || at < next) {
			next = at
		}
	}
	if next == 0 {
		return -1
	}
	return time.Duration(max(0, next-sys.Monotonic()))
}

// step moves tasks on after something has come or gone.
func (p *Pool) step() {
	p.feed()
	p.stopIfDone()
	p.settle()
}

// settle tells the workers when to call the pump. A worker may have run out of tasks, or filled its result ring, just
// before it could see the bits. Then it sleeps without having called. So settle does what the pump would have done for
// it.
func (p *Pool) settle() {
	for p.arm() {
		p.harvest(p.keepIfRoom)
		p.feed()
		p.stopIfDone()
	}
}

// arm tells the workers when to call the pump, by bits of the waiting word. It returns whether it has set a bit that
// was not set before.
func (p *Pool) arm() bool {
	if p.ending.Load() {
		return false // the pool is being destroyed, and its memory may be gone
	}
	backlog, inFlight := !p.queue.empty(), false
	for _, w := range p.active {
		inFlight = inFlight || len(w.flights) > 0
		backlog = backlog || w.spare() && len(p.active) > 1
	}
	var set uint32
	if inFlight && p.state != terminated {
		set |= ring.WaitingDrain
	}
	if backlog || inFlight && p.state == closed {
		set |= ring.WaitingFeed
	}
	if inFlight {
		p.measureAgain()
	}
	if inFlight || p.stopped && len(p.active) > 0 {
		p.lookAgain()
	}
	before := p.memory.Arm(set, (ring.WaitingFeed|ring.WaitingDrain)&^set)
	return set&^before != 0
}

// stopIfDone ends the workers of a closed pool that has nothing left to do.
func (p *Pool) stopIfDone() {
	if p.state == closed && !p.stopped && p.idle() {
		p.stopped = true
		for _, w := range p.active {
			w.slot.Stop()
		}
	}
}

// idle tells whether nothing is queued or in flight.
func (p *Pool) idle() bool {
	if !p.queue.empty() {
		return false
	}
	for _, w := range p.active {
		if len(w.flights) > 0 {
			return false
		}
	}
	return true
}
