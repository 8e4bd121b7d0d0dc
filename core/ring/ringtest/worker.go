// Package ringtest implements in Go, for the tests of core/ring and core/pool, the two sides that C has in a pool's
// memory: the worker (capi/native/channel*.c), and the collector (capi/native/port_collect.c).
//
// It maps the memory a second time, as another process would. It does not use core/ring's offsets, but structures that
// were written after capi/native/layout.h, so that a mistake in these offsets is not repeated here.
package ringtest

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/sys"
	"golang.org/x/sys/unix"
)

// ErrKilled is what a worker's calls return once it has been killed.
var ErrKilled = errors.New("the worker has been killed")

// ErrFull means that the result ring has no room.
var ErrFull = errors.New("the result ring is full")

// The words of the protocol, as capi/native/layout.h has them.
const (
	claimShift = 16
	sleepTasks = 1
	sleepRoom  = 2
	sleepTaken = 3
)

// control is goproc_control.
type control struct {
	_        [64]byte
	waiting  atomic.Uint32
	doorbell atomic.Uint32
	spin     atomic.Uint32
	watch    atomic.Uint32
	pump     atomic.Uint32
}

// slot is goproc_slot.
type slot struct {
	taskTail, resultHead atomic.Uint64
	stop                 atomic.Uint32
	_                    [4]byte
	partsTaken           atomic.Uint64
	_                    [32]byte
	taskHead, resultTail atomic.Uint64
	_                    [48]byte
	sleeping, bell       atomic.Uint32
	_                    [56]byte
	job, index, started  atomic.Uint64
	base                 atomic.Uint64
}

// frame is goproc_frame.
type frame struct {
	size        uint32
	kind, flags uint16
	job, index  uint64
	claim       atomic.Uint32
	busy        uint32
}

const headerSize = int(unsafe.Sizeof(frame{}))

// Task is what a worker receives.
type Task struct {
	Job, Index uint64
	Flags      uint16
	Payload    []byte
}

// Worker is a worker's end of its slot. One goroutine may use it; Kill is for any.
type Worker struct {
	Control, Memory []byte // its mappings: the pool's page, and the slot as a whole

	control        *control
	slot           *slot
	tasks, results []byte
	head, tail     uint64 // of the tasks and the results
	parts          uint64 // how many have been sent

	mu     sync.Mutex // guards the mappings against a Kill that comes late
	closed bool
	killed atomic.Bool
}

// Open maps the slot of the given number. The descriptor stays the caller's.
func Open(memory, number int) (*Worker, error) {
	page, err := unix.Mmap(memory, 0, ring.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(memory, int64(ring.SlotsStart+number*ring.SlotSize), ring.SlotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		_ = unix.Munmap(page)
		return nil, err
	}
	return &Worker{
		Control: page,
		Memory:  mem,
		control: (*control)(unsafe.Pointer(&page[0])),
		slot:    (*slot)(unsafe.Pointer(&mem[0])),
		tasks:   mem[ring.PageSize : ring.PageSize+ring.RingSize],
		results: mem[ring.PageSize+ring.RingSize:],
	}, nil
}

// Close unmaps the slot.
func (w *Worker) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		_ = unix.Munmap(w.Control)
		_ = unix.Munmap(w.Memory)
	}
}

// Kill ends the worker: what it does now, and all that it does later, fails with ErrKilled.
func (w *Worker) Kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.killed.Store(true)
	if !w.closed {
		w.slot.bell.Add(1)
		wake(&w.slot.bell)
	}
}

// Killed tells whether the worker has been killed.
func (w *Worker) Killed() bool { return w.killed.Load() }

// Recv waits for the next task and takes it. It returns io.EOF when the pool has told the worker to end.
func (w *Worker) Recv() (Task, error) {
	for {
		if task, ok := w.Claim(); ok {
			w.Advance()
			return task, nil
		}
		if w.killed.Load() {
			return Task{}, ErrKilled
		}
		if w.slot.stop.Load() != 0 && w.slot.taskTail.Load() == w.head {
			return Task{}, io.EOF
		}
		w.poke(true, false)
		w.sleepUntil(sleepTasks, func() bool { return w.slot.taskTail.Load() != w.head || w.slot.stop.Load() != 0 })
	}
}

