package ring

import (
	"fmt"
	"sync/atomic"

	"github.com/goproc/goproc/core/sys"
)

// Slot is the parent's end of one worker's two rings. Its methods are not safe for concurrent use: the pool's lock
// guards them. Positions count bytes since the slot was cleared and never wrap; a position modulo RingSize is a place
// in the ring.
type Slot struct {
	memory         *Memory
	mem            []byte
	tasks, results []byte
	taskTail       uint64 // the parent writes the tail, so it is not read back from shared memory
	taskHead       uint64 // the worker writes the head; this is its value when it was last read and checked
	resultHead     uint64
	resultSpace    uint64 // the space of the result that Result returned last

	// Copies of the shared words that only the parent writes: see Intact.
	taskShown, resultShown, takenShown uint64
	stopped                            uint32
}

// Clear makes the slot as new, for the next worker. No process may be using it.
func (s *Slot) Clear() {
	clear(s.mem[:PageSize])
	s.taskTail, s.taskHead, s.resultHead, s.resultSpace = 0, 0, 0, 0
	s.taskShown, s.resultShown, s.takenShown, s.stopped = 0, 0, 0, 0
}

// Close unmaps the slot.
func (s *Slot) Close() {
	s.memory.shm.Unmap(s.mem)
	s.mem, s.tasks, s.results = nil, nil, nil
}

// Push appends a task. It returns the task's position, or false when the ring is full. The worker does not see the
// task before [Slot.Publish].
func (s *Slot) Push(f Frame, payload []byte) (uint64, bool) {
	need := Space(len(payload))
	at := s.taskTail % RingSize
	pad := uint64(0)
	if at+need > RingSize { // frames are contiguous
		pad = RingSize - at
	}
	if s.taskTail+pad+need-s.taskHead > RingSize {
		if s.refreshTaskHead() != nil || s.taskTail+pad+need-s.taskHead > RingSize {
			return 0, false
		}
	}
	if pad > 0 {
		// A pad may be shorter than a header: only its first eight bytes are read.
		*word32(s.tasks, int(at)+offSize) = uint32(pad)
		*word16(s.tasks, int(at)+offKind) = uint16(KindPad)
		s.taskTail += pad
		at = 0
	}
	h := s.tasks[at : at+HeaderSize]
	*word32(h, offSize) = uint32(len(payload))
	*word16(h, offKind) = uint16(f.Kind)
	*word16(h, offFlags) = f.Flags
	*word64(h, offJob) = f.Job
	*word64(h, offIndex) = f.Index
	atomic.StoreUint32(word32(h, offClaim), claim(f.First, f.End))
	*word32(h, offBusy) = 0
	copy(s.tasks[at+HeaderSize:], payload)
	position := s.taskTail
	s.taskTail += need
	return position, true
}

// Publish shows the worker what was pushed, and wakes it if it sleeps.
//
// The worker writes that it sleeps, and then reads the tail. Publish writes the tail, and then reads whether the worker
// sleeps. So each must write before it reads, in the order of all processors; otherwise both could miss the other's
// word. Under the race detector a store does not guarantee that order, a swap does.
func (s *Slot) Publish() {
	s.taskShown = s.taskTail
	atomic.SwapUint64(word64(s.mem, OffTaskTail), s.taskTail)
	s.Wake()
}

// Wake wakes the worker if it sleeps.
func (s *Slot) Wake() {
	sleeping := word32(s.mem, OffSleeping)
	if atomic.LoadUint32(sleeping) != 0 && atomic.SwapUint32(sleeping, 0) != 0 {
		bell := word32(s.mem, OffBell)
		atomic.AddUint32(bell, 1)
		sys.FutexWake(bell)
	}
}

// Sleeping tells whether the worker sleeps until a task comes.
func (s *Slot) Sleeping() bool { return atomic.LoadUint32(word32(s.mem, OffSleeping)) == sleepTasks }

