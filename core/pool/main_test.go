package pool

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goproc/goproc/core/leakcheck"
	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/ring/ringtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for something before it fails.
const patience = 30 * time.Second

// TestMain also finds mappings that are left. Executed with GOPROC_TEST_PANIC set, it panics in a pump instead.
func TestMain(m *testing.M) {
	if os.Getenv("GOPROC_TEST_PANIC") != "" {
		panicInPump()
		os.Exit(0)
	}
	code := leakcheck.Main(m)
	if mapped := ringtest.Mapped(); len(mapped) > 0 {
		fmt.Fprintln(os.Stderr, "left mapped by the tests:", mapped)
		code = 1
	}
	os.Exit(code)
}

// counted is what a pool has counted.
type counted struct{ tasks, lost, timeouts, retries atomic.Int64 }

func (c *counted) AddTasks(n int64)    { c.tasks.Add(n) }
func (c *counted) AddLost(n int64)     { c.lost.Add(n) }
func (c *counted) AddTimeouts(n int64) { c.timeouts.Add(n) }
func (c *counted) AddRetries(n int64)  { c.retries.Add(n) }

// newPool makes a pool that is destroyed with the test. Its pump, which would do things whenever it is called, does not
// run: the test calls pumpOnce.
func newPool(t testing.TB) (*Pool, *counted) {
	t.Helper()
	counters := &counted{}
	require.NoError(t, pumps.Take())
	p, err := openPool(counters)
	require.NoError(t, err)
	close(p.pumped)
	t.Cleanup(p.Destroy)
	return p, counters
}

// newPumpedPool makes a pool whose pump runs.
func newPumpedPool(t testing.TB) (*Pool, *counted) {
	t.Helper()
	counters := &counted{}
	p, err := New(counters)
	require.NoError(t, err)
	t.Cleanup(p.Destroy)
	return p, counters
}

// hand is a worker in the service of a pool.
type hand struct {
	*ringtest.Worker
	pool      *Pool
	slot, pid int
	kills     atomic.Int32
	terms     atomic.Int32
	stubborn  atomic.Bool // it catches SIGTERM
}

var lastPid atomic.Int64

// hire starts a worker, as package pybind and a start method do.
func hire(t testing.TB, p *Pool, maxTasks int) *hand {
	t.Helper()
	h, err := tryHire(p, maxTasks)
	require.NoError(t, err)
	t.Cleanup(h.Close)
	return h
}

// memoryOf is the descriptor of the pool's memory.
func memoryOf(p *Pool) int {
	fd, err := p.MemoryFD()
	if err != nil {
		panic(err)
	}
	return fd
}

func tryHire(p *Pool, maxTasks int) (*hand, error) {
	slot, err := p.Slot()
	if err != nil {
		return nil, err
	}
	memory, err := p.MemoryFD()
	if err != nil { // the pool has been destroyed meanwhile
		return nil, err
	}
	worker, err := ringtest.Open(memory, slot)
	if err != nil {
		p.Drop(slot)
		return nil, err
	}
	h := &hand{Worker: worker, pool: p, slot: slot, pid: int(lastPid.Add(1))}
	err = p.Add(slot, h.pid, maxTasks, func(signal unix.Signal) {
		if signal == unix.SIGKILL {
			h.kills.Add(1)
		} else {
			h.terms.Add(1)
		}
		if signal == unix.SIGKILL || !h.stubborn.Load() {
			h.Kill()
		}
	})
	return h, err
}

// deaf ignores a signal, in tests that do not care about it.
func deaf(unix.Signal) {}

// exit is the end of the worker's process.
func (h *hand) exit(code int) {
	h.Kill()
	h.pool.Exited(h.slot, code)
}

// recv takes the task that must be there.
func (h *hand) recv(t testing.TB) ringtest.Task {
	t.Helper()
	task, ok := h.Claim()
	require.True(t, ok, "no task is there")
	h.Advance()
	return task
}

// awaits waits, on another goroutine, for a task.
func (h *hand) awaits(t testing.TB) <-chan ringtest.Task {
	tasks := make(chan ringtest.Task, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if task, err := h.Recv(); err == nil {
			tasks <- task
		}
	}()
	t.Cleanup(func() {
		h.Kill()
		<-done
	})
	require.Eventually(t, func() bool { return h.Sleeping() || len(tasks) > 0 }, patience, time.Microsecond)
	return tasks
}

// send delivers the result of the task, for which there must be room.
func (h *hand) send(t testing.TB, task ringtest.Task, payload []byte) {
	t.Helper()
	require.NoError(t, h.TrySend(resultOf(task), payload))
}

// resultOf is the frame of a result. It says that the task took a microsecond: the time that it really took would let a
// test depend on how busy the machine is.
func resultOf(task ringtest.Task) ring.Frame {
	return ring.Frame{Kind: ring.KindResult, Job: task.Job, Index: task.Index, Busy: 1}
}

// submit submits tasks (1, index), whose payload says so.
func submit(t testing.TB, p *Pool, indexes ...uint64) {
	t.Helper()
	for _, index := range indexes {
		require.NoError(t, p.Submit(ring.Frame{Job: 1, Index: index}, fmt.Appendf(nil, "task %d", index)))
	}
}

// collect takes what has completed, without waiting, each as "kind job.index payload".
func collect(p *Pool) []string {
	var all []string
	buffer := make([]byte, 128<<10)
	for {
		used := p.Collect(buffer)
		if used == 0 {
			return all
		}
		for _, c := range ringtest.Decode(buffer[:used]) {
			all = append(all, describe(c))
		}
	}
}

func describe(c ringtest.Completion) string {
	names := []string{"pad", "task", "result", "failure", "lost", "cancelled", "timeout", "exited", "retried", "memory", "part"}
	payload := string(c.Payload)
	if first, _, found := strings.Cut(payload, "\n"); found { // how a worker ended, without time and payload
		payload = strings.Join(strings.Fields(first)[:2], " ")
	}
	if len(payload) > 40 {
		payload = fmt.Sprintf("%d bytes", len(payload))
	}
	return fmt.Sprintf("%s %d.%d %s", names[c.Kind], c.Job, c.Index, payload)
}

// receive gives up after a while, so that a test fails instead of hanging.
func receive[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	select {
	case v, ok := <-from:
		require.True(t, ok, what)
		return v
	case <-time.After(patience):
		require.Fail(t, "nothing came", what)
		panic("unreachable")
	}
}

// believe makes the pool believe that tasks take that many microseconds.
func (p *Pool) believe(busy float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = busy
}

// limited is how many tasks have a limit.
func (p *Pool) limited() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.limits)
}

// queued is how many payloads are in the queue: no worker has them.
func (p *Pool) queued() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queue.len()
}

// description is the description of an extent.
var description = bytes.Repeat([]byte("abcdefgh"), 3)

// submitExtent submits a task (2, index) whose call lies in an extent.
func submitExtent(t testing.TB, p *Pool, index uint64) {
	t.Helper()
	require.NoError(t, p.Submit(ring.Frame{Job: 2, Index: index, Flags: ring.FlagExtent}, description))
}

// assertEmpty makes sure that nothing is left of all tasks.
func assertEmpty(t testing.TB, p *Pool) {
	t.Helper()
	assert.Empty(t, collect(p))
	assert.Zero(t, p.Pending())
}
