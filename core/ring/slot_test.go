package ring_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/ring/ringtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// payloads are of every size that the rings treat differently.
func payloads() [][]byte {
	var all [][]byte
	for _, size := range []int{0, 1, 7, 8, 9, 100, ring.ExtentSize, ring.MaxInline - 1, ring.MaxInline} {
		all = append(all, bytes.Repeat([]byte{byte(size + 1)}, size))
	}
	return all
}

func TestTaskAndResult(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	for i, payload := range payloads() {
		f := task(1<<63+1, uint64(i))
		f.Flags = ring.FlagExtent
		_, ok := slot.Push(f, payload)
		require.True(t, ok)
		_, ok = worker.Claim()
		require.False(t, ok, "not before it is published")
		slot.Publish()
		got, err := worker.Recv()
		require.NoError(t, err)
		assert.Equal(t, ringtest.Task{Job: f.Job, Index: f.Index, Flags: f.Flags, Payload: append([]byte(nil), payload...)}, got)
		head, err := slot.TaskHead()
		require.NoError(t, err)
		job, index, started := slot.Current()
		assert.Equal(t, []uint64{f.Job, f.Index}, []uint64{job, index})
		assert.NotZero(t, started)

		_, _, ok, err = slot.Result()
		require.NoError(t, err)
		require.False(t, ok)
		require.NoError(t, worker.TrySend(result(f.Job, f.Index), payload))
		back, bytes := take(t, slot)
		assert.Equal(t, result(f.Job, f.Index), back)
		assert.Equal(t, append([]byte{}, payload...), bytes)
		_, _, started = slot.Current()
		assert.Zero(t, started)
		assert.NotZero(t, head)
	}
}

func TestFailureWithExtent(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	f := ring.Frame{Kind: ring.KindFailure, Flags: ring.FlagExtent, Job: 1, Index: 2, Busy: 3, End: 4}
	require.NoError(t, worker.TrySend(f, make([]byte, ring.ExtentSize)))
	got, payload := take(t, slot)
	assert.Equal(t, f, got)
	assert.Len(t, payload, ring.ExtentSize)
}

func TestResultStaysUntilItIsReleased(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	slot.Release() // of nothing
	require.NoError(t, worker.TrySend(result(1, 1), []byte("first")))
	require.NoError(t, worker.TrySend(result(1, 2), []byte("second")))
	for range 3 {
		f, payload, ok, err := slot.Result()
		require.NoError(t, err)
		require.True(t, ok)
		assert.EqualValues(t, 1, f.Index)
		assert.Equal(t, "first", string(payload))
	}
	slot.Release()
	slot.Release()
	_, payload := take(t, slot)
	assert.Equal(t, "second", string(payload))
}

// Frames of random sizes, so that the rings wrap at every distance from their ends, in both directions.
func TestRingsWrapAround(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 3)
	random := rand.New(rand.NewPCG(1, 2))
	var waiting [][]byte // pushed, not received
	sent := uint64(0)
	for written := 0; written < 40*ring.RingSize; {
		for range 1 + random.IntN(8) {
			payload := bytes.Repeat([]byte{byte(random.Uint32())}, random.IntN(1<<random.IntN(15)))
			if _, ok := slot.Push(task(1, sent), payload); !ok {
				break
			}
			slot.Publish()
			waiting = append(waiting, payload)
			written += len(payload)
			sent++
		}
		for range 1 + random.IntN(8) {
			if len(waiting) == 0 {
				break
			}
			got, ok := worker.Claim()
			require.True(t, ok)
			require.Equal(t, sent-uint64(len(waiting)), got.Index)
			require.True(t, bytes.Equal(waiting[0], got.Payload))
			worker.Advance()
			require.NoError(t, worker.TrySend(result(1, got.Index), got.Payload))
			f, payload := take(t, slot)
			require.Equal(t, got.Index, f.Index)
			require.True(t, bytes.Equal(waiting[0], payload))
			waiting = waiting[1:]
		}
	}
}

func TestFullRings(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	payload := make([]byte, 1000)
	fits := ring.RingSize / int(ring.Space(len(payload)))
	for i := range fits {
		_, ok := slot.Push(task(1, uint64(i)), payload)
		require.True(t, ok)
	}
	_, ok := slot.Push(task(1, 0), payload)
	require.False(t, ok)
	slot.Publish()
	for i := range fits {
		got, err := worker.Recv()
		require.NoError(t, err)
		require.EqualValues(t, i, got.Index)
		require.NoError(t, worker.TrySend(result(1, got.Index), payload))
		_, ok := slot.Push(task(1, uint64(fits+i)), payload)
		require.True(t, ok, "room is found as soon as there is some")
	}
	require.Equal(t, ringtest.ErrFull, worker.TrySend(result(1, 0), payload))
	for i := range fits {
		f, _ := take(t, slot)
		require.EqualValues(t, i, f.Index)
	}
	_, _, ok, err := slot.Result()
	require.NoError(t, err)
	require.False(t, ok)
}

