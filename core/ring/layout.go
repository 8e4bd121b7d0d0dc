// Package ring is the memory that a pool shares with its workers, and the parent's ends of the rings in it.
//
// A pool has one sparse memory file. Its first page belongs to the pool as a whole; then comes one slot for each
// worker, with two rings: one for tasks (the parent writes, the worker reads), one for results (the worker writes, the
// parent reads). Each ring has one producer and one consumer, so it needs no lock, and a worker that is killed at any
// instruction blocks no other process. A payload that is too large for a ring lies in an extent further up in the same
// file (see capi/native/payload/arena.h); the frame then holds only the description of the extent.
//
//	0          control page: waiting, doorbell, pump
//	4 KiB      slot 0: control page | task ring 64 KiB | result ring 64 KiB
//	136 KiB    slot 1: ...
//	1 TiB      extents
//
// capi/native/layout.h states the same numbers for C; a test in capi compares the two.
//
// What a worker writes is not trusted: every position and size is checked. An impossible one is an [ErrProtocol], and
// the worker counts as lost.
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
	ExtentSize = 24       // of an extent's description (offset, length, serial): the payload of a frame with FlagExtent

	// In the pool's control page.
	OffWaiting  = 64 // uint32: Waiting* bits: who in the parent wants to be woken, and when
	OffDoorbell = 68 // uint32: a futex; rung for the collector
	OffSpin     = 72 // uint32: nanoseconds to spin before sleeping, 0 on a machine with one processor
	OffPump     = 80 // uint32: a futex; rung for the pump
	OffWatch    = 76 // uint32: a futex; rung for the pool's own thread while it watches

	// In a slot's control page. Each group is in a cache line of its own: the words that the parent writes, those that
	// the worker writes, those of the worker's sleep, and its current task.
	OffTaskTail   = 0
	OffResultHead = 8
	OffStop       = 16
	OffPartsTaken = 24 // uint64: how many of the worker's parts the program has taken, or will not take
	OffTaskHead   = 64
	OffResultTail = 72
	OffSleeping   = 128 // uint32: what the worker sleeps for, or is about to (sleep*); 0 when it does not sleep
	OffBell       = 132 // uint32: a futex; rung for the worker
	OffCurrentJob = 192
	OffCurrentIdx = 200
	OffStarted    = 208 // uint64: CLOCK_MONOTONIC nanoseconds, 0 when no task runs
	OffBase       = 216 // uint64: how many bytes of memory the worker had then, 0 when it has not said so

	// In a frame's header.
	offSize  = 0  // uint32
	offKind  = 4  // uint16
	offFlags = 6  // uint16
	offJob   = 8  // uint64
	offIndex = 16 // uint64
	offClaim = 24 // uint32; of a result: how many tasks it answers
	offBusy  = 28 // uint32; of a part: its number
)

// The bits of the word at OffWaiting.
const (
	WaitingCollector = 1 << iota // the collector sleeps on the doorbell until a result comes
	WaitingFeed                  // wake the pump when a worker has no task left: there is more for it to do
	WaitingDrain                 // wake the pump when a result ring is half full
	WaitingWatch                 // the pool's own thread sleeps until a result comes while no collector sleeps
)

// What the worker sleeps for.
const (
	sleepTasks uint32 = 1 // a task
	sleepRoom  uint32 = 2 // room in its result ring
	sleepTaken uint32 = 3 // that the program takes parts of its task
)

// Kind says what a frame is.
type Kind uint16

// The kinds of frames. KindTask is in task rings; KindResult, KindFailure and KindPart are in result rings; KindPad is in
// both. The engine makes the others, which lie in no ring: they are only collected.
const (
	KindPad       Kind = iota // fills the rest of a ring before it begins anew
	KindTask                  // a pickled task, or a batch
	KindResult                // a pickled result
	KindFailure               // a pickled exception
	KindLost                  // the worker ended: payload "pid exitcode number microseconds\n", then the task's
	KindCancelled             // the task was withdrawn, or its pool terminated
	KindTimeout               // the task ran longer than it was allowed: payload as of KindLost
	KindExited                // about no task: a worker has ended; index is its slot, payload "pid exitcode served"
	KindRetried               // the worker ended, and the task is run again: payload as of KindLost
	KindMemory                // the task took more memory than it was allowed: payload as of KindLost
	KindPart                  // a pickled value that a task has yielded; the task goes on
)

// PartsAhead is how many parts a worker may be ahead of the program. When the program has not taken that many of its
// parts, the worker waits.
const PartsAhead = 128

// The flags of a frame.
const (
	FlagExtent uint16 = 1 // the payload is the description of an extent
	FlagKeep   uint16 = 2 // of a task: the worker copies what lies in the extent, and does not free it
)

// NoJob is a number that no job has. A worker that cannot begin sends a failure with it, which says why. The engine
// makes a KindCancelled with it when only an extent is to be given back.
const NoJob uint64 = math.MaxUint64

// A task frame's payload is one task or a batch. The tasks of a batch are numbered from 0. The claim word has two
// numbers. Its lower half is the first task that has not begun. Its upper half is the end: one more than the last task.
// When the worker begins a task, it raises the lower number. When the parent takes tasks back, it lowers the upper
// number. Both do so by compare-and-swap: whoever succeeds has the task.
const claimShift = 16

// MaxBatch is how many tasks a frame has at most.
const MaxBatch = 1<<claimShift - 1

func claim(next, end uint32) uint32 { return next | end<<claimShift }

func claimed(word uint32) (next, end uint32) { return word & (1<<claimShift - 1), word >> claimShift }

// Frame is a frame's header.
type Frame struct {
	Kind  Kind
	Flags uint16
	Job   uint64 // the number of the job: an apply, or a map as a whole
	Index uint64 // the number of the task in the job; of a batch, that of its first task
	Busy  uint32 // of a result: for how many microseconds the task ran, or the largest number; of a part: its number

	// The tasks of the batch that the frame is about: from First up to, but not including, End. Of a result, First is
	// 0, and End is how many tasks it answers together: the task of the frame's index, and those that follow.
	First, End uint32
}

// Tasks is how many tasks the frame is about.
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
