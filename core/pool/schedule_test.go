package pool

import (
	"bytes"
	"testing"
	"time"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/ring/ringtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWindow(t *testing.T) {
	p := &Pool{}
	for busy, want := range map[float64]int{0: 1, 1: 64, 0.001: 64, 10: 20, 100: 2, 199: 1, 1e6: 1, 4e9: 1} {
		p.busy = busy
		assert.Equal(t, want, p.window(), "tasks of %v us", busy)
	}
}

func TestWindowFollowsTheTasks(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	for i, busy := range []uint32{10, 10, 2000, 1<<32 - 1} {
		submit(t, p, uint64(i))
		task := h.recv(t)
		result := resultOf(task)
		result.Busy = busy
		require.NoError(t, h.TrySend(result, nil))
		collect(p)
		p.mu.Lock()
		assert.Equal(t, []int{20, 20, 1, 1}[i], p.window())
		p.mu.Unlock()
	}
}

func TestTasksAreSharedOut(t *testing.T) {
	p, _ := newPool(t)
	hands := []*hand{hire(t, p, 0), hire(t, p, 0), hire(t, p, 0)}
	p.believe(1)
	for i := range uint64(9) {
		submit(t, p, i)
	}
	for _, h := range hands {
		for range 3 {
			h.recv(t)
		}
	}
}

// What waits behind a slow task goes to a worker that has nothing to do, one that comes later too.
func TestTasksBehindASlowOneRunElsewhere(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	slow := hire(t, p, 0)
	for i := range uint64(6) {
		submit(t, p, i)
	}
	long := slow.recv(t)
	other := hire(t, p, 0)
	seen := map[uint64]bool{}
	for range 5 {
		task := other.recv(t)
		assert.False(t, seen[task.Index])
		seen[task.Index] = true
		other.send(t, task, nil)
		assert.Len(t, collect(p), 1)
	}
	assert.Len(t, seen, 5)
	_, ok := slow.Claim()
	assert.False(t, ok, "all others were taken back")
	slow.send(t, long, nil)
	assert.Equal(t, []string{"result 1.0 "}, collect(p))
	assertEmpty(t, p)
}

// A task that cannot be taken back is left where it is.
func TestClaimedTasksStay(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	h := hire(t, p, 0)
	submit(t, p, 1, 2)
	first := h.recv(t)
	second, ok := h.Claim()
	require.True(t, ok)
	other := hire(t, p, 0)
	_, ok = other.Claim()
	assert.False(t, ok)
	h.Advance()
	h.send(t, first, nil)
	h.send(t, second, nil)
	assert.Equal(t, []string{"result 1.1 ", "result 1.2 "}, collect(p))
}

func TestLargeTasksBehindASlowOne(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	slow, other := hire(t, p, 0), hire(t, p, 0)
	large := make([]byte, ring.MaxInline)
	for i := range uint64(2) {
		require.NoError(t, p.Submit(ring.Frame{Job: 1, Index: i}, large))
	}
	slow.recv(t)
	for i := uint64(2); i < 20; i++ {
		require.NoError(t, p.Submit(ring.Frame{Job: 1, Index: i}, large))
	}
	done := map[uint64]bool{}
	for len(done) < 19 {
		task := other.recv(t)
		assert.False(t, done[task.Index])
		done[task.Index] = true
		other.send(t, task, nil)
		collect(p)
	}
}

// The idle worker's ring may be full of frames that it has not passed over yet.
func TestTakenBackTaskIsQueuedWhenThereIsNoRoom(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	slow := hire(t, p, 0)
	submit(t, p, 1, 2, 3)
	slow.recv(t)
	number, err := p.Slot()
	require.NoError(t, err)
	slot := p.slots[number].slot
	for {
		position, ok := slot.Push(ring.Frame{Kind: ring.KindTask}, make([]byte, 32))
		if !ok {
			break
		}
		_, ok = slot.TakeBack(position, 0)
		require.True(t, ok)
	}
	slot.Publish()
	full, err := ringtest.Open(p.MemoryFD(), -1, number)
	require.NoError(t, err)
	defer full.Close()
	require.NoError(t, p.Add(number, 1, 0, func() {}))
	assert.Equal(t, 1, p.queue.len())
	assert.Equal(t, 3, p.Pending())
	_, ok := full.Claim()
	assert.False(t, ok)
	collect(p)
	task, ok := full.Claim()
	require.True(t, ok)
	assert.EqualValues(t, 3, task.Index)
}

// The pump hands out queued tasks while no thread is in a call of the pool.
func TestPumpFeeds(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	for i := range uint64(10) {
		submit(t, p, i)
	}
	for i := range uint64(10) {
		task := receive(t, h.awaits(t), "the next task")
		assert.Equal(t, i, task.Index)
		h.send(t, task, nil)
	}
	assert.Len(t, collect(p), 10)
	assertEmpty(t, p)
}

// The pump empties result rings while nobody collects: workers that cannot deliver would never end.
func TestPumpDrains(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	h := hire(t, p, 0)
	const tasks = 40
	for i := range uint64(tasks) {
		submit(t, p, i)
	}
	done := make(chan error, 1)
	large := bytes.Repeat([]byte{1}, ring.MaxInline)
	go func() {
		for range tasks {
			task, err := h.Recv()
			if err == nil {
				err = h.Send(resultOf(task), large)
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	t.Cleanup(h.Kill)
	require.NoError(t, receive(t, done, "the last result"))
	assert.Len(t, collect(p), tasks)
	assertEmpty(t, p)
}

// A worker whose result has not been collected yet has nothing to do all the same.
func TestIdleWorkerIsGivenATaskThoughNobodyCollects(t *testing.T) {
	p, _ := newPool(t)
	slow, idle := hire(t, p, 0), hire(t, p, 0)
	submit(t, p, 1, 2)
	slow.recv(t)
	idle.send(t, idle.recv(t), nil)
	tasks := idle.awaits(t)
	submit(t, p, 3)
	assert.EqualValues(t, 3, receive(t, tasks, "the third task").Index)
}

// In the tests below, another worker has just called the pump, so that the worker's own calls are not heard; it calls
// between the pump's look at its ring and the moment when it is asked to call again.

func TestWorkerRunsDryBeforeItIsHeard(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	slow, other := hire(t, p, 0), hire(t, p, 0)
	submit(t, p, 1, 2, 3)
	slow.recv(t)
	p.mu.Lock()
	p.memory.Arm(0, ring.WaitingFeed|ring.WaitingDrain)
	p.harvest(p.keep)
	other.send(t, other.recv(t), nil)
	tasks := other.awaits(t)
	p.step()
	p.mu.Unlock()
	assert.EqualValues(t, 3, receive(t, tasks, "the task behind the slow one").Index)
}

func TestResultsFillUpBeforeTheWorkerIsHeard(t *testing.T) {
	for what, sizes := range map[string]struct{ before, heard []int }{
		"more than half of the ring": {nil, []int{16000, 16000, 16000, 16000, 16000}},
		// The pad before the last result would be as large as the result.
		"less than half of the ring": {[]int{16368}, []int{16336, 16336, 16384}},
	} {
		t.Run(what, func(t *testing.T) {
			p, _ := newPool(t)
			p.believe(1)
			h := hire(t, p, 0)
			for _, size := range sizes.before {
				submit(t, p, 0)
				h.send(t, h.recv(t), make([]byte, size))
				collect(p)
			}
			for i := range sizes.heard {
				submit(t, p, uint64(i))
			}
			p.mu.Lock()
			p.memory.Arm(0, ring.WaitingFeed|ring.WaitingDrain)
			done := make(chan error, 1)
			go func() {
				var err error
				for _, size := range sizes.heard {
					if task, ok := h.Claim(); ok && err == nil {
						h.Advance()
						err = h.Send(resultOf(task), make([]byte, size))
					}
				}
				done <- err
			}()
			t.Cleanup(h.Kill)
			require.Eventually(t, h.Sleeping, patience, time.Microsecond)
			p.step()
			p.mu.Unlock()
			require.NoError(t, receive(t, done, "room for the results"))
		})
	}
}

func TestLastResultBeforeTheWorkerIsHeard(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	submit(t, p, 1)
	p.mu.Lock()
	p.state = closed
	p.memory.Arm(0, ring.WaitingFeed|ring.WaitingDrain)
	h.send(t, h.recv(t), nil)
	p.step()
	p.mu.Unlock()
	assert.True(t, h.Stopped())
}

// A worker's ring may be full of frames that were taken back and that it has not passed over yet, when it has nothing
// else.
func TestWorkerPassesOverWhatWasTakenBack(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	slow := hire(t, p, 0)
	large := make([]byte, ring.MaxInline)
	for i := range uint64(3) {
		require.NoError(t, p.Submit(ring.Frame{Job: 1, Index: i}, large))
	}
	running := slow.recv(t)
	other := hire(t, p, 3)
	for i := range uint64(3) {
		other.send(t, other.recv(t), nil)
		if i == 1 {
			require.NoError(t, p.Submit(ring.Frame{Job: 1, Index: 3}, large))
		}
		collect(p)
	}
	other.exit(0)
	slow.send(t, running, nil)
	assert.Len(t, collect(p), 2)
	assertEmpty(t, p)
	require.NoError(t, p.Submit(ring.Frame{Job: 1, Index: 4}, large))
	assert.EqualValues(t, 4, receive(t, slow.awaits(t), "a task for which there is room").Index)
}

// A worker that has not come up, because starting takes long or its initializer never returns, keeps no task from those
// that have.
func TestTasksOfAWorkerThatHasNotComeUp(t *testing.T) {
	p, _ := newPool(t)
	unborn, other := hire(t, p, 0), hire(t, p, 0)
	submit(t, p, 1, 2)
	task := other.recv(t)
	other.send(t, task, nil)
	assert.Len(t, collect(p), 1)
	other.send(t, other.recv(t), nil)
	assert.Len(t, collect(p), 1)
	assertEmpty(t, p)

	tasks := other.awaits(t)
	submit(t, p, 3)
	assert.EqualValues(t, 3, receive(t, tasks, "a task for the worker that is there").Index)
	submit(t, p, 4)
	assert.EqualValues(t, 4, unborn.recv(t).Index, "one is busy, the other may come up")
}