// A frame may fill a ring to its very end: then there is no pad.
func TestFrameEndsWithTheRing(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	payload := make([]byte, ring.RingSize/8-ring.HeaderSize)
	for i := range uint64(20) {
		position, ok := slot.Push(task(1, i), payload)
		require.True(t, ok)
		require.Equal(t, i*ring.RingSize/8, position)
		slot.Publish()
		_, err := worker.Recv()
		require.NoError(t, err)
		require.NoError(t, worker.TrySend(result(1, i), payload))
		take(t, slot)
	}
}

// A pad may be too short for a header.
func TestShortestPad(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	rest := ring.RingSize
	for i := uint64(0); rest > 0; i++ {
		size := min(ring.MaxInline, rest-8-ring.HeaderSize)
		if size < 0 {
			size = 100 // does not fit into the eight bytes that are left
			rest = 0
		}
		rest -= int(ring.Space(size))
		position, ok := slot.Push(task(1, i), make([]byte, size))
		require.True(t, ok)
		if rest < 0 {
			require.EqualValues(t, ring.RingSize, position)
		}
		slot.Publish()
		got, err := worker.Recv()
		require.NoError(t, err)
		require.Len(t, got.Payload, size)
		require.NoError(t, worker.TrySend(result(1, i), got.Payload))
		_, payload := take(t, slot)
		require.Len(t, payload, size)
	}
}

// takeBack takes back a task that is no batch.
func takeBack(slot *ring.Slot, position uint64, size int) ([]byte, bool) {
	_, payload, ok := slot.TakeBack(position, size, 1, 1)
	return payload, ok
}

// next is the task that the worker begins next, of a frame that is no batch.
func next(t *testing.T, slot *ring.Slot, position uint64) uint32 {
	t.Helper()
	n, err := slot.Next(position, 1)
	require.NoError(t, err)
	return n
}

func TestTakeBack(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	var positions []uint64
	for i := range uint64(4) {
		position, ok := slot.Push(task(1, i), fmt.Appendf(nil, "task %d", i))
		require.True(t, ok)
		positions = append(positions, position)
	}
	slot.Publish()
	_, ok := worker.Claim()
	require.True(t, ok)
	assert.EqualValues(t, 1, next(t, slot, positions[0]), "though it is still in the ring")
	assert.Zero(t, next(t, slot, positions[1]))
	_, ok = takeBack(slot, positions[0], 6)
	assert.False(t, ok, "it has been claimed")
	payload, ok := takeBack(slot, positions[2], 6)
	require.True(t, ok)
	assert.Equal(t, "task 2", string(payload))
	_, ok = takeBack(slot, positions[2], 6)
	assert.False(t, ok, "it has been taken back already")

	worker.Advance()
	_, ok = takeBack(slot, positions[0], 6)
	assert.False(t, ok, "it has left the ring")
	assert.EqualValues(t, 1, next(t, slot, positions[0]))
	for _, index := range []uint64{1, 3} {
		got, err := worker.Recv()
		require.NoError(t, err)
		assert.Equal(t, index, got.Index)
	}
	_, ok = worker.Claim()
	assert.False(t, ok)
	head, err := slot.TaskHead()
	require.NoError(t, err)
	assert.Equal(t, positions[3]+ring.Space(6), head, "the worker has passed over what was taken back")
}

