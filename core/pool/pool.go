// Package pool is the scheduler: it decides which task goes to which worker, and knows which tasks each worker has.
//
// It never starts a process and never touches a Python object. Threads of the Python program call it inline through
// package capi to submit and to collect. While none of them does, a goroutine of each pool, the pump, takes their
// place: it moves queued tasks to workers that have none, and empties result rings that fill up. A worker wakes the
// pump by a futex, and only when it has been asked to (see ring.WaitingFeed).
//
// For each worker, the pool lists the frames that it has, its flights, in the order in which the worker takes them.
// When a worker ends, the results that it had delivered count. The tasks that it had begun and not answered are lost.
// Those that it had not begun go to other workers.
package pool

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// ErrClosed is returned for a task submitted to a pool that has been closed or terminated.
var ErrClosed = errors.New("the pool is closed")

// ErrNoMemory means that the process has no memory left for a task that must be queued.
var ErrNoMemory = fmt.Errorf("the limits of this process leave no memory for further tasks: %w", unix.ENOMEM)

// room is asked before tasks are queued, or results kept, in the heap, because nothing else bounds their number.
var room sys.Room

// ErrTooLarge is returned for a payload that must go to an extent.
var ErrTooLarge = fmt.Errorf("a payload in a ring has at most %d bytes", ring.MaxInline)

// ErrBatch is returned for a batch that has too many tasks, or a payload in an extent: an extent has one receiver, and
// the tasks of a batch may go to several.
var ErrBatch = fmt.Errorf("a batch has at most %d tasks and no extent", ring.MaxBatch)

// Counters counts what all pools have done.
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
	active  []*worker // workers that have been added, and have not ended
	queue   queue     // tasks that no worker has yet
	ready   []byte    // encoded completions; those from readyAt on have not been collected
	readyAt int
	handed  int     // how many tasks have been submitted
	exits   bool    // whether ready has a completion of a worker that has ended
	retries int     // how often a task that is lost with its worker is run again
	busy    float64 // how long a task takes, in microseconds: a moving average; 0 when unknown

	more map[taskID]int // the same for single tasks that are about to be submitted

	limits   map[taskID]int64 // in nanoseconds, of the tasks that have a limit and are not complete
	shortest int64            // no limit is shorter
	alarmAt  int64            // when the pump must look at limits, in monotonic nanoseconds; 0 for never
	lookAt   int64            // when the pump must look over the workers, likewise

	mostMemory uint64 // how many bytes of memory a task may take; 0 for any number
	measureAt  int64  // when the pump must measure the memory of the workers, likewise
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

// SetRetries sets how often a task that is lost with its worker is run again. It holds for tasks that are submitted
// later; if it is not called, no task is run again.
func (p *Pool) SetRetries(retries int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retries = retries
}

// Retry sets how often task (job, index), which is about to be submitted, is run again if it is lost with its worker.
// With 0 the task is treated as all others, with a negative number it is not run again.
func (p *Pool) Retry(job, index uint64, retries int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch id := (taskID{job, index}); {
	case retries == 0:
		delete(p.more, id)
	case p.more == nil:
		p.more = map[taskID]int{id: max(0, retries)}
	default:
		p.more[id] = max(0, retries)
	}
}

// retriesOf is how often a task that is being submitted may be run again.
func (p *Pool) retriesOf(f ring.Frame) int {
	if len(p.more) > 0 {
		id := taskID{f.Job, f.Index}
		if retries, ok := p.more[id]; ok {
			delete(p.more, id)
			return retries
		}
	}
	return p.retries
}

// spin is for how many nanoseconds a process spins before it sleeps. On a single core it does not spin: the process
// that it waits for could not run meanwhile.
func spin() uint32 {
	if runtime.NumCPU() < 2 {
		return 0
	}
	return 100_000
}

// MemoryFD is the descriptor of the memory, which a worker inherits. The pool owns it.
func (p *Pool) MemoryFD() (int, error) { return p.memory.FD().Int(), p.memory.FD().Check() }

// Submit submits a task, or a batch. f.End says how many tasks the batch has; 0 is for a task that is no batch. Their
// indices are f.Index and those that follow. The payload is copied before Submit returns. Submit never waits: tasks
// that no worker can take yet are queued.
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
	retries := p.retriesOf(f)
	if p.state != open {
		delete(p.limits, taskID{f.Job, f.Index})
		return ErrClosed
	}
	p.handed += f.Tasks()
	if retries > 0 && f.Flags&ring.FlagExtent != 0 {
		f.Flags |= ring.FlagKeep
	}
	t := task{f, payload, retries}
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

// Close has the pool refuse further tasks. Its workers stop when no task is queued or in flight any more.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == open {
		p.state = closed
	}
	p.step()
}

// Terminate has the pool refuse further tasks, and completes all tasks that are queued or in flight as cancelled.
// Results that come afterwards are dropped. The caller must end the workers' processes.
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
			_, _, _ = w.slot.TakeBack(fl.position, 0, fl.frame.End, ring.MaxBatch) // so that it begins none of them
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

// Backlog says how much work there is for workers that are yet to be added. queued is how many queued tasks the present
// workers will not take, at most most. submitted is how many tasks have been submitted so far. If since is not
// negative, it is an earlier value of submitted: later tasks do not count.
func (p *Pool) Backlog(since, most int) (queued, submitted int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	others := 0 // tasks that the present workers will take, or that were submitted later
	if since >= 0 {
		others = p.handed - since
	}
	for _, w := range p.active {
		others += max(0, w.left)
	}
	return max(0, p.queue.tasks(others+most)-others), p.handed
}

// Destroy frees all that the pool has. It does not end the workers: they must have ended, or be about to.
func (p *Pool) Destroy() {
	p.mu.Lock()
	ended := p.ending.Swap(true)
	p.state = terminated
	p.mu.Unlock()
	if ended {
		return
	}
	for done := false; !done; {
		p.memory.CallPump() // again and again: a worker may have overwritten the word that the pump sleeps on
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
