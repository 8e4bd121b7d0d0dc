// Package pool is the scheduler: which task goes to which worker, what each worker has, and what became of it.
//
// It never starts a process and never touches a Python object. Threads of the Python program call it inline through
// package capi to submit and to collect; when none of them is there, one goroutine a pool, the pump, takes its place:
// it moves queued tasks to workers that have run dry and empties result rings that fill up. A worker wakes the pump
// by a futex, and only when it has been asked to (see ring.WaitingFeed).
//
// What is in flight is known for each worker, in the order in which the worker takes it. When a worker ends, the
// results it had delivered count, the task it had claimed is lost, and those it had not claimed go to other workers.
package pool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goproc/goproc/core/guard"
	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// ErrClosed is returned for a task submitted to a pool that has been closed or terminated.
var ErrClosed = errors.New("the pool is closed")

// ErrNoMemory means that the process has no memory left for a task that must be queued.
var ErrNoMemory = fmt.Errorf("the limits of this process leave no memory for further tasks: %w", unix.ENOMEM)

// room is asked before tasks are queued, or results kept, in the heap: both are without bound.
var room sys.Room

// ErrTooLarge is returned for a payload that must go to an extent.
var ErrTooLarge = fmt.Errorf("a payload in a ring has at most %d bytes", ring.MaxInline)

// ErrBatch is returned for a batch that has too many tasks, or a payload in an extent, which has one receiver.
var ErrBatch = fmt.Errorf("a batch has at most %d tasks and no extent", ring.MaxBatch)

// Counters receives what all pools have done.
type Counters interface {
	AddTasks(n int64)
	AddLost(n int64)
	AddTimeouts(n int64)
	AddRetries(n int64)
}

type state int

const (
	open       state = iota
	closed           // no new tasks; workers stop when nothing is left
	terminated       // nothing runs any more
)

// Pool schedules the tasks of one Python pool.
type Pool struct {
	memory   *ring.Memory
	counters Counters
	pumped   chan struct{} // closed when the pump has ended
	ending   atomic.Bool   // the pump is to end

	mu      sync.Mutex
	state   state
	stopped bool      // the workers have been told to stop
	slots   []*worker // by number of slot; nil where none is mapped
	active  []*worker // those that may have tasks
	queue   queue     // tasks that no worker has yet
	ready   []byte    // encoded completions that nobody has collected yet, from readyAt on
	readyAt int
	handed  int     // how many tasks have been submitted
	exits   bool    // whether the end of a worker is among them
	retries int     // how often a task is run again that is lost with its worker
	busy    float64 // what a task takes, in microseconds: a moving average; 0 when unknown

	limits   map[taskID]int64 // how long tasks may run, in nanoseconds; of those that have a limit and are not complete
	shortest int64            // no limit is shorter
	alarmAt  int64            // when the pump looks after limits, in monotonic nanoseconds; 0 when there is no need
	lookAt   int64            // when it looks over the workers, in the same way
}

// New makes a pool without workers.
func New(counters Counters) (*Pool, error) {
	if err := pumps.Take(); err != nil {
		return nil, fmt.Errorf("a thread for a pool: %w", err)
	}
	p, err := openPool(counters)
	if err != nil {
		pumps.Give()
		return nil, err
	}
	go p.pump()
	return p, nil
}

var pumps sys.Threads

// openPool makes a pool without its pump.
func openPool(counters Counters) (*Pool, error) {
	memory, err := ring.NewMemory()
	if err != nil {
		return nil, err
	}
	memory.SetSpin(spin())
	return &Pool{memory: memory, counters: counters, pumped: make(chan struct{})}, nil
}

// SetRetries sets how often a task is run again that is lost with its worker; never unless set. It is called before
// there are workers.
func (p *Pool) SetRetries(retries int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retries = retries
}

// spin is how many nanoseconds an end spins before it sleeps: none on a single core, where the other end could not
// run meanwhile.
func spin() uint32 {
	if runtime.NumCPU() < 2 {
		return 0
	}
	return 100_000
}

// MemoryFD is the descriptor of the memory, which a worker inherits. The pool owns it.
func (p *Pool) MemoryFD() (int, error) { return p.memory.FD().Int(), p.memory.FD().Check() }