// Intact checks that the words that only the parent writes are as it wrote them, and that the word of the worker's
// sleep has a possible value.
func (s *Slot) Intact() error {
	if tail := atomic.LoadUint64(word64(s.mem, OffTaskTail)); tail != s.taskShown {
		return fmt.Errorf("%w: task tail %d was %d", ErrProtocol, tail, s.taskShown)
	}
	if head := atomic.LoadUint64(word64(s.mem, OffResultHead)); head != s.resultShown {
		return fmt.Errorf("%w: result head %d was %d", ErrProtocol, head, s.resultShown)
	}
	if taken := atomic.LoadUint64(word64(s.mem, OffPartsTaken)); taken != s.takenShown {
		return fmt.Errorf("%w: the number of taken parts %d was %d", ErrProtocol, taken, s.takenShown)
	}
	if stop := atomic.LoadUint32(word32(s.mem, OffStop)); stop != s.stopped {
		return fmt.Errorf("%w: the word to stop %d was %d", ErrProtocol, stop, s.stopped)
	}
	if sleeping := atomic.LoadUint32(word32(s.mem, OffSleeping)); sleeping > sleepTaken {
		return fmt.Errorf("%w: a sleep of kind %d", ErrProtocol, sleeping)
	}
	return nil
}

// Asleep tells whether the worker says that it sleeps, and if so, whether it sleeps until a task comes.
func (s *Slot) Asleep() (asleep, forTask bool) {
	sleeping := atomic.LoadUint32(word32(s.mem, OffSleeping))
	return sleeping != 0, sleeping == sleepTasks
}

// AwaitsTaken tells whether the worker says that it waits until the program takes parts.
func (s *Slot) AwaitsTaken() bool {
	return atomic.LoadUint32(word32(s.mem, OffSleeping)) == sleepTaken
}

// ShowTaken tells the worker how many of its parts the program has taken so far, and wakes it if it waits for that.
func (s *Slot) ShowTaken(parts uint64) {
	s.takenShown = parts
	atomic.SwapUint64(word64(s.mem, OffPartsTaken), parts) // not a store, as in Publish
	if s.AwaitsTaken() {
		s.Wake()
	}
}

// Rouse wakes the worker even if it does not say that it sleeps.
func (s *Slot) Rouse() {
	atomic.SwapUint32(word32(s.mem, OffSleeping), 0)
	bell := word32(s.mem, OffBell)
	atomic.AddUint32(bell, 1)
	sys.FutexWake(bell)
}

// Stop tells the worker to end when it has no task left.
func (s *Slot) Stop() {
	s.stopped = 1
	atomic.SwapUint32(word32(s.mem, OffStop), 1) // not a store, as in Publish
	s.Wake()
}

// TaskHead is the position up to which the worker has taken tasks.
func (s *Slot) TaskHead() (uint64, error) {
	err := s.refreshTaskHead()
	return s.taskHead, err
}

func (s *Slot) refreshTaskHead() error {
	head := atomic.LoadUint64(word64(s.mem, OffTaskHead))
	if head < s.taskHead || head > s.taskTail {
		return fmt.Errorf("%w: task head %d is outside %d..%d", ErrProtocol, head, s.taskHead, s.taskTail)
	}
	s.taskHead = head
	return nil
}

// Current is the task that the worker runs, and when it started (CLOCK_MONOTONIC, nanoseconds). If it runs none,
// started is 0.
func (s *Slot) Current() (job, index, started uint64) {
	started = atomic.LoadUint64(word64(s.mem, OffStarted))
	return atomic.LoadUint64(word64(s.mem, OffCurrentJob)), atomic.LoadUint64(word64(s.mem, OffCurrentIdx)), started
}

// Base is how many bytes of memory the worker had when it began its current task; 0 if it has not said so.
func (s *Slot) Base() uint64 { return atomic.LoadUint64(word64(s.mem, OffBase)) }

// Next is the first task of the frame at position that the worker has not begun; end, if it has begun all. The argument
// end is the end with which the frame was pushed, or the one that TakeBack returned last.
func (s *Slot) Next(position uint64, end uint32) (uint32, error) {
	if position < s.taskHead {
		return end, nil // the frame may have been overwritten
	}
	next, now := claimed(atomic.LoadUint32(word32(s.tasks, int(position%RingSize)+offClaim)))
	if now != end || next > end {
		return 0, fmt.Errorf("%w: tasks %d to %d are claimed, of %d", ErrProtocol, next, now, end)
	}
	return next, nil
}

