// Package ring is the memory that a pool shares with its workers, and the parent's ends of the rings in it.
//
// One sparse memory file serves a pool. Its first page belongs to the pool as a whole; then comes one slot for each
// worker, with two rings: tasks (the parent writes, the worker reads) and results (the other way round). Each ring has
// one producer and one consumer, so nothing in it is ever locked, and a worker that dies at any instruction wedges
// nobody. Payloads too large for a ring lie in extents further up in the same file (see capi/native/payload/arena.h);
// the frame then holds only their place.
//
//	0          control page: waiting, doorbell, pump
//	4 KiB      slot 0: control page | task ring 64 KiB | result ring 64 KiB
//	136 KiB    slot 1: ...
//	1 TiB      extents
//
// capi/native/layout.h states the same numbers for C; a test in capi compares the two.
//
// What a worker writes is not trusted: every position and size is checked, and one that is impossible is an
// [ErrProtocol], which makes the worker a lost one.
package ring

import (
	"errors"
	"fmt"
	"math"
)

// ErrProtocol means that the other process wrote something impossible into the shared memory.
var ErrProtocol = errors.New("the worker broke the ring's protocol")

// The layout. All offsets are in bytes.
const (
	PageSize   = 4096
	RingSize   = 64 << 10 // of each ring; a power of two
	SlotSize   = PageSize + 2*RingSize
	SlotsStart = PageSize
	MemorySize = 1 << 62 // sparse

	MaxInline  = 16 << 10 // the largest payload in a ring; a larger one goes to an extent
	HeaderSize = 32       // of a frame
	ExtentSize = 24       // of an extent's description (offset, length, serial), the payload of a frame flagged so

	// In the pool's control page.
	OffWaiting  = 64 // uint32: Waiting* bits, set by who sleeps in the parent
	OffDoorbell = 68 // uint32: a futex; rung for the thread that waits for results
	OffSpin     = 72 // uint32: nanoseconds to spin before sleeping, 0 when the machine is oversubscribed
	OffPump     = 80 // uint32: a futex; rung for the pump
	OffWatch    = 76 // uint32: a futex; rung for the thread that looks after results that nobody collects

	// In a slot's control page: the parent's line, the worker's line, the line of the worker's sleep, its current task.
	OffTaskTail   = 0
	OffResultHead = 8
	OffStop       = 16
	OffTaskHead   = 64
	OffResultTail = 72
	OffSleeping   = 128 // uint32: the worker sleeps, or is about to: sleep*, 0 when it does not
	OffBell       = 132 // uint32: a futex; rung for the worker
	OffCurrentJob = 192
	OffCurrentIdx = 200
	OffStarted    = 208 // uint64: CLOCK_MONOTONIC nanoseconds, 0 when no task runs

	// In a frame's header.
	offSize  = 0  // uint32
	offKind  = 4  // uint16
	offFlags = 6  // uint16
	offJob   = 8  // uint64
	offIndex = 16 // uint64
	offClaim = 24 // uint32; of a result: how many tasks it answers
	offBusy  = 28 // uint32
)

// The bits of the word at OffWaiting.
const (
	WaitingCollector = 1 << iota // a thread sleeps on the doorbell until a result comes
	WaitingFeed                  // wake the pump when a worker runs dry: there is more for it to do
	WaitingDrain                 // wake the pump when a result ring is half full
	WaitingWatch                 // a thread sleeps until something has been delivered that nobody waits for
)

// What the worker sleeps for.
const (
	sleepTasks uint32 = 1 // a task
	sleepRoom  uint32 = 2 // room in its result ring
)

// Kind says what a frame is.
type Kind uint16

// The kinds of frames. Task is in task rings; Result and Failure are in result rings; the others are made by the
// engine.
const (
	KindPad       Kind = iota // fills a ring's end
	KindTask                  // a pickled call
	KindResult                // a pickled result
	KindFailure               // a pickled exception
	KindLost                  // the task's worker ended: payload "pid exitcode number microseconds\n", then the task's
	KindCancelled             // the task was withdrawn, or its pool terminated
	KindTimeout               // the task ran longer than it was allowed: payload as of KindLost
	KindExited                // not a task: a worker has ended; index is its slot, payload "pid exitcode served"
	KindRetried               // not a completion: the task is run again, since its worker ended; payload as of KindLost
)

// The flags of a frame.
const (
	FlagExtent uint16 = 1 // the payload is the description of an extent
	FlagKeep   uint16 = 2 // of a task: the worker copies what lies in the extent, and does not free it
)

// NoJob is no job's number. A worker fails it to say why it cannot begin, and the engine cancels it to give an extent
// back.
const NoJob uint64 = math.MaxUint64

// A task frame's payload is one call, or a batch of calls, of which each is a task. The claim word says which of them
// are still to be begun: those from the number in its lower half up to the one in its upper half, which is not among
// them. The worker raises the lower number when it begins a task, the parent lowers the upper one when it takes tasks
// back, both by compare-and-swap: whoever succeeds owns the task.
const claimShift = 16

// MaxBatch is how many tasks a frame has at most.
const MaxBatch = 1<<claimShift - 1

func claim(next, end uint32) uint32 { return next | end<<claimShift }

func claimed(word uint32) (next, end uint32) { return word & (1<<claimShift - 1), word >> claimShift }

// Frame is a frame's header.
type Frame struct {
	Kind  Kind
	Flags uint16
	Job   uint64 // which job: an apply, or a map as a whole
	Index uint64 // which task of it; of a batch: which one its first call is
	Busy  uint32 // of a result: microseconds the task ran, saturating

	// Which calls of the payload the frame asks for: from First up to End, which is not among them. Of a result: First
	// is 0, and End how many tasks, that of the frame's index and those that follow, it answers together.
	First, End uint32
}

// Tasks is how many tasks the frame asks for.
func (f Frame) Tasks() int { return int(f.End - f.First) }

// String names the frame's tasks, as traces do: "task 3.0" is the first one of job 3.
func (f Frame) String() string {
	first := f.Index + uint64(f.First)
	switch {
	case f.Job == NoJob:
		return "no task"
	case f.Tasks() > 1:
		return fmt.Sprintf("tasks %d.%d to %d.%d", f.Job, first, f.Job, first+uint64(f.Tasks())-1)
	default:
		return fmt.Sprintf("task %d.%d", f.Job, first)
	}
}

// Space is how many bytes of a ring a frame with a payload of size bytes takes.
func Space(size int) uint64 { return uint64(HeaderSize+size+7) &^ 7 }
