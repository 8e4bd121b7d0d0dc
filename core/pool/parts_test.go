package pool

import (
	"fmt"
	"testing"
	"time"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/ring/ringtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Parts: what a task yields while it goes on.

// yield sends a part, for which there must be room.
func (h *hand) yield(t testing.TB, task ringtest.Task, text string) {
	t.Helper()
	require.NoError(t, h.TrySend(h.PartOf(task), []byte(text)))
}

func TestPartsComeBeforeTheResult(t *testing.T) {
	p, counters := newPool(t)
	h := hire(t, p, 0)
	submit(t, p, 0, 1)
	task := h.recv(t)
	h.yield(t, task, "one")
	assert.Equal(t, []string{"part 1.0 one"}, collect(p))
	assert.Equal(t, 2, p.Pending())
	h.yield(t, task, "two")
	h.send(t, task, []byte("end"))
	next := h.recv(t)
	h.yield(t, next, "three")
	h.send(t, next, nil)
	assert.Equal(t, []string{"part 1.0 two", "result 1.0 end", "part 1.1 three", "result 1.1 "}, collect(p))
	assert.EqualValues(t, 2, counters.tasks.Load())
	assertEmpty(t, p)
}

// Each of these is something that a sound worker never sends: the worker is killed, and its task is lost.
func TestPartsOutOfPlace(t *testing.T) {
	for name, send := range map[string]func(t *testing.T, h *hand){
		"of a task that has not begun": func(t *testing.T, h *hand) {
			h.yield(t, ringtest.Task{Job: 1}, "")
		},
		"of another task": func(t *testing.T, h *hand) {
			h.recv(t)
			h.yield(t, ringtest.Task{Job: 1, Index: 1}, "")
		},
		"of no job": func(t *testing.T, h *hand) {
			h.recv(t)
			h.yield(t, ringtest.Task{Job: ring.NoJob}, "")
		},
		"of another number": func(t *testing.T, h *hand) {
			f := h.PartOf(h.recv(t))
			f.Busy = 7
			require.NoError(t, h.TrySend(f, nil))
		},
		"of several tasks": func(t *testing.T, h *hand) {
			f := h.PartOf(h.recv(t))
			f.End = 2
			require.NoError(t, h.TrySend(f, nil))
		},
		"more than the program has room for": func(t *testing.T, h *hand) {
			task := h.recv(t)
			for range ring.PartsAhead {
				h.yield(t, task, "")
			}
			assert.Len(t, collect(h.pool), ring.PartsAhead)
			assert.Zero(t, h.kills.Load())
			h.yield(t, task, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := newPool(t)
			h := hire(t, p, 0)
			submit(t, p, 0)
			send(t, h)
			assert.Empty(t, collect(p))
			assert.EqualValues(t, 1, h.kills.Load())
			h.exit(-9)
			outcome := collect(p)
			if name == "of a task that has not begun" {
				assert.Equal(t, []string{fmt.Sprintf("exited 0.0 %d -9 0", h.pid)}, outcome)
				assert.Equal(t, 1, p.Pending()) // another worker runs it
				return
			}
			assert.Equal(t, fmt.Sprintf("lost 1.0 %d -9", h.pid), outcome[0])
			assertEmpty(t, p)
		})
	}
}

// The program has seen a part of the task, so it would see that part twice.
func TestATaskThatHasYieldedIsNotRunAgain(t *testing.T) {
	p, counters := newPool(t)
	p.SetRetries(5)
	h := hire(t, p, 0)
	submit(t, p, 0, 1)
	h.yield(t, h.recv(t), "one")
	h.exit(-9)
	assert.Equal(t, []string{
		"part 1.0 one", fmt.Sprintf("lost 1.0 %d -9", h.pid), fmt.Sprintf("exited 0.0 %d -9 1", h.pid),
	}, collect(p))
	assert.Zero(t, counters.retries.Load())
	h = hire(t, p, 0)
	h.recv(t) // task 1, which has not yielded, is run again
	h.exit(-9)
	assert.EqualValues(t, 1, counters.retries.Load())
}

func TestAWorkerWaitsUntilTheProgramHasTakenParts(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	submit(t, p, 0)
	task := h.recv(t)
	sent := make(chan int, 1000)
	ended := make(chan error, 1)
	go func() {
		for i := range 2*ring.PartsAhead + 1 {
			if err := h.SendPart(task, nil); err != nil {
				ended <- err
				return
			}
			sent <- i
		}
		ended <- h.Send(resultOf(task), nil)
	}()
	wait := func(parts int) {
		t.Helper()
		require.Eventually(t, func() bool { return len(sent) == parts && h.Sleeping() }, patience, time.Millisecond)
	}
	wait(ring.PartsAhead)
	assert.Len(t, collect(p), ring.PartsAhead)
	assert.Empty(t, collect(p)) // collected parts are not yet taken
	assert.True(t, h.Sleeping())
	p.Taken(1, 0, ring.PartsAhead) // a part that has not come
	p.Taken(1, 1, 5)               // another task
	p.Taken(2, 0, 5)
	assert.True(t, h.Sleeping())
	p.Taken(1, 0, 9)
	wait(ring.PartsAhead + 10)
	p.Taken(1, 0, 3) // said late
	assert.Len(t, collect(p), 10)
	p.Taken(1, 0, ring.PartsAhead+9)
	require.NoError(t, receive(t, ended, "the result is not sent"))
	collect(p)
	assertEmpty(t, p)
}

// Parts of one task that the program has not taken do not hold up the next task.
func TestTheNextTaskHasAllOfTheWindow(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	for range 5 {
		submit(t, p, 0)
		task := h.recv(t)
		for range ring.PartsAhead {
			require.NoError(t, h.SendPart(task, nil))
		}
		h.send(t, task, nil)
		assert.Len(t, collect(p), ring.PartsAhead+1)
		p.Taken(1, 0, 0) // said late
	}
	assert.Zero(t, h.kills.Load())
}

// A worker that waits for the program is not over its limit, nor in doubt, however long it takes.
func TestTheTimeInWhichTheProgramTakesNothingDoesNotCount(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	p.Limit(1, 0, 10*time.Millisecond)
	submit(t, p, 0)
	task := h.recv(t)
	ended := make(chan error, 1)
	go func() {
		for range ring.PartsAhead + 1 {
			if err := h.SendPart(task, nil); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	require.Eventually(t, h.Sleeping, patience, time.Millisecond)
	p.Collect(make([]byte, 128<<10))
	for range 2 * mostDoubts {
		time.Sleep(15 * time.Millisecond)
		p.mu.Lock()
		p.enforce()
		p.lookOver()
		p.mu.Unlock()
	}
	assert.Zero(t, h.terms.Load()+h.kills.Load())
	p.Taken(1, 0, 5)
	require.NoError(t, receive(t, ended, "it does not go on"))
	require.Eventually(t, func() bool { // and now the task's time counts again
		p.pumpOnce()
		return h.terms.Load() == 1
	}, patience, time.Millisecond)
	h.exit(-int(unix.SIGTERM))
	assert.Contains(t, collect(p), fmt.Sprintf("timeout 1.0 %d -15", h.pid))
}

// Parts that nobody collects stay within the window, and do not hold up results of other workers.
func TestUncollectedPartsDoNotHoldUpOthers(t *testing.T) {
	p, _ := newPumpedPool(t)
	streaming, other := hire(t, p, 0), hire(t, p, 0)
	submit(t, p, 0)
	ended := make(chan error, 1)
	go func() {
		task, err := streaming.Recv()
		for err == nil {
			err = streaming.SendPart(task, make([]byte, 10_000))
		}
		ended <- err
	}()
	require.Eventually(t, func() bool { return p.Unseen() >= ring.PartsAhead*10_000 && streaming.Sleeping() }, patience, time.Millisecond)
	require.NoError(t, p.Submit(ring.Frame{Job: 2}, nil))
	task, err := other.Recv()
	require.NoError(t, err)
	require.NoError(t, other.Send(resultOf(task), nil))
	assert.Contains(t, collect(p), "result 2.0 ")
	p.Terminate()
	streaming.exit(-15)
	assert.ErrorIs(t, receive(t, ended, "it goes on"), ringtest.ErrKilled)
}
