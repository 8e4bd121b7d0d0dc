package pool

import (
	"fmt"
	"slices"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/sys"
	"github.com/goproc/goproc/core/trace"
	"golang.org/x/sys/unix"
)

// flight is a frame that a worker has, with a task or a batch: from when it is pushed into the task ring until its last
// result has come. frame.First is the task whose result comes next.
type flight struct {
	frame    ring.Frame
	next     uint32 // the first task that the worker had not begun at the last look
	position uint64 // in the task ring
	size     int    // of the payload
	extent   []byte // the extent's description, nil for none
	kept     []byte // the payload, if the tasks are to be run again when the worker is lost; else nil
	retries  int    // how often they may be run again
}

// worker is the parent's view of one worker process.
type worker struct {
	slot    *ring.Slot
	number  int // of the slot
	running bool
	flights []flight // in the order in which the worker takes them
	ahead   int      // how many trailing flights are not fully begun
	tasks   int      // how many tasks of the flights have no result yet
	queued  int      // how many of these tasks it has not begun yet
	left    int      // how many tasks it may still be given; negative for any number
	pid     int
	up      bool              // it has come up: it has waited for a task, or claimed one
	served  bool              // it has claimed a task
	signal  func(unix.Signal) // sends the process a signal
	failed  bool              // it has said why it cannot begin
	broken  bool              // it broke the ring's protocol and is being ended
	verdict ring.Kind         // if it is being ended because of its task: what that task completes as; else 0
	killAt  int64             // when SIGKILL follows, in monotonic nanoseconds; 0 for never

	parts uint64 // how many parts of tasks have come
	taken uint64 // how many of them the program has taken, or will not take: see Pool.Taken

	received       int  // how many results have come
	receivedBefore int  // how many had come when lookOver looked last
	slow           bool // no result has come for long: no task is to wait behind its task
	doubts         int  // how often in a row lookOver found it asleep although it had something to do
}

// condemn kills a worker whose memory cannot be trusted any more. When its process has ended, Exited settles its tasks.
func (w *worker) condemn() {
	trace.Printf("worker %d is ended: what it has written to the pool's memory makes no sense", w.pid)
	w.broken, w.left = true, 0
	w.signal(unix.SIGKILL)
}

// push puts a frame into the worker's task ring. The worker does not see it before Slot.Publish. push returns false
// when the ring is full.
func (w *worker) push(t task) bool {
	f := t.frame
	position, ok := w.slot.Push(f, t.payload)
	if !ok {
		return false
	}
	fl := flight{frame: f, next: f.First, position: position, size: len(t.payload), retries: t.retries}
	if f.Flags&ring.FlagExtent != 0 {
		fl.extent = append([]byte(nil), t.payload...)
	}
	if t.retries > 0 {
		fl.kept = append([]byte(nil), t.payload...)
	}
	w.flights = append(w.flights, fl)
	w.ahead++
	w.tasks += f.Tasks()
	w.queued += f.Tasks()
	if w.left > 0 {
		w.left -= f.Tasks()
	}
	return true
}

// takeBack takes the last tasks of flight number at away from the worker, at most most of them. It returns them as a
// task that can be pushed or queued. It returns false when the worker has begun all tasks of the flight.
func (w *worker) takeBack(at, most int) (task, bool) {
	fl := &w.flights[at]
	first, payload, ok := w.slot.TakeBack(fl.position, fl.size, fl.frame.End, most)
	if !ok {
		return task{}, false
	}
	f, retries := fl.frame, fl.retries
	f.First, fl.frame.End = first, first
	w.tasks -= f.Tasks()
	w.queued -= f.Tasks()
	if w.left >= 0 {
		w.left += f.Tasks()
	}
	if fl.frame.Tasks() == 0 {
		w.flights = slices.Delete(w.flights, at, at+1)
		w.ahead--
	}
	return task{f, payload, retries}, true
}

// owes tells whether f can be the next result of the worker: it answers the task whose result comes next, and no task
// beyond the first flight.
func (w *worker) owes(f ring.Frame) bool {
	if len(w.flights) == 0 {
		return false
	}
	first := w.flights[0].frame
	return first.Job == f.Job && first.Index+uint64(first.First) == f.Index && f.Tasks() <= first.Tasks()
}