// Claim begins the next task, if there is one, but leaves its frame in the ring. A test that goes no further plays a
// worker that dies while it unpacks the task. Claim passes over pads, and over frames that have no task left. It panics
// if what is in the ring is impossible.
func (w *Worker) Claim() (Task, bool) {
	for !w.killed.Load() && w.slot.taskTail.Load() != w.head {
		at := int(w.head % ring.RingSize)
		f := (*frame)(unsafe.Pointer(&w.tasks[at]))
		switch {
		case w.slot.taskTail.Load()-w.head > ring.RingSize || f.kind == uint16(ring.KindPad) && f.size == 0:
			panic("nonsense in the task ring")
		case f.kind == uint16(ring.KindPad):
			w.head += uint64(f.size)
			w.slot.taskHead.Store(w.head)
		case f.left() == 0:
			w.Advance()
		default:
			word := f.claim.Load()
			if f.left() == 0 || !f.claim.CompareAndSwap(word, word+1) {
				continue
			}
			index := f.index + uint64(word&(1<<claimShift-1))
			w.slot.job.Store(f.job)
			w.slot.index.Store(index)
			w.slot.started.Store(now())
			payload := append([]byte(nil), w.tasks[at+headerSize:at+headerSize+int(f.size)]...)
			return Task{f.job, index, f.flags, payload}, true
		}
	}
	return Task{}, false
}

// More begins further tasks of the current frame, at most most of them, and returns how many.
func (w *Worker) More(most uint32) uint32 {
	f := (*frame)(unsafe.Pointer(&w.tasks[w.head%ring.RingSize]))
	for {
		word := f.claim.Load()
		count := min(most, f.left())
		if f.claim.CompareAndSwap(word, word+count) {
			return count
		}
	}
}

// left is how many tasks of the frame have not been begun.
func (f *frame) left() uint32 {
	word := f.claim.Load()
	return word>>claimShift - min(word>>claimShift, word&(1<<claimShift-1))
}

// Advance removes the frame at the head of the task ring, if all its tasks have been begun.
func (w *Worker) Advance() {
	f := (*frame)(unsafe.Pointer(&w.tasks[w.head%ring.RingSize]))
	if f.left() == 0 {
		w.head += ring.Space(int(f.size))
		w.slot.taskHead.Store(w.head)
	}
}

// Send delivers a result and waits while there is no room for it. If f.Busy is 0, the measured time is sent.
func (w *Worker) Send(f ring.Frame, payload []byte) error {
	for {
		head := w.slot.resultHead.Load()
		if err := w.TrySend(f, payload); err != ErrFull {
			return err
		}
		w.poke(true, true)
		w.sleepUntil(sleepRoom, func() bool { return w.slot.resultHead.Load() != head })
	}
}

// SendPart delivers a part of the task. It waits while the program has not taken enough of those before, and while there
// is no room for it.
func (w *Worker) SendPart(task Task, payload []byte) error {
	for taken := w.slot.partsTaken.Load(); w.parts-taken >= ring.PartsAhead; taken = w.slot.partsTaken.Load() {
		if w.killed.Load() {
			return ErrKilled
		}
		started, from := w.slot.started.Swap(0), now()
		w.poke(true, true)
		w.sleepUntil(sleepTaken, func() bool { return w.slot.partsTaken.Load() != taken })
		w.slot.started.Store(started + now() - from)
	}
	return w.Send(w.PartOf(task), payload)
}

// PartOf is the frame of the task's next part.
func (w *Worker) PartOf(task Task) ring.Frame {
	return ring.Frame{Kind: ring.KindPart, Job: task.Job, Index: task.Index, Busy: uint32(w.parts)}
}

