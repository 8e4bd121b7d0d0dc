package ring_test

import (
	"encoding/binary"
	"testing"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/ring/ringtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var le = binary.LittleEndian

const resultsStart = ring.PageSize + ring.RingSize

// header writes a frame's header at a place in the worker's result ring.
func header(worker *ringtest.Worker, at int, size uint32, kind ring.Kind, flags uint16) {
	h := worker.Memory[resultsStart+at:]
	le.PutUint32(h, size)
	le.PutUint16(h[4:], uint16(kind))
	le.PutUint16(h[6:], flags)
	le.PutUint32(h[24:], 1)
}

// resultTail sets the position up to which the worker says it has written results.
func resultTail(worker *ringtest.Worker, tail uint64) {
	le.PutUint64(worker.Memory[ring.OffResultTail:], tail)
}

func TestImpossibleTaskHead(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	for range 3 {
		_, ok := slot.Push(task(1, 1), make([]byte, 100))
		require.True(t, ok)
	}
	slot.Publish()
	_, err := worker.Recv()
	require.NoError(t, err)
	_, err = slot.TaskHead()
	require.NoError(t, err)
	good := ring.Space(100)
	for _, head := range []uint64{0, good - 8, 3*good + 8, 1 << 40, 1<<64 - 8} {
		le.PutUint64(worker.Memory[ring.OffTaskHead:], head)
		_, err := slot.TaskHead()
		require.ErrorIs(t, err, ring.ErrProtocol, "head %d", head)
		_, ok := takeBack(slot, 2*good, 100)
		assert.False(t, ok)
	}
	for { // fill the ring: Push reads the head only when the ring is full
		if _, ok := slot.Push(task(1, 1), make([]byte, 1000)); !ok {
			break
		}
	}
	le.PutUint64(worker.Memory[ring.OffTaskHead:], good)
	head, err := slot.TaskHead()
	require.NoError(t, err)
	assert.Equal(t, good, head, "what was impossible has not been kept")
}

func TestImpossibleResultTail(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	require.NoError(t, worker.TrySend(result(1, 1), nil))
	take(t, slot)
	for _, tail := range []uint64{0, 24, 1, 33, 32 + ring.RingSize + 8, 1 << 63, 1<<64 - 8} {
		resultTail(worker, tail)
		_, _, ok, err := slot.Result()
		require.ErrorIs(t, err, ring.ErrProtocol, "tail %d", tail)
		assert.False(t, ok)
	}
}

func TestImpossibleResults(t *testing.T) {
	for what, result := range map[string]struct {
		size  uint32
		kind  ring.Kind
		flags uint16
		tail  uint64
	}{
		"longer than a payload may be":       {ring.MaxInline + 1, ring.KindResult, 0, ring.RingSize},
		"as long as can be":                  {1<<32 - 1, ring.KindResult, 0, ring.RingSize},
		"longer than what was published":     {100, ring.KindResult, 0, 128},
		"shorter than a header":              {0, ring.KindResult, 0, 24},
		"of a kind for tasks":                {0, ring.KindTask, 0, 32},
		"of a kind that the engine makes":    {0, ring.KindLost, 0, 32},
		"of no kind":                         {0, 12345, 0, 32},
		"with unknown flags":                 {24, ring.KindResult, 2, 64},
		"an extent with a short description": {16, ring.KindResult, ring.FlagExtent, 64},
		"an extent with a long description":  {32, ring.KindFailure, ring.FlagExtent, 64},
		"a pad of nothing":                   {0, ring.KindPad, 0, 32},
		"a pad that ends before the ring":    {32, ring.KindPad, 0, 32},
		"a pad beyond what was published":    {ring.RingSize, ring.KindPad, 0, 32},
		// With such pads a worker could keep the parent for as long as it likes: none follows another.
		"a pad that is the ring":              {ring.RingSize, ring.KindPad, 0, ring.RingSize},
		"a pad that goes once round the ring": {2 * ring.RingSize, ring.KindPad, 0, ring.RingSize},
	} {
		t.Run(what, func(t *testing.T) {
			slot, worker := newSlot(t, newMemory(t), 0)
			header(worker, 0, result.size, result.kind, result.flags)
			resultTail(worker, result.tail)
			_, _, ok, err := slot.Result()
			require.ErrorIs(t, err, ring.ErrProtocol)
			assert.False(t, ok)
		})
	}
}

func TestResultOfAnImpossibleNumberOfTasks(t *testing.T) {
	for _, tasks := range []uint32{0, ring.MaxBatch + 1, 1<<32 - 1} {
		slot, worker := newSlot(t, newMemory(t), 0)
		header(worker, 0, 0, ring.KindResult, 0)
		le.PutUint32(worker.Memory[resultsStart+24:], tasks)
		resultTail(worker, 32)
		_, _, _, err := slot.Result()
		require.ErrorIs(t, err, ring.ErrProtocol, "%d", tasks)
	}
}

// Near the ring's end a frame may reach over it.
func TestResultAcrossTheEnd(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	payload := make([]byte, ring.RingSize/8-ring.HeaderSize)
	for i := range uint64(7) {
		require.NoError(t, worker.TrySend(result(1, i), payload))
		take(t, slot)
	}
	const at = 7 * ring.RingSize / 8
	for _, c := range []struct {
		size uint32
		kind ring.Kind
	}{
		{uint32(len(payload)) + 1, ring.KindResult},
		{ring.RingSize - at - 8, ring.KindPad},
		{ring.RingSize - at + 8, ring.KindPad},
	} {
		header(worker, at, c.size, c.kind, 0)
		resultTail(worker, at+ring.RingSize)
		_, _, _, err := slot.Result()
		require.ErrorIs(t, err, ring.ErrProtocol, "%+v", c)
	}
	header(worker, at, ring.RingSize-at, ring.KindPad, 0)
	header(worker, 0, 3, ring.KindResult, 0)
	resultTail(worker, ring.RingSize+40)
	_, got := take(t, slot)
	assert.Len(t, got, 3)
}
