package ring_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/goproc/goproc/core/leakcheck"
	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/ring/ringtest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	code := leakcheck.Main(m)
	if mapped := ringtest.Mapped(); len(mapped) > 0 {
		fmt.Fprintln(os.Stderr, "left mapped by the tests:", mapped)
		code = 1
	}
	os.Exit(code)
}

// newMemory makes a memory that is closed with the test.
func newMemory(t testing.TB) *ring.Memory {
	t.Helper()
	memory, err := ring.NewMemory()
	require.NoError(t, err)
	t.Cleanup(memory.Close)
	return memory
}

// newSlot makes the slot of the given number and its worker.
func newSlot(t testing.TB, memory *ring.Memory, number int) (*ring.Slot, *ringtest.Worker) {
	t.Helper()
	slot, err := memory.Slot(number)
	require.NoError(t, err)
	t.Cleanup(slot.Close)
	worker, err := ringtest.Open(memory.FD().Int(), number)
	require.NoError(t, err)
	t.Cleanup(worker.Close)
	return slot, worker
}

// task is the header of a task.
func task(job, index uint64) ring.Frame {
	return ring.Frame{Kind: ring.KindTask, Job: job, Index: index, End: 1}
}

// result is the header of a result.
func result(job, index uint64) ring.Frame {
	return ring.Frame{Kind: ring.KindResult, Job: job, Index: index, Busy: 7, End: 1}
}

// take takes the next result, which must be there.
func take(t testing.TB, slot *ring.Slot) (ring.Frame, []byte) {
	t.Helper()
	f, payload, ok, err := slot.Result()
	require.NoError(t, err)
	require.True(t, ok)
	payload = append([]byte{}, payload...)
	slot.Release()
	return f, payload
}
