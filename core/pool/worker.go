package pool

import (
	"fmt"
	"slices"

	"github.com/goproc/goproc/core/ring"
)

// flight is a task that a worker has, from its ring's tail to the arrival of its result.
type flight struct {
	frame    ring.Frame
	position uint64 // in the task ring
	size     int    // of the payload
	extent   []byte // the extent's description, nil for none
}

// worker is the parent's view of one worker process.
type worker struct {
	slot    *ring.Slot
	number  int // of the slot
	running bool
	flights []flight // in the order in which the worker takes them
	queued  int      // how many of them, the last ones, it has not taken yet
	left    int      // how many tasks it may still be given; negative for any number
	pid     int
	up      bool   // it has come up: it has waited for a task, or taken one
	served  bool   // it has taken a task
	kill    func() // ends the process
	broken  bool   // it broke the ring's protocol and is being ended
}

// condemn ends a worker whose memory cannot be trusted any more. Its exit settles what it had.
func (w *worker) condemn() {
	w.broken, w.left = true, 0
	w.kill()
}

// push gives the worker a task, without showing it yet.
func (w *worker) push(f ring.Frame, payload []byte) bool {
	position, ok := w.slot.Push(f, payload)
	if !ok {
		return false
	}
	fl := flight{frame: f, position: position, size: len(payload)}
	if f.Flags&ring.FlagExtent != 0 {
		fl.extent = append([]byte(nil), payload...)
	}
	w.flights = append(w.flights, fl)
	w.queued++
	if w.left > 0 {
		w.left--
	}
	return true
}

// settle counts anew how many tasks the worker has not taken. It returns false when the worker is broken.
func (w *worker) settle() bool {
	if w.broken {
		return false
	}
	head, err := w.slot.TaskHead()
	if err != nil {
		w.condemn()
		return false
	}
	for w.queued > 0 && w.flights[len(w.flights)-w.queued].position < head {
		w.queued--
	}
	w.up = w.up || head > 0 || w.slot.Sleeping()
	return true
}

// spare tells whether the worker has a task that would begin sooner elsewhere: it waits behind another one, or for the
// worker to come up.
func (w *worker) spare() bool { return w.queued > 0 && (len(w.flights) > 1 || !w.up) }

// Slot prepares a slot for a worker that is about to be started, and returns its number.
func (p *Pool) Slot() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == terminated {
		return 0, ErrClosed
	}
	for _, w := range p.slots {
		if !w.running {
			w.running = true
			w.slot.Clear()
			return w.number, nil
		}
	}
	slot, err := p.memory.Slot(len(p.slots))
	if err != nil {
		return 0, err
	}
	w := &worker{slot: slot, number: len(p.slots), running: true}
	p.slots = append(p.slots, w)
	return w.number, nil
}

// Add puts the worker of the slot to work: process pid has been started. maxTasks is how many tasks it may be given, 0
// for any number; kill ends the process at once.
func (p *Pool) Add(number, pid, maxTasks int, kill func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if number < 0 || number >= len(p.slots) || !p.slots[number].running {
		return fmt.Errorf("slot %d has not been prepared", number)
	}
	w := p.slots[number]
	*w = worker{slot: w.slot, number: number, running: true, pid: pid, left: maxTasks, kill: kill}
	if maxTasks <= 0 {
		w.left = -1
	}
	p.active = append(p.active, w)
	if p.state != open && (p.stopped || p.state == terminated) {
		w.slot.Stop()
	}
	p.step()
	return nil
}

// Drop gives back a slot whose worker could not be started.
func (p *Pool) Drop(number int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if number >= 0 && number < len(p.slots) {
		p.slots[number].running = false
	}
}

// Exited settles what the worker of the slot leaves behind: its process has ended.
func (p *Pool) Exited(number, exitCode int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if number < 0 || number >= len(p.slots) {
		return // the pool has been destroyed
	}
	w := p.slots[number]
	at := slices.Index(p.active, w)
	if at < 0 {
		return
	}
	w.settle()                 // it may have come up since anybody looked
	p.harvestWorker(w, p.keep) // what it had delivered counts
	p.active = slices.Delete(p.active, at, at+1)
	w.running = false
	for i, fl := range slices.Backward(w.flights) {
		if payload, ok := w.slot.TakeBack(fl.position, fl.size); ok {
			p.queue.pushFront(task{fl.frame, payload})
			w.flights = slices.Delete(w.flights, i, i+1)
		}
	}
	how := fmt.Sprintf("%d %d", w.pid, exitCode)
	for _, fl := range w.flights {
		p.complete(ring.KindLost, fl.frame, fl.extent, how)
	}
	if len(w.flights) > 0 {
		w.served = true
		if p.counters != nil {
			p.counters.AddLost(1)
		}
	}
	w.flights, w.queued = nil, 0
	served := 0
	if w.served || w.up { // one that was killed while it waited for a task was no failure to start
		served = 1
	}
	p.keep(ring.Frame{Kind: ring.KindExited, Index: uint64(number)}, fmt.Appendf(nil, "%s %d", how, served))
	p.step()
	p.memory.Ring()
}
