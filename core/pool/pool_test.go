package pool

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goproc/goproc/core/guard"
	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/ring/ringtest"
	"github.com/goproc/goproc/core/sys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestTaskAndItsResult(t *testing.T) {
	p, counters := newPool(t)
	h := hire(t, p, 0)
	assert.Empty(t, collect(p))
	submit(t, p, 7)
	assert.Equal(t, 1, p.Pending())
	task := h.recv(t)
	assert.Equal(t, ringtest.Task{Job: 1, Index: 7, Payload: []byte("task 7")}, task)
	h.send(t, task, []byte("done"))
	assert.Equal(t, []string{"result 1.7 done"}, collect(p))
	assertEmpty(t, p)
	assert.EqualValues(t, 1, counters.tasks.Load())

	submit(t, p, 8)
	h.recv(t)
	require.NoError(t, h.TrySend(ring.Frame{Kind: ring.KindFailure, Job: 1, Index: 8, Busy: 5}, nil))
	assert.Equal(t, []string{"failure 1.8 "}, collect(p))
	assertEmpty(t, p)
}

func TestPayloadMayBeAsLargeAsAFrameHolds(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	payload := bytes.Repeat([]byte("x"), ring.MaxInline)
	require.NoError(t, p.Submit(ring.Frame{Job: 1}, payload))
	require.ErrorIs(t, p.Submit(ring.Frame{Job: 1}, append(payload, 'y')), ErrTooLarge)
	task := h.recv(t)
	assert.Equal(t, payload, task.Payload)
	h.send(t, task, payload)
	assert.Equal(t, []string{"result 1.0 16384 bytes"}, collect(p))
}

// The payload is the caller's again when Submit returns, even if no worker can take the task yet.
func TestPayloadIsCopied(t *testing.T) {
	p, _ := newPool(t)
	payload := []byte("first")
	require.NoError(t, p.Submit(ring.Frame{Job: 1, Index: 1}, payload))
	copy(payload, "other")
	h := hire(t, p, 0)
	require.NoError(t, p.Submit(ring.Frame{Job: 1, Index: 2}, payload))
	copy(payload, "third")
	for _, want := range []string{"first", "other"} {
		task := h.recv(t)
		assert.Equal(t, want, string(task.Payload))
		h.send(t, task, nil)
		collect(p)
	}
}

func TestTasksWaitForWorkersInOrder(t *testing.T) {
	p, _ := newPool(t)
	for i := range uint64(100) {
		submit(t, p, i)
	}
	assert.Equal(t, 100, p.Pending())
	h := hire(t, p, 0)
	for i := range uint64(100) {
		task := h.recv(t)
		assert.Equal(t, i, task.Index)
		h.send(t, task, nil)
		assert.Len(t, collect(p), 1)
	}
	assertEmpty(t, p)
}

// Collect fills any buffer that holds the largest frame, and loses nothing of what does not fit.
func TestCollectIntoASmallBuffer(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	p.believe(1)
	sizes := []int{ring.MaxInline, 0, 16000, 5, ring.MaxInline, 8, 9}
	for i, size := range sizes {
		submit(t, p, uint64(i))
		h.send(t, h.recv(t), make([]byte, size))
		if i == 2 { // some from the engine's memory, some from the ring
			p.mu.Lock()
			p.harvest(p.keep)
			p.mu.Unlock()
		}
	}
	var got []int
	buffer := make([]byte, ring.Space(ring.MaxInline))
	unseen, total := p.Unseen(), 0
	for {
		used := p.Collect(buffer)
		if used == 0 {
			break
		}
		total += used
		for _, c := range ringtest.Decode(buffer[:used]) {
			assert.EqualValues(t, len(got), c.Index)
			got = append(got, len(c.Payload))
		}
	}
	assert.Equal(t, sizes, got)
	assert.GreaterOrEqual(t, unseen, total, "a ring holds pads, too")
	assert.Zero(t, p.Unseen())
}