// Submit hands in a task, or a batch of tasks: f.End is how many, 0 for one that is no batch; they have the frame's
// index and those that follow. The payload is copied before Submit returns. It never waits: what no worker can take yet
// is queued.
func (p *Pool) Submit(f ring.Frame, payload []byte) error {
	if len(payload) > ring.MaxInline {
		return ErrTooLarge
	}
	f.Kind, f.First, f.End = ring.KindTask, 0, max(1, f.End)
	if f.End > ring.MaxBatch || f.End > 1 && f.Flags&ring.FlagExtent != 0 {
		return ErrBatch
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != open {
		delete(p.limits, taskID{f.Job, f.Index})
		return ErrClosed
	}
	p.handed += f.Tasks()
	if p.retries > 0 && f.Flags&ring.FlagExtent != 0 {
		f.Flags |= ring.FlagKeep
	}
	t := task{f, payload, 0}
	if p.queue.empty() && p.share(&t) {
		p.settle()
		return nil
	}
	if !room.Allows(len(payload) + p.queue.grows()) {
		p.handed -= f.Tasks()
		delete(p.limits, taskID{f.Job, f.Index})
		return ErrNoMemory
	}
	t.payload = append([]byte(nil), payload...)
	p.queue.pushBack(t)
	p.step()
	return nil
}

// Collect fills buf with completions, one frame (header and payload, padded to eight bytes) after the other, and
// returns how many bytes it used: 0 when nothing has completed. buf must hold at least one frame of ring.MaxInline, or
// be empty, when only the workers are to be seen to.
func (p *Pool) Collect(buf []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	used := 0
	for p.readyAt < len(p.ready) {
		size := encodedSize(p.ready[p.readyAt:])
		if used+size > len(buf) {
			p.step()
			return used
		}
		copy(buf[used:], p.ready[p.readyAt:p.readyAt+size])
		p.readyAt += size
		used += size
	}
	p.exits = false
	if len(p.ready) > 0 {
		p.readyAt = 0
		if p.ready = p.ready[:0]; cap(p.ready) > 1<<20 {
			p.ready = nil // a burst's memory is not kept
		}
	}
	p.harvest(func(f ring.Frame, payload []byte) bool {
		if used+int(ring.Space(len(payload))) > len(buf) {
			return false
		}
		used += encode(buf[used:used:len(buf)], f, payload)
		return true
	})
	p.step()
	return used
}

// Unseen is how many bytes of completions [Pool.Collect] would deliver now, if it had room for all; or some more, for
// rings are padded.
func (p *Pool) Unseen() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	unseen := len(p.ready) - p.readyAt
	for _, w := range p.active {
		unseen += w.slot.Unread()
	}
	return unseen
}

// Urgent reports whether a worker has ended and nobody has collected that yet, who might replace it.
func (p *Pool) Urgent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exits
}

// Close refuses further tasks; workers stop when nothing is queued or in flight.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == open {
		p.state = closed
	}
	p.step()
}

// Terminate refuses further tasks and completes all that is queued or in flight as cancelled. What workers deliver
// afterwards is dropped. Ending their processes is the caller's part.
func (p *Pool) Terminate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == terminated {
		return
	}
	p.harvest(p.keep)
	p.state = terminated
	for _, w := range p.active {
		for _, fl := range w.flights {
			_, _, _ = w.slot.TakeBack(fl.position, 0, fl.frame.End, ring.MaxBatch) // they do not begin any more
			p.complete(ring.KindCancelled, fl.frame, fl.extent, "")
		}
		w.drop()
		w.slot.Stop()
	}
	for !p.queue.empty() {
		t := p.queue.popFront()
		p.complete(ring.KindCancelled, t.frame, t.extent(), "")
	}
	p.arm()
	p.memory.Ring()
}

// Pending is how many tasks are queued or in flight.
func (p *Pool) Pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.queue.tasks(math.MaxInt)
	for _, w := range p.active {
		n += w.tasks
	}
	return n
}

// Backlog is how many tasks are queued that workers yet to be added will take, at most that many, and how many have
// been submitted so far. Of those, only the first ones count, up to the number since, if that is not negative.
func (p *Pool) Backlog(since, most int) (queued, submitted int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	others := 0 // what goes to workers that are there, or was submitted later
	if since >= 0 {
		others = p.handed - since
	}
	for _, w := range p.active {
		others += max(0, w.left)
	}
	return max(0, p.queue.tasks(others+most)-others), p.handed
}