// owesPart tells whether f can be the next part of the task that the worker runs: the worker is not further ahead of the
// program than it may be.
func (w *worker) owesPart(f ring.Frame) bool {
	return w.owes(f) && w.runs() && f.Tasks() == 1 && f.Busy == uint32(w.parts) && w.parts-w.taken < ring.PartsAhead
}

// delivered notes that the result of the first task has come.
func (w *worker) delivered() {
	w.slow = false
	fl := &w.flights[0]
	if fl.next == fl.frame.First { // the task has begun since its claim word was last read
		fl.next++
		w.queued--
	}
	fl.frame.First++
	w.tasks--
	if fl.frame.Tasks() == 0 {
		w.flights[0] = flight{}
		w.flights = w.flights[1:]
		w.ahead = min(w.ahead, len(w.flights))
	}
}

// runs tells whether the worker has begun the first of its tasks, and not answered it. False also when it is broken.
func (w *worker) runs() bool {
	if len(w.flights) == 0 {
		return false
	}
	if fl := &w.flights[0]; fl.next > fl.frame.First {
		return true
	}
	return w.settle() && w.flights[0].next > w.flights[0].frame.First
}

// yielded notes that a part of the first task has come. The program sees it, so the task is not run again.
func (w *worker) yielded() {
	w.parts++
	w.served, w.doubts = true, 0
	w.flights[0].retries, w.flights[0].kept = 0, nil
}

// showTaken tells the worker that the program has taken, or will not take, that many of its parts.
func (w *worker) showTaken(parts uint64) {
	if parts != w.taken {
		w.taken = parts
		w.slot.ShowTaken(parts)
	}
}

// drop forgets all flights.
func (w *worker) drop() {
	w.flights, w.ahead, w.tasks, w.queued = nil, 0, 0, 0
}

// settle reads from the shared memory which tasks the worker has begun, and whether it has come up. It returns false
// when the worker is broken.
func (w *worker) settle() bool {
	if w.broken {
		return false
	}
	head, err := w.slot.TaskHead()
	if err != nil {
		w.condemn()
		return false
	}
	for w.ahead > 0 {
		fl := &w.flights[len(w.flights)-w.ahead]
		next, err := w.slot.Next(fl.position, fl.frame.End)
		if err != nil || next < fl.next {
			w.condemn()
			return false
		}
		w.queued -= int(next - fl.next)
		w.up = w.up || next > fl.next
		if fl.next = next; next < fl.frame.End {
			break
		}
		w.ahead--
	}
	w.up = w.up || head > 0 || w.slot.Sleeping()
	return true
}

// spare tells whether the worker has a task that would begin sooner in an idle worker: a task that waits behind another
// task, or until this worker has come up.
func (w *worker) spare() bool { return w.queued > 0 && (w.tasks > 1 || !w.up) }

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

// Add says that the worker of the slot has been started, as process pid, and may be given tasks. maxTasks is how many
// it may be given, 0 for any number. signal sends the process a signal, and must not wait for anything.
func (p *Pool) Add(number, pid, maxTasks int, signal func(unix.Signal)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if number < 0 || number >= len(p.slots) || !p.slots[number].running {
		return fmt.Errorf("slot %d has not been prepared", number)
	}
	w := p.slots[number]
	*w = worker{slot: w.slot, number: number, running: true, pid: pid, left: maxTasks, signal: signal}
	if maxTasks <= 0 {
		w.left = -1
	}
	if !p.queue.empty() { // the new worker begins what was submitted first: it may wait behind another task
		var waiting []task
		for _, other := range p.active {
			if other.settle() && other.verdict == 0 {
				waiting = append(waiting, other.takeBackAll()...)
			}
		}
		p.putBack(waiting)
	}
	p.active = append(p.active, w)
	trace.Printf("worker %d was added, in slot %d", pid, number)
	if p.state != open && (p.stopped || p.state == terminated) {
		w.slot.Stop()
	}
	p.step()
	return nil
}

// Up is how many workers have come up, and have not ended. A worker has come up when it has waited for a task, or
// claimed one.
func (p *Pool) Up() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	up := 0
	for _, w := range p.active {
		if w.settle() && w.up {
			up++
		}
	}
	return up
}

// Begun tells whether a worker runs a task of the job, or has run one whose result has not come.
func (p *Pool) Begun(job uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.active {
		w.settle()
		for _, fl := range w.flights {
			if fl.frame.Job == job && fl.next > fl.frame.First {
				return true
			}
		}
	}
	return false
}

