package pool

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/ring/ringtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWindow(t *testing.T) {
	p := &Pool{}
	for busy, want := range map[float64]int{0: 1, 1: 200, 0.001: 256, 10: 20, 100: 2, 199: 1, 1e6: 1, 4e9: 1} {
		p.busy = busy
		assert.Equal(t, want, p.window(), "tasks of %v us", busy)
	}
}

// The size of a piece of a divided chunk follows from pieceTime, even if the window is smaller.
func TestPiece(t *testing.T) {
	for _, c := range []struct {
		busy                float64
		tasks, queued, want int
	}{
		{0, 2500, 0, 312},    // unknown: an eighth
		{0.2, 2500, 0, 2500}, // 500 us
		{1, 2500, 0, 1000},
		{100, 2500, 0, 10},
		{5000, 2500, 0, 1},
		{1, 2500, 200, 1000},
		{10, 32, 0, 20}, // no divided chunk: the window
		{10, 32, 15, 5},
		{10, 32, 25, 1},
		{1, 1, 0, 1},
	} {
		p := &Pool{busy: c.busy}
		f := ring.Frame{First: 7, End: 7 + uint32(c.tasks)}
		assert.Equal(t, c.want, p.piece(f, c.queued), "%+v", c)
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

// Tasks that wait behind a slow one go to a worker that has nothing to do, even if that worker comes later.
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
	p.mu.Lock()
	slot := p.slots[number].slot
	p.mu.Unlock()
	for {
		position, ok := slot.Push(ring.Frame{Kind: ring.KindTask, End: 1}, make([]byte, 32))
		if !ok {
			break
		}
		_, _, ok = slot.TakeBack(position, 0, 1, 1)
		require.True(t, ok)
	}
	slot.Publish()
	full, err := ringtest.Open(memoryOf(p), number)
	require.NoError(t, err)
	defer full.Close()
	require.NoError(t, p.Add(number, 1, 0, deaf))
	assert.Equal(t, 1, p.queued())
	assert.Equal(t, 3, p.Pending())
	_, ok := full.Claim()
	assert.False(t, ok)
	collect(p)
	task, ok := full.Claim()
	require.True(t, ok)
	assert.EqualValues(t, 3, task.Index)
}

// batch submits a batch of that many tasks: (1, index) and the following ones.
func batch(t testing.TB, p *Pool, index uint64, count uint32) {
	t.Helper()
	require.NoError(t, p.Submit(ring.Frame{Job: 1, Index: index, End: count}, []byte("batch")))
}

// indexes takes that many tasks, delivers their results, and returns their indexes.
func (h *hand) indexes(t testing.TB, count int) []uint64 {
	t.Helper()
	var all []uint64
	for range count {
		task := h.recv(t)
		all = append(all, task.Index)
		h.send(t, task, nil)
	}
	return all
}

// A batch is given out in pieces as large as the window, in its order, and each of its tasks has a result of its own.
func TestBatchIsGivenOutByTheWindow(t *testing.T) {
	p, _ := newPumpedPool(t)
	p.believe(50) // four of them are a window
	h := hire(t, p, 0)
	batch(t, p, 10, 9)
	assert.Equal(t, 9, p.Pending())
	p.mu.Lock()
	assert.Equal(t, 5, p.queue.tasks(math.MaxInt))
	p.mu.Unlock()
	for index := uint64(10); index < 19; index++ {
		task := receive(t, h.awaits(t), "the next task")
		assert.Equal(t, index, task.Index)
		h.send(t, task, nil)
	}
	done := collect(p)
	assert.Len(t, done, 9)
	assert.Equal(t, "result 1.10 ", done[0])
	assertEmpty(t, p)
}

func TestBatchIsSharedByIdleWorkers(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	hands := []*hand{hire(t, p, 0), hire(t, p, 0), hire(t, p, 0)}
	batch(t, p, 0, 8)
	var begun []ringtest.Task
	for i, h := range hands {
		for range []int{3, 3, 2}[i] {
			begun = append(begun, h.recv(t))
		}
	}
	for i, task := range begun {
		assert.EqualValues(t, i, task.Index)
		hands[i/3].send(t, task, nil)
	}
	assert.Len(t, collect(p), 8)
	assertEmpty(t, p)
}

// The tasks of a batch that wait behind a slow one of the same batch go to others, the first of them last.
func TestBatchBehindASlowTask(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	slow := hire(t, p, 0)
	batch(t, p, 0, 9)
	long := slow.recv(t)
	other := hire(t, p, 0)
	assert.Equal(t, []uint64{5, 6, 7, 8}, other.indexes(t, 4))
	assert.Len(t, collect(p), 4)
	assert.Equal(t, []uint64{3, 4}, other.indexes(t, 2))
	collect(p)
	assert.Equal(t, []uint64{2}, other.indexes(t, 1))
	collect(p)
	assert.Equal(t, []uint64{1}, other.indexes(t, 1))
	collect(p)
	_, ok := slow.Claim()
	assert.False(t, ok)
	slow.send(t, long, nil)
	assert.Equal(t, []string{"result 1.0 "}, collect(p))
	assertEmpty(t, p)
}

// Only the task of a batch that the worker ran is lost with the worker.
func TestWorkerDiesInABatch(t *testing.T) {
	p, counters := newPool(t)
	p.believe(1)
	h := hire(t, p, 0)
	batch(t, p, 0, 5)
	h.indexes(t, 2)
	h.recv(t)
	h.exit(-9)
	assert.Equal(t, []string{"result 1.0 ", "result 1.1 ", fmt.Sprintf("lost 1.2 %d -9", h.pid)}, collect(p)[:3])
	assert.EqualValues(t, 1, counters.lost.Load())
	assert.Equal(t, 2, p.Pending())
	assert.Equal(t, []uint64{3, 4}, hire(t, p, 0).indexes(t, 2))
	assert.Len(t, collect(p), 2)
	assertEmpty(t, p)
}

// A worker may begin several tasks of a batch at once, and answer them together. When it dies, it loses them together.
func TestTasksAnsweredTogether(t *testing.T) {
	p, counters := newPool(t)
	p.believe(1)
	h := hire(t, p, 0)
	batch(t, p, 0, 20)
	task, ok := h.Claim()
	require.True(t, ok)
	assert.EqualValues(t, 7, h.More(7))
	result := resultOf(task)
	result.End = 8
	result.Busy = 80
	require.NoError(t, h.TrySend(result, []byte("eight")))
	used := make([]byte, 128<<10)
	completed := ringtest.Decode(used[:p.Collect(used)])
	require.Len(t, completed, 1)
	assert.EqualValues(t, 8, completed[0].Tasks())
	assert.Equal(t, 12, p.Pending())
	assert.EqualValues(t, 8, counters.tasks.Load())
	task, ok = h.Claim()
	require.True(t, ok)
	assert.EqualValues(t, 8, task.Index)
	assert.EqualValues(t, 2, h.More(2))
	h.exit(-9)
	assert.Equal(t, []string{"lost 1.8", "lost 1.9", "lost 1.10"}, trimmed(collect(p))[:3])
	next := hire(t, p, 0)
	task, ok = next.Claim()
	require.True(t, ok)
	assert.EqualValues(t, 11, task.Index)
	assert.EqualValues(t, 8, next.More(100), "no more are left")
	next.Advance()
	result = resultOf(task)
	result.End = 10
	require.NoError(t, next.TrySend(result, nil))
	collect(p)
	assert.EqualValues(t, 1, next.kills.Load(), "more than it has begun")
	next.exit(-9)
	assert.Len(t, collect(p), 9+1)
	assertEmpty(t, p)
}

// trimmed are the first two words of each description.
func trimmed(descriptions []string) []string {
	for i, text := range descriptions {
		descriptions[i] = strings.Join(strings.Fields(text)[:2], " ")
	}
	return descriptions
}

// A worker gets no more tasks of a batch than it may be given.
func TestMaxTasksOfABatch(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	h := hire(t, p, 3)
	batch(t, p, 0, 5)
	assert.Equal(t, []uint64{0, 1, 2}, h.indexes(t, 3))
	_, ok := h.Claim()
	assert.False(t, ok)
	h.exit(0)
	assert.Equal(t, []uint64{3, 4}, hire(t, p, 0).indexes(t, 2))
}

func TestTerminateCancelsTheTasksOfABatch(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	h := hire(t, p, 0)
	batch(t, p, 0, 4)
	h.recv(t)
	p.believe(1e6)
	batch(t, p, 4, 2)
	p.Terminate()
	assert.Equal(t, []string{"cancelled 1.0 ", "cancelled 1.1 ", "cancelled 1.2 ", "cancelled 1.3 ", "cancelled 1.4 ", "cancelled 1.5 "}, collect(p))
	_, ok := h.Claim()
	assert.False(t, ok, "the others do not begin")
	assertEmpty(t, p)
}

func TestImpossibleBatches(t *testing.T) {
	p, _ := newPool(t)
	require.ErrorIs(t, p.Submit(ring.Frame{Job: 1, End: ring.MaxBatch + 1}, nil), ErrBatch)
	require.ErrorIs(t, p.Submit(ring.Frame{Job: 1, End: 2, Flags: ring.FlagExtent}, description), ErrBatch)
	assertEmpty(t, p)
}

// A worker that claims what it was not given is ended, and none of its tasks is begun twice.
func TestWorkerClaimsTheImpossible(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	h := hire(t, p, 0)
	batch(t, p, 0, 3)
	for at := ring.PageSize + 24; at < ring.PageSize+28; at++ {
		h.Memory[at] = 0xff
	}
	collect(p)
	submit(t, p, 3)
	assert.EqualValues(t, 1, h.kills.Load())
	h.exit(-9)
	assert.Len(t, collect(p), 3+1, "three lost tasks, and a worker that has ended")
	assert.Equal(t, []uint64{3}, hire(t, p, 0).indexes(t, 1))
}

// The pump hands out queued tasks while no thread is in a call of the pool.
func TestPumpFeeds(t *testing.T) {
	p, _ := newPumpedPool(t)
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
	p, _ := newPumpedPool(t)
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

// A worker has nothing to do even if its result has not been collected yet.
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

// In the tests below, another worker has just called the pump, so the bits for calling it are cleared. A worker runs
// dry, or fills its ring, after the pump has looked at its ring, and before the pump sets the bits again.

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
			p.believe(1) // a result that was slow on its way would leave tasks in the queue
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
			sleeps := assert.Eventually(t, h.Sleeping, patience, time.Microsecond)
			p.step()
			p.mu.Unlock() // whatever the outcome: the pool is destroyed after the test
			require.True(t, sleeps)
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
	tasks := slow.awaits(t)
	p.pumpOnce() // which the worker calls
	assert.EqualValues(t, 4, receive(t, tasks, "a task for which there is room").Index)
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
