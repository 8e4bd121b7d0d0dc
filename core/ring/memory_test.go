package ring_test

import (
	"sync"
	"testing"
	"time"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/ring/ringtest"
	"github.com/goproc/goproc/core/sys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// newCollector makes the thread that waits on the memory's doorbell.
func newCollector(t *testing.T, memory *ring.Memory) *ringtest.Collector {
	t.Helper()
	collector, err := ringtest.NewCollector(memory.FD().Int())
	require.NoError(t, err)
	t.Cleanup(collector.Close)
	return collector
}

func TestMemoryIsSparse(t *testing.T) {
	memory := newMemory(t)
	var stat unix.Stat_t
	require.NoError(t, unix.Fstat(memory.FD().Int(), &stat))
	assert.EqualValues(t, ring.MemorySize, stat.Size)
	assert.LessOrEqual(t, stat.Blocks*512, int64(ring.PageSize))
}

// A worker that made the memory smaller would make its parent crash.
func TestSizeOfMemoryIsFixed(t *testing.T) {
	memory := newMemory(t)
	fd := memory.FD().Int()
	require.ErrorIs(t, unix.Ftruncate(fd, ring.PageSize), unix.EPERM)
	require.ErrorIs(t, unix.Ftruncate(fd, ring.MemorySize+1), unix.EPERM)
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE)
	require.ErrorIs(t, err, unix.EPERM)
	require.NoError(t, unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, ring.PageSize))
}

func TestClosedMemoryLeavesNothing(t *testing.T) {
	memory, err := ring.NewMemory()
	require.NoError(t, err)
	slot, err := memory.Slot(0)
	require.NoError(t, err)
	slot.Close()
	memory.Close()
	assert.Empty(t, ringtest.Mapped())
	assert.Empty(t, sys.Open())
}

func TestSlotThatCannotBeMapped(t *testing.T) {
	memory, err := ring.NewMemory()
	require.NoError(t, err)
	memory.Close()
	_, err = memory.Slot(0)
	require.ErrorIs(t, err, unix.EBADF)
}

func TestRingWakesWhoWaits(t *testing.T) {
	memory := newMemory(t)
	collector := newCollector(t, memory)
	memory.Ring() // nobody waits: it is counted
	got := make(chan []ringtest.Completion, 1)
	looked := 0
	go func() {
		got <- collector.Collect(func(buf []byte) int {
			if looked++; looked == 1 {
				return 0
			}
			return int(ring.Space(0))
		}, 60*time.Second)
	}()
	require.Eventually(t, collector.Waiting, 20*time.Second, time.Microsecond)
	memory.Ring()
	assert.Len(t, <-got, 1)
	assert.Equal(t, 2, looked)
	assert.False(t, collector.Waiting())
}

// A ring that comes between the look and the sleep is not lost.
func TestRingIsNotLost(t *testing.T) {
	memory := newMemory(t)
	collector := newCollector(t, memory)
	for range 2000 {
		var rung sync.WaitGroup
		first := true
		collected := collector.Collect(func([]byte) int {
			if first {
				first = false
				rung.Go(memory.Ring)
				return 0
			}
			return int(ring.Space(0))
		}, 60*time.Second)
		rung.Wait()
		require.Len(t, collected, 1)
	}
}

func TestArm(t *testing.T) {
	memory := newMemory(t)
	_, worker := newSlot(t, memory, 0)
	waiting := func() uint32 { return uint32(worker.Control[ring.OffWaiting]) }
	memory.Arm(ring.WaitingFeed|ring.WaitingDrain, 0)
	assert.EqualValues(t, ring.WaitingFeed|ring.WaitingDrain, waiting())
	memory.Arm(ring.WaitingCollector, ring.WaitingFeed)
	assert.EqualValues(t, ring.WaitingCollector|ring.WaitingDrain, waiting())
	memory.Arm(ring.WaitingCollector, 0)
	assert.EqualValues(t, ring.WaitingCollector|ring.WaitingDrain, waiting())
	memory.Arm(0, ^uint32(0))
	assert.Zero(t, waiting())
	memory.SetSpin(0x01020304)
	assert.Equal(t, []byte{4, 3, 2, 1}, worker.Control[ring.OffSpin:ring.OffSpin+4])
}