// The memory of collected results is given back, though some results are always left.
func TestMemoryOfCollectedResults(t *testing.T) {
	p, _ := newPool(t)
	payload := make([]byte, ring.MaxInline)
	buffer := make([]byte, ring.Space(ring.MaxInline))
	for i := range 1000 {
		p.mu.Lock()
		p.keep(ring.Frame{Kind: ring.KindResult, Index: uint64(i)}, payload)
		p.mu.Unlock()
		if i >= 10 {
			require.Equal(t, len(buffer), p.Collect(buffer))
			require.EqualValues(t, i-10, ringtest.Decode(buffer)[0].Index)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	assert.Less(t, cap(p.ready), 100*len(buffer))
}

// A collector that has no use for results passes on a worker's call: Collect without a buffer moves tasks on.
func TestCollectingNothing(t *testing.T) {
	p, _ := newPool(t)
	w := hire(t, p, 0)
	submit(t, p, 1, 2, 3)
	// The pump would hand the tasks on as well, and sometimes sooner. It cannot while somebody else has the lock, and
	// the worker is not to call it.
	deliver := func(then func()) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.memory.Arm(0, ring.WaitingFeed|ring.WaitingDrain)
		w.send(t, w.recv(t), nil)
		then()
	}
	deliver(func() {
		_, ok := w.Claim()
		assert.False(t, ok, "the others are queued")
	})
	assert.Zero(t, p.Collect(nil))
	deliver(func() { p.keep(ring.Frame{Kind: ring.KindResult, Job: 7}, nil) })
	assert.Zero(t, p.Collect(nil))
	w.send(t, w.recv(t), nil)
	assert.ElementsMatch(t, []string{"result 7.0 ", "result 1.1 ", "result 1.2 ", "result 1.3 "}, collect(p))
}

func TestCloseStopsWorkersWhenAllIsDone(t *testing.T) {
	p, _ := newPool(t)
	a, b := hire(t, p, 0), hire(t, p, 0)
	submit(t, p, 1, 2, 3)
	p.Close()
	p.Close()
	require.ErrorIs(t, p.Submit(ring.Frame{}, nil), ErrClosed)
	first, second := a.recv(t), b.recv(t)
	a.send(t, first, nil)
	collect(p)
	b.send(t, second, nil)
	collect(p)
	assert.False(t, a.Stopped() || b.Stopped(), "a task is left")
	last := a
	task, ok := a.Claim()
	if !ok {
		last = b
		task, ok = b.Claim()
	}
	require.True(t, ok)
	last.Advance()
	last.send(t, task, nil)
	collect(p)
	assert.True(t, a.Stopped() && b.Stopped())
	assert.True(t, hire(t, p, 0).Stopped(), "a worker that comes too late")
	assertEmpty(t, p)
}

func TestCloseOfAnIdlePool(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	p.Close()
	assert.True(t, h.Stopped())
}

// A closed pool stops its workers even if nobody collects.
func TestClosedPoolStopsItsWorkersByItself(t *testing.T) {
	p, _ := newPumpedPool(t)
	var stopped sync.WaitGroup
	hands := []*hand{hire(t, p, 0), hire(t, p, 0)}
	for i := range uint64(20) {
		submit(t, p, i)
	}
	p.Close()
	for _, h := range hands {
		stopped.Go(func() { echo(h) })
	}
	done := make(chan bool)
	go func() {
		stopped.Wait()
		done <- true
	}()
	receive(t, done, "the workers' end")
	assert.Len(t, collect(p), 20)
}

// echo does tasks, in no time, until the pool has no more.
func echo(h *hand) {
	for {
		task, err := h.Recv()
		if err != nil || h.Send(resultOf(task), task.Payload) != nil {
			return
		}
	}
}

func TestTerminateCancelsEverythingOnce(t *testing.T) {
	p, _ := newPool(t)
	a, b := hire(t, p, 0), hire(t, p, 0)
	submit(t, p, 1, 2, 3)
	submitExtent(t, p, 4)
	submitExtent(t, p, 5)
	done, running := a.recv(t), b.recv(t)
	a.send(t, done, []byte("in time"))
	p.Terminate()
	b.send(t, running, []byte("too late"))
	p.Terminate()
	p.Close()
	got := collect(p)
	assert.Contains(t, got, fmt.Sprintf("result 1.%d in time", done.Index))
	for _, want := range []string{"cancelled 1.2 ", "cancelled 1.3 ", "cancelled 2.4 " + string(description), "cancelled 2.5 " + string(description)} {
		assert.Contains(t, got, want)
	}
	assert.Len(t, got, 5)
	assert.True(t, a.Stopped() && b.Stopped())
	assertEmpty(t, p)

	require.ErrorIs(t, p.Submit(ring.Frame{}, nil), ErrClosed)
	_, err := p.Slot()
	require.ErrorIs(t, err, ErrClosed)
	a.exit(-15)
	b.exit(-9)
	assert.Equal(t, []string{
		fmt.Sprintf("exited 0.0 %d -15 1", a.pid),
		fmt.Sprintf("exited 0.1 %d -9 1", b.pid),
	}, collect(p))
	assertEmpty(t, p)
}

// Tasks that have been cancelled do not begin.
func TestTerminateTakesTasksBack(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	h := hire(t, p, 0)
	submit(t, p, 1, 2, 3)
	h.recv(t)
	p.Terminate()
	_, ok := h.Claim()
	assert.False(t, ok)
	assert.Len(t, collect(p), 3)
}

// A worker may be on its way when the pool is terminated.
func TestWorkerComesAfterTerminate(t *testing.T) {
	p, _ := newPool(t)
	slot, err := p.Slot()
	require.NoError(t, err)
	p.Terminate()
	require.NoError(t, p.Add(slot, 1, 0, deaf))
	worker, err := ringtest.Open(memoryOf(p), slot)
	require.NoError(t, err)
	defer worker.Close()
	assert.True(t, worker.Stopped())
	p.Exited(slot, 0)
	assert.Equal(t, []string{"exited 0.0 1 0 0"}, collect(p))
}

func TestTerminateWakesTheCollector(t *testing.T) {
	p, _ := newPool(t)
	submit(t, p, 1)
	collector := newCollector(t, p)
	got := make(chan []ringtest.Completion, 1)
	go func() { got <- collector.Collect(p.Collect, patience) }()
	require.Eventually(t, collector.Waiting, patience, time.Microsecond)
	p.Terminate()
	assert.Len(t, receive(t, got, "the cancelled task"), 1)
}

func newCollector(t testing.TB, p *Pool) *ringtest.Collector {
	t.Helper()
	collector, err := ringtest.NewCollector(memoryOf(p))
	require.NoError(t, err)
	t.Cleanup(collector.Close)
	return collector
}

func TestDestroyLeavesNothing(t *testing.T) {
	for range 50 {
		p, err := New(nil)
		require.NoError(t, err)
		_, err = p.Slot()
		require.NoError(t, err)
		submit(t, p, 1)
		p.Destroy()
		p.Destroy()
		require.Empty(t, ringtest.Mapped())
		require.Empty(t, sys.Open())
	}
}

// A caller that got the pool before it was destroyed may still call it.
func TestDestroyedPoolRefuses(t *testing.T) {
	p, err := New(nil)
	require.NoError(t, err)
	h, err := tryHire(p, 0)
	require.NoError(t, err)
	defer h.Close()
	submit(t, p, 1)
	p.Destroy()
	require.ErrorIs(t, p.Submit(ring.Frame{}, nil), ErrClosed)
	assert.Empty(t, collect(p))
	assert.Zero(t, p.Pending())
	_, err = p.Slot()
	require.ErrorIs(t, err, ErrClosed)
	require.Error(t, p.Add(0, 1, 0, deaf))
	p.Drop(0)
	p.Exited(0, 0)
	p.Close()
	p.Terminate()
	_, err = p.MemoryFD()
	require.ErrorIs(t, err, unix.EBADF)
	assert.Empty(t, collect(p))
}

func TestDestroyWhileOthersAreBusy(t *testing.T) {
	for range 30 {
		p, err := New(nil)
		require.NoError(t, err)
		var busy sync.WaitGroup
		for range 2 {
			busy.Go(func() {
				h, err := tryHire(p, 0)
				if h == nil {
					return
				}
				defer h.Close()
				if err == nil {
					echo(h)
					h.exit(0)
				}
			})
			busy.Go(func() {
				buffer := make([]byte, 128<<10)
				for p.Submit(ring.Frame{Job: 1}, nil) == nil {
					p.Collect(buffer)
				}
			})
		}
		time.Sleep(time.Millisecond)
		p.Terminate()
		p.Destroy()
		busy.Wait()
	}
}

// panicking panics when tasks are counted for the first time, which is under the pool's lock.
type panicking struct {
	counted
	once atomic.Bool
}

func (c *panicking) AddTasks(int64) {
	if !c.once.Swap(true) {
		panic("the reason")
	}
}

// panicInPump is the process of TestPanicInThePump.
func panicInPump() {
	p, err := New(&panicking{})
	if err != nil {
		panic(err)
	}
	h, err := tryHire(p, 0)
	if err != nil {
		panic(err)
	}
	for i := range uint64(2) {
		if err := p.Submit(ring.Frame{Job: 1, Index: i}, nil); err != nil {
			panic(err)
		}
	}
	go echo(h)
	for guard.Check() == nil {
		time.Sleep(time.Millisecond)
	}
	p.Terminate()
	p.Destroy()
	fmt.Println(guard.Check())
}

// A panic leaves the pool's lock free: threads that are in a call come out again, and the program can end.
func TestPanicInThePump(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), self)
	command.Env = append(os.Environ(), "GOPROC_TEST_PANIC=1")
	command.WaitDelay = time.Second
	timer := time.AfterFunc(patience, func() { _ = command.Process.Kill() })
	defer timer.Stop()
	output, err := command.Output()
	require.NoError(t, err)
	assert.Contains(t, string(output), "panic in a pool's pump: the reason")
}

// The backlog is what is left for workers yet to come.
func TestBacklog(t *testing.T) {
	p, _ := newPool(t)
	backlog := func(since, most int) int {
		queued, _ := p.Backlog(since, most)
		return queued
	}
	h := hire(t, p, 3)
	batch(t, p, 0, 9)
	queued, since := p.Backlog(-1, 100)
	assert.Equal(t, 6, queued, "three are the worker's")
	assert.Equal(t, 9, since)
	assert.Equal(t, 4, backlog(-1, 4))

	submit(t, p, 20, 21)
	assert.Equal(t, 8, backlog(-1, 100))
	assert.Equal(t, 6, backlog(since, 100), "two have been submitted later")
	for range 3 {
		h.send(t, h.recv(t), nil)
		collect(p)
	}
	h.exit(0)
	assert.Equal(t, 6, backlog(since, 100))
	hire(t, p, 4)
	assert.Equal(t, 2, backlog(since, 100))
	hire(t, p, 4)
	assert.Equal(t, 0, backlog(since, 100))
	assert.Equal(t, 0, backlog(-1, 100))
}