// TrySend delivers a result or a part, or returns ErrFull.
func (w *Worker) TrySend(f ring.Frame, payload []byte) error {
	if w.killed.Load() {
		return ErrKilled
	}
	space := ring.Space(len(payload))
	at := w.tail % ring.RingSize
	pad := uint64(0)
	if at+space > ring.RingSize {
		pad = ring.RingSize - at
	}
	if w.tail+pad+space-w.slot.resultHead.Load() > ring.RingSize {
		return ErrFull
	}
	if pad > 0 {
		h := (*frame)(unsafe.Pointer(&w.results[at]))
		h.size, h.kind = uint32(pad), uint16(ring.KindPad)
		w.tail += pad
		at = 0
	}
	h := (*frame)(unsafe.Pointer(&w.results[at]))
	h.size, h.kind, h.flags, h.job, h.index, h.busy = uint32(len(payload)), uint16(f.Kind), f.Flags, f.Job, f.Index, f.Busy
	h.claim.Store(max(1, f.End))
	if f.Busy == 0 && f.Kind != ring.KindPart {
		h.busy = uint32(max(1, (now()-w.slot.started.Load())/1000))
	}
	copy(w.results[int(at)+headerSize:], payload)
	if f.Kind == ring.KindPart {
		w.parts++
	} else {
		w.slot.started.Store(0)
	}
	w.tail += space
	w.slot.resultTail.Store(w.tail)
	w.control.doorbell.Add(1)
	dry := w.slot.taskTail.Load() == w.head
	full := w.tail-w.slot.resultHead.Load() > ring.RingSize/2
	w.poke(dry, full)
	return nil
}

// SetBase says how many bytes of memory the worker had when it began its task.
func (w *Worker) SetBase(bytes uint64) { w.slot.base.Store(bytes) }

// Sleeping tells whether the worker sleeps, or is about to.
func (w *Worker) Sleeping() bool { return w.slot.sleeping.Load() != 0 }

// Bell is how often the worker has been woken.
func (w *Worker) Bell() uint32 { return w.slot.bell.Load() }

// Stopped tells whether the pool has told the worker to end.
func (w *Worker) Stopped() bool { return w.slot.stop.Load() != 0 }

// poke wakes whoever in the parent has asked for it. dry: the worker has nothing left to do; full: it may have to wait.
func (w *Worker) poke(dry, full bool) {
	waiting := w.control.waiting.Load()
	if waiting&ring.WaitingCollector != 0 {
		if w.control.waiting.And(^uint32(ring.WaitingCollector))&ring.WaitingCollector != 0 {
			w.control.doorbell.Add(1) // see ring.Memory.Ring
			wake(&w.control.doorbell)
		}
		return
	}
	asked := uint32(0)
	if dry {
		asked |= ring.WaitingFeed
	}
	if full {
		asked |= ring.WaitingDrain
	}
	if waiting&asked != 0 && w.control.waiting.And(^asked)&asked != 0 {
		w.control.pump.Add(1)
		sys.FutexWake((*uint32)(unsafe.Pointer(&w.control.pump)))
	}
}

// sleepUntil sleeps for the given reason until rung returns true. rung is called again whenever the parent rings.
func (w *Worker) sleepUntil(reason uint32, rung func() bool) {
	for {
		bell := w.slot.bell.Load()
		w.slot.sleeping.Swap(reason) // not a store: see ring.Slot.Publish
		if rung() || w.killed.Load() {
			break
		}
		wait(&w.slot.bell, bell, nil)
	}
	w.slot.sleeping.Store(0)
}

func now() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return uint64(t.Nano())
}

// wait sleeps while *word is seen, at most as long as the timeout says.
func wait(word *atomic.Uint32, seen uint32, timeout *time.Duration) {
	const futexWait = 0
	var t *unix.Timespec
	if timeout != nil {
		spec := unix.NsecToTimespec(int64(*timeout))
		t = &spec
	}
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWait, uintptr(seen), uintptr(unsafe.Pointer(t)), 0, 0)
}

func wake(word *atomic.Uint32) { sys.FutexWake((*uint32)(unsafe.Pointer(word))) }