// Idle returns the process ids of the workers that have come up, and have no task.
func (p *Pool) Idle() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.harvest(p.keep)
	var pids []int
	for _, w := range p.active {
		if w.settle() && w.up && !w.broken && len(w.flights) == 0 {
			pids = append(pids, w.pid)
		}
	}
	return pids
}

// Drop gives back a slot whose worker could not be started.
func (p *Pool) Drop(number int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if number >= 0 && number < len(p.slots) {
		p.slots[number].running = false
	}
}

// Exited says that the process of the worker in the slot has ended, and settles its tasks. Results that it had
// delivered count. Tasks that it had not begun go back to the queue. Tasks that it had begun and not answered are lost:
// they complete, or go back to the queue for another try. The reaper calls it.
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
	trace.Printf("worker %d has ended with exit code %d", w.pid, exitCode)
	w.settle() // it may have come up since the last look
	p.harvestWorker(w, p.keep)
	p.active = slices.Delete(p.active, at, at+1)
	w.running = false
	for i := len(w.flights) - 1; i >= 0; i-- {
		if t, ok := w.takeBack(i, ring.MaxBatch); ok {
			p.queue.pushFront(t)
		}
	}
	lost, retried := false, int64(0)
	for i, fl := range slices.Backward(w.flights) {
		ran := int64(0)
		if i == 0 {
			ran = w.ran()
		}
		switch {
		case i == 0 && w.verdict != 0:
			p.lose(w.verdict, w, fl, exitCode, ran)
			continue
		case fl.retries > 0 && p.state != terminated:
			trace.Printf("%v was lost with worker %d, and is run again", fl.frame, w.pid)
			p.keep(ring.Frame{Kind: ring.KindRetried, Job: fl.frame.Job, Index: fl.first().index}, w.last(fl, 0, exitCode, ran))
			p.queue.pushFront(task{fl.frame, fl.kept, fl.retries - 1})
			retried += int64(fl.frame.Tasks())
		default:
			p.lose(ring.KindLost, w, fl, exitCode, ran)
		}
		lost = true
	}
	w.served = w.served || len(w.flights) > 0
	if p.counters != nil {
		if lost {
			p.counters.AddLost(1)
		}
		if retried > 0 {
			p.counters.AddRetries(retried)
		}
	}
	w.drop()
	served := 0
	if w.served || w.up { // a worker that was killed while it waited for a task had come up
		served = 1
	}
	p.keep(ring.Frame{Kind: ring.KindExited, Index: uint64(number)}, fmt.Appendf(nil, "%d %d %d", w.pid, exitCode, served))
	p.step()
	p.memory.Ring()
}

// lose completes the tasks of a flight whose worker has ended. The first of them ran for ran microseconds.
func (p *Pool) lose(kind ring.Kind, w *worker, fl flight, exitCode int, ran int64) {
	if kind == ring.KindTimeout && p.counters != nil {
		p.counters.AddTimeouts(int64(fl.frame.Tasks()))
	}
	if kind == ring.KindLost {
		trace.Printf("%v was lost with worker %d", fl.frame, w.pid)
	}
	for i := fl.frame.First; i < fl.frame.End; i++ {
		one := fl.frame
		one.First, one.End = i, i+1
		p.complete(kind, one, fl.extent, string(w.last(fl, i-fl.frame.First, exitCode, ran)))
		ran = 0
	}
}

// last is the payload of KindLost and of similar kinds, from which Python makes error texts: how the worker ended, and
// what it was given. It is "pid exitcode number microseconds", a newline, and the payload of the flight, if that is
// still there. The number is that of a task in this payload: the flight's first task, plus behind.
func (w *worker) last(fl flight, behind uint32, exitCode int, ran int64) []byte {
	text := fmt.Appendf(nil, "%d %d %d %d\n", w.pid, exitCode, fl.frame.First+behind, ran)
	payload := fl.kept
	if payload == nil {
		payload = w.slot.Pushed(fl.position, fl.size)
	}
	if fl.extent != nil || len(text)+ring.ExtentSize+len(payload) > ring.MaxInline {
		return text
	}
	return append(text, payload...)
}

// ran is for how many microseconds a worker that has ended had run its task; 0 when that is not known.
func (w *worker) ran() int64 {
	_, _, started := w.slot.Current()
	now := sys.Monotonic()
	if started == 0 || started > uint64(now) {
		return 0
	}
	return (now - int64(started)) / 1000
}