// Destroy frees everything. The pool's workers must have ended, or be about to: they are not told.
func (p *Pool) Destroy() {
	p.mu.Lock()
	ended := p.ending.Swap(true)
	p.state = terminated
	p.mu.Unlock()
	if ended {
		return
	}
	for done := false; !done; {
		p.memory.CallPump() // again, should a worker write to the word that the pump sleeps on
		done = sys.WaitClosed(p.pumped, 100*time.Millisecond)
	}
	pumps.Give()

	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.slots {
		if w != nil {
			w.slot.Close()
		}
	}
	p.slots, p.active, p.queue, p.ready, p.readyAt = nil, nil, queue{}, nil, 0
	p.memory.Close()
}

// pump stands in for the Python threads while none of them is in a call, and looks after limits. It has a thread of its
// own, which sleeps on a futex: a program that closes descriptors cannot disturb it. New's caller owns it; Destroy ends
// it.
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

// pumpOnce does what a thread that collects would do, and says when to do so again if nobody calls; never if that is
// negative. Its panic must leave the lock free.
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
	next := p.alarmAt
	if next == 0 || p.lookAt != 0 && p.lookAt < next {
		next = p.lookAt
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

// settle arms the workers' calls for the pump. A worker that ran dry, or whose results filled up, just before it could
// see that it should call would sleep uncalled for: so what it would have called for is done here.
func (p *Pool) settle() {
	for p.arm() {
		p.harvest(p.keepIfRoom)
		p.feed()
		p.stopIfDone()
	}
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

// arm tells the workers when to call the pump. It returns whether it told them anything that they did not know.
func (p *Pool) arm() bool {
	if p.ending.Load() {
		return false // the pool has been destroyed, and its memory is gone
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
	if inFlight || p.stopped && len(p.active) > 0 {
		p.lookAgain()
	}
	before := p.memory.Arm(set, (ring.WaitingFeed|ring.WaitingDrain)&^set)
	return set&^before != 0
}

// finish notes that the result of the flight's first task has come.
func (p *Pool) finish(fl *flight) {
	if len(p.limits) > 0 {
		delete(p.limits, fl.first())
	}
	if fl.frame.Flags&ring.FlagKeep != 0 { // no other try will need its extent, which the worker has not freed
		p.complete(ring.KindCancelled, ring.Frame{Job: ring.NoJob, End: 1}, fl.extent, "")
	}
}

// complete records what the engine itself has to say of each task of the frame.
func (p *Pool) complete(kind ring.Kind, f ring.Frame, extent []byte, text string) {
	flags := uint16(0)
	if extent != nil {
		flags = ring.FlagExtent // the submitter frees it: the payload begins with its description
	}
	payload := append(append([]byte(nil), extent...), text...)
	for i := f.First; i < f.End; i++ {
		delete(p.limits, taskID{f.Job, f.Index + uint64(i)})
		p.keep(ring.Frame{Kind: kind, Flags: flags, Job: f.Job, Index: f.Index + uint64(i)}, payload)
	}
}

// keep stores a completion until somebody collects it.
func (p *Pool) keep(f ring.Frame, payload []byte) bool {
	p.exits = p.exits || f.Kind == ring.KindExited
	at, size := len(p.ready), int(ring.Space(len(payload)))
	if cap(p.ready)-at < size {
		left := p.ready[p.readyAt:] // what has been collected is not kept
		p.ready = append(make([]byte, 0, 2*(len(left)+size)), left...)
		p.readyAt, at = 0, len(left)
	}
	encode(p.ready[at:at:cap(p.ready)], f, payload)
	p.ready = p.ready[:at+size]
	return true
}

// keepIfRoom does so if there is memory for it. Else the result stays in its ring, until somebody collects it.
func (p *Pool) keepIfRoom(f ring.Frame, payload []byte) bool {
	at, size := len(p.ready), int(ring.Space(len(payload)))
	if cap(p.ready)-at < size && !room.Allows(2*(at-p.readyAt+size)) {
		return false
	}
	return p.keep(f, payload)
}

// encode writes a frame as it would stand in a ring behind the end of b, which has room for it.
func encode(b []byte, f ring.Frame, payload []byte) int {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(len(payload)))
	b = le.AppendUint16(b, uint16(f.Kind))
	b = le.AppendUint16(b, f.Flags)
	b = le.AppendUint64(b, f.Job)
	b = le.AppendUint64(b, f.Index)
	b = le.AppendUint32(b, uint32(f.Tasks()))
	b = le.AppendUint32(b, f.Busy)
	_ = append(b, payload...)
	return int(ring.Space(len(payload)))
}

// encodedSize is the size of the encoded frame that b begins with.
func encodedSize(b []byte) int { return int(ring.Space(int(binary.LittleEndian.Uint32(b)))) }