// The tasks of a batch are begun from its front and taken back from its end.
func TestBatch(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	f := task(1, 100)
	f.First, f.End = 3, 13
	position, ok := slot.Push(f, []byte("ten calls"))
	require.True(t, ok)
	slot.Publish()
	begin := func(index uint64) {
		t.Helper()
		got, ok := worker.Claim()
		require.True(t, ok)
		assert.Equal(t, ringtest.Task{Job: 1, Index: index, Payload: []byte("ten calls")}, got)
		worker.Advance()
	}
	begin(103)
	begin(104)
	n, err := slot.Next(position, 13)
	require.NoError(t, err)
	assert.EqualValues(t, 5, n)
	first, payload, ok := slot.TakeBack(position, 9, 13, 3)
	require.True(t, ok)
	assert.EqualValues(t, 10, first)
	assert.Equal(t, "ten calls", string(payload))
	_, _, ok = slot.TakeBack(position, 9, 13, 3)
	assert.False(t, ok, "it ends earlier by now")
	begin(105)
	first, _, ok = slot.TakeBack(position, 9, 10, ring.MaxBatch)
	require.True(t, ok)
	assert.EqualValues(t, 6, first)
	_, _, ok = slot.TakeBack(position, 9, 6, 1)
	assert.False(t, ok, "nothing is left")
	_, ok = worker.Claim()
	assert.False(t, ok)
	n, err = slot.Next(position, 6)
	require.NoError(t, err)
	assert.EqualValues(t, 6, n)
	head, err := slot.TaskHead()
	require.NoError(t, err)
	assert.Equal(t, ring.Space(9), head)
	n, err = slot.Next(position, 6)
	require.NoError(t, err)
	assert.EqualValues(t, 6, n, "all have been begun, whatever is in the ring now")
}

func TestImpossibleClaims(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	f := task(1, 1)
	f.End = 4
	position, ok := slot.Push(f, nil)
	require.True(t, ok)
	for _, word := range []uint32{5<<16 | 1, 3<<16 | 1, 4<<16 | 5, 1<<32 - 1} {
		le.PutUint32(worker.Memory[ring.PageSize+24:], word)
		_, err := slot.Next(position, 4)
		require.ErrorIs(t, err, ring.ErrProtocol, "%x", word)
		_, _, ok := slot.TakeBack(position, 0, 4, 4)
		assert.False(t, ok, "%x", word)
	}
}

func TestStopComesAfterTheTasks(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	_, ok := slot.Push(task(1, 1), nil)
	require.True(t, ok)
	slot.Publish()
	slot.Stop()
	assert.True(t, worker.Stopped())
	_, err := worker.Recv()
	require.NoError(t, err)
	_, err = worker.Recv()
	require.Error(t, err)
}

func TestClearedSlotServesTheNextWorker(t *testing.T) {
	memory := newMemory(t)
	slot, worker := newSlot(t, memory, 1)
	for i := range uint64(3) {
		_, ok := slot.Push(task(1, i), []byte("for the first worker"))
		require.True(t, ok)
	}
	slot.Publish()
	slot.Stop()
	_, err := worker.Recv()
	require.NoError(t, err)
	_, ok := worker.Claim()
	require.True(t, ok)
	require.NoError(t, worker.TrySend(result(1, 0), []byte("of the first worker")))

	slot.Clear()
	next, err := ringtest.Open(memory.FD().Int(), 1)
	require.NoError(t, err)
	defer next.Close()
	assert.False(t, next.Stopped())
	_, ok = next.Claim()
	assert.False(t, ok)
	_, _, ok, err = slot.Result()
	require.NoError(t, err)
	assert.False(t, ok)
	_, _, started := slot.Current()
	assert.Zero(t, started)
	position, ok := slot.Push(task(2, 0), []byte("for the second"))
	require.True(t, ok)
	assert.Zero(t, position)
	slot.Publish()
	got, err := next.Recv()
	require.NoError(t, err)
	assert.Equal(t, "for the second", string(got.Payload))
}

func TestSlotsDoNotOverlap(t *testing.T) {
	memory := newMemory(t)
	var slots []*ring.Slot
	var workers []*ringtest.Worker
	for number := range 3 {
		slot, worker := newSlot(t, memory, number)
		slots, workers = append(slots, slot), append(workers, worker)
	}
	for number, slot := range slots {
		for range 3 { // until the ring is nearly full
			_, ok := slot.Push(task(uint64(number), 0), bytes.Repeat([]byte{byte(number)}, ring.MaxInline))
			require.True(t, ok)
		}
		slot.Publish()
	}
	for number, worker := range workers {
		for range 3 {
			got, err := worker.Recv()
			require.NoError(t, err)
			assert.EqualValues(t, number, got.Job)
			assert.Equal(t, bytes.Repeat([]byte{byte(number)}, ring.MaxInline), got.Payload)
			require.NoError(t, worker.TrySend(result(got.Job, 0), got.Payload))
		}
	}
	for number, slot := range slots {
		for range 3 {
			f, payload := take(t, slot)
			assert.EqualValues(t, number, f.Job)
			assert.Equal(t, bytes.Repeat([]byte{byte(number)}, ring.MaxInline), payload)
		}
	}
}