// TakeBack takes tasks of the frame at position away from the worker: the last ones, at most most of them, and only
// tasks that it has not begun. It returns the first of these, which is the frame's end from now on, and a copy of the
// payload, which has size bytes. It returns false when the worker has begun all.
func (s *Slot) TakeBack(position uint64, size int, end uint32, most int) (first uint32, payload []byte, ok bool) {
	if s.refreshTaskHead() != nil || position < s.taskHead {
		return 0, nil, false
	}
	at := int(position % RingSize)
	word := word32(s.tasks, at+offClaim)
	for {
		before := atomic.LoadUint32(word)
		next, now := claimed(before)
		if now != end || next >= end {
			return 0, nil, false
		}
		first = max(next, end-min(end, uint32(most)))
		if atomic.CompareAndSwapUint32(word, before, claim(next, first)) {
			return first, append([]byte(nil), s.tasks[at+HeaderSize:at+HeaderSize+size]...), true
		}
	}
}

// Pushed returns a copy of the payload, size bytes, of the frame that was pushed at position; nil when another frame
// lies there by now. The worker may have overwritten the payload.
func (s *Slot) Pushed(position uint64, size int) []byte {
	if s.taskTail-position > RingSize {
		return nil
	}
	at := int(position%RingSize) + HeaderSize
	return append([]byte(nil), s.tasks[at:at+size]...)
}

// Result returns the oldest result. The payload lies in the ring: it is valid until [Slot.Release]. ok is false when
// there is none.
func (s *Slot) Result() (f Frame, payload []byte, ok bool, err error) {
	for {
		tail := atomic.LoadUint64(word64(s.mem, OffResultTail))
		if tail == s.resultHead {
			return Frame{}, nil, false, nil
		}
		if tail < s.resultHead || tail-s.resultHead > RingSize || tail%8 != 0 {
			return Frame{}, nil, false, fmt.Errorf("%w: result tail %d is beyond head %d", ErrProtocol, tail, s.resultHead)
		}
		at := s.resultHead % RingSize
		size := uint64(*word32(s.results, int(at)+offSize))
		kind := Kind(*word16(s.results, int(at)+offKind))
		if kind == KindPad {
			if at == 0 || size != RingSize-at || s.resultHead+size > tail { // so no pad follows another: this loop ends
				return Frame{}, nil, false, fmt.Errorf("%w: a pad of %d bytes at %d", ErrProtocol, size, at)
			}
			s.resultHead += size
			continue
		}
		if size > MaxInline || at+Space(int(size)) > RingSize || s.resultHead+Space(int(size)) > tail {
			return Frame{}, nil, false, fmt.Errorf("%w: a result of %d bytes at %d", ErrProtocol, size, at)
		}
		h := s.results[at : at+HeaderSize]
		f = Frame{
			Kind:  kind,
			Flags: *word16(h, offFlags),
			Job:   *word64(h, offJob),
			Index: *word64(h, offIndex),
			Busy:  *word32(h, offBusy),
			End:   *word32(h, offClaim),
		}
		if f.End < 1 || f.End > MaxBatch {
			return Frame{}, nil, false, fmt.Errorf("%w: a result of %d tasks", ErrProtocol, f.End)
		}
		if kind != KindResult && kind != KindFailure && kind != KindPart || f.Flags&^FlagExtent != 0 || f.Flags&FlagExtent != 0 && size != ExtentSize {
			return Frame{}, nil, false, fmt.Errorf("%w: a result of kind %d, flags %d, %d bytes", ErrProtocol, kind, f.Flags, size)
		}
		s.resultSpace = Space(int(size))
		return f, s.results[at+HeaderSize : at+HeaderSize+size], true, nil
	}
}

// Unread is how many bytes of results the worker has delivered that have not been released. If the worker writes an
// impossible tail, Unread is the size of a ring.
func (s *Slot) Unread() int {
	return int(min(atomic.LoadUint64(word64(s.mem, OffResultTail))-s.resultHead, RingSize))
}

// Release frees the result that [Slot.Result] returned last, and wakes the worker if it waits for room.
func (s *Slot) Release() {
	s.resultHead += s.resultSpace
	s.resultSpace = 0
	s.resultShown = s.resultHead
	atomic.SwapUint64(word64(s.mem, OffResultHead), s.resultHead) // not a store, as in Publish
	if atomic.LoadUint32(word32(s.mem, OffSleeping)) == sleepRoom {
		s.Wake()
	}
}
