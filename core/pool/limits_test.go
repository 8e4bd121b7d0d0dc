package pool

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/ring/ringtest"
	"github.com/goproc/goproc/core/sys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// limit submits tasks (1, index) that may run for an hour.
func limit(t testing.TB, p *Pool, indexes ...uint64) {
	t.Helper()
	for _, index := range indexes {
		p.Limit(1, index, time.Hour)
		submit(t, p, index)
	}
}

// check does what the alarm does.
func (p *Pool) check() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.enforce()
	p.step()
}

// over gives task (1, index) a limit that is over as soon as the task has begun.
func (p *Pool) over(index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limits[taskID{1, index}] = 1
}

// When a task is over its limit, its worker is ended, and no other one.
func TestLimit(t *testing.T) {
	p, counters := newPool(t)
	p.believe(1)
	a := hire(t, p, 0)
	limit(t, p, 1, 2)
	submit(t, p, 3)
	a.recv(t)
	p.check()
	assert.Zero(t, a.terms.Load(), "it has just begun")
	p.over(1)
	p.over(2)
	p.check()
	p.check()
	assert.EqualValues(t, 1, a.terms.Load())
	assert.True(t, a.Stopped())
	assert.Zero(t, a.kills.Load())
	assert.Empty(t, collect(p), "its process has not ended")
	b := hire(t, p, 0)
	for _, want := range []uint64{2, 3} {
		task := b.recv(t)
		assert.Equal(t, want, task.Index)
		b.send(t, task, nil)
	}
	a.exit(-15)
	assert.ElementsMatch(t, []string{
		fmt.Sprintf("timeout 1.1 %d -15", a.pid),
		fmt.Sprintf("exited 0.0 %d -15 1", a.pid),
		"result 1.2 ", "result 1.3 ",
	}, collect(p))
	assert.Zero(t, counters.lost.Load())
	assert.Zero(t, p.limited())
	assertEmpty(t, p)
}

func TestAlarm(t *testing.T) {
	p, _ := newPumpedPool(t)
	a, b := hire(t, p, 0), hire(t, p, 0)
	p.Limit(1, 1, time.Hour)
	p.Limit(1, 2, time.Millisecond)
	submit(t, p, 1, 2)
	time.Sleep(10 * time.Millisecond) // waiting does not count
	tasks := map[uint64]*hand{a.recv(t).Index: a, b.recv(t).Index: b}
	collector := newCollector(t, p)
	require.Eventually(t, func() bool { return tasks[2].terms.Load() == 1 }, patience, time.Millisecond)
	assert.Zero(t, tasks[1].terms.Load())
	tasks[2].exit(-15)
	completed := collector.Collect(p.Collect, patience)
	require.NotEmpty(t, completed)
	assert.Equal(t, fmt.Sprintf("timeout 1.2 %d -15", tasks[2].pid), describe(completed[0]))
}

// An alarm for a limit does not come too late for a shorter one.
func TestShorterLimit(t *testing.T) {
	p, _ := newPumpedPool(t)
	a, b := hire(t, p, 0), hire(t, p, 0)
	limit(t, p, 1)
	a.awaits(t)
	p.Limit(1, 2, time.Millisecond)
	submit(t, p, 2)
	b.awaits(t)
	require.Eventually(t, func() bool { return a.terms.Load()+b.terms.Load() == 1 }, patience, time.Millisecond)
}

// A result counts if it has been delivered before the pump finds that the limit is over.
func TestDeliveredBeforeTheLimitIsLookedAt(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	h := hire(t, p, 0)
	limit(t, p, 1, 2)
	task := h.recv(t)
	p.over(1)
	h.send(t, task, []byte("late, but there"))
	h.recv(t) // and the next has begun
	p.check()
	assert.Zero(t, h.terms.Load())
	assert.Equal(t, []string{"result 1.1 late, but there"}, collect(p))
	assert.Equal(t, 1, p.limited())
}

// A result that is delivered after the verdict is dropped: a program may catch SIGTERM, and go on. SIGKILL follows.
func TestWorkerThatCatchesSIGTERM(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	h.stubborn.Store(true)
	limit(t, p, 1)
	task := h.recv(t)
	p.over(1)
	p.check()
	h.send(t, task, []byte("too late"))
	assert.Empty(t, collect(p))
	assert.Equal(t, 1, p.Pending())
	submit(t, p, 2)
	_, ok := h.Claim()
	assert.False(t, ok, "it is given nothing any more")
	assert.Zero(t, h.kills.Load())

	p.mu.Lock()
	w := p.active[0]
	assert.Greater(t, w.killAt, sys.Monotonic())
	assert.LessOrEqual(t, p.alarmAt, w.killAt)
	w.killAt = sys.Monotonic()
	p.mu.Unlock()
	p.check()
	p.check()
	assert.EqualValues(t, 1, h.kills.Load())
	h.exit(-9)
	assert.Equal(t, []string{fmt.Sprintf("timeout 1.1 %d -9", h.pid), fmt.Sprintf("exited 0.0 %d -9 1", h.pid)}, collect(p))
	assert.Equal(t, 1, p.Pending())
}

func TestLimitOfATaskThatIsNotSubmitted(t *testing.T) {
	p, _ := newPool(t)
	p.Limit(1, 1, time.Hour)
	p.Limit(1, 1, 0)
	assert.Zero(t, p.limited())
	p.Limit(1, 2, 1<<62)
	p.Limit(1, 2, time.Hour)
	p.Close()
	require.ErrorIs(t, p.Submit(ring.Frame{Job: 1, Index: 2}, nil), ErrClosed)
	p.Limit(1, 3, time.Hour)
	assert.Zero(t, p.limited())
}

func TestLimitsOfATerminatedPool(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	limit(t, p, 1, 2)
	h.recv(t)
	p.Terminate()
	assert.Zero(t, p.limited())
	assert.Equal(t, []string{"cancelled 1.1 ", "cancelled 1.2 "}, collect(p))
	p.Limit(1, 3, time.Nanosecond)
	p.pumpOnce()
	assert.Zero(t, h.terms.Load())
}

func TestCancel(t *testing.T) {
	p, counters := newPool(t)
	p.believe(50)
	h := hire(t, p, 0)
	submitExtent(t, p, 0)
	submit(t, p, 1)
	require.NoError(t, p.Submit(ring.Frame{Job: 2, Index: 1}, nil))
	require.NoError(t, p.Submit(ring.Frame{Job: 3}, nil))
	for i := range uint64(9) {
		require.NoError(t, p.Submit(ring.Frame{Job: 2, Index: 2 + i}, nil))
	}
	require.Positive(t, p.queued())
	h.send(t, h.recv(t), []byte("done"))
	assert.EqualValues(t, 1, h.recv(t).Job)

	assert.Equal(t, 10, p.Cancel(2), "of eleven tasks, one is done")
	assert.Zero(t, h.terms.Load(), "none of them runs")
	assert.Zero(t, p.Cancel(2))
	assert.Zero(t, p.Cancel(7))
	got := collect(p)
	assert.Equal(t, "result 2.0 done", got[0])
	assert.ElementsMatch(t, []string{
		"cancelled 2.1 ", "cancelled 2.2 ", "cancelled 2.3 ", "cancelled 2.4 ", "cancelled 2.5 ",
		"cancelled 2.6 ", "cancelled 2.7 ", "cancelled 2.8 ", "cancelled 2.9 ", "cancelled 2.10 ",
	}, got[1:])

	assert.Equal(t, 1, p.Cancel(1), "this one runs")
	assert.EqualValues(t, 1, h.terms.Load())
	other := hire(t, p, 0)
	assert.EqualValues(t, 3, other.recv(t).Job, "the other task has gone elsewhere")
	h.exit(-15)
	assert.Equal(t, []string{fmt.Sprintf("cancelled 1.1 %d -15", h.pid), fmt.Sprintf("exited 0.0 %d -15 1", h.pid)}, collect(p))
	assert.Zero(t, counters.lost.Load())
	assert.Equal(t, 1, p.Pending())
}

// An extent is given back when nobody looks into it any more.
func TestCancelOfExtents(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	submitExtent(t, p, 1)
	submitExtent(t, p, 2)
	h.recv(t)
	assert.Equal(t, 2, p.Cancel(2))
	assert.Equal(t, []string{"cancelled 2.2 " + string(description)}, collect(p))
	h.exit(-15)
	assert.Contains(t, collect(p), fmt.Sprintf("cancelled 2.1 %s%d -15", description, h.pid))
}

// A task that is over its limit may be cancelled while its worker ends.
func TestCancelAfterTheLimit(t *testing.T) {
	p, _ := newPool(t)
	h := hire(t, p, 0)
	limit(t, p, 1)
	h.recv(t)
	p.over(1)
	p.check()
	assert.Equal(t, 1, p.Cancel(1))
	assert.EqualValues(t, 1, h.terms.Load())
	h.exit(-15)
	assert.Equal(t, fmt.Sprintf("cancelled 1.1 %d -15", h.pid), collect(p)[0])
}

func TestCancelInATerminatedPool(t *testing.T) {
	p, _ := newPool(t)
	submit(t, p, 1)
	p.Terminate()
	assert.Zero(t, p.Cancel(1))
	assert.Len(t, collect(p), 1)
}

func TestRetries(t *testing.T) {
	p, counters := newPool(t)
	p.SetRetries(2)
	submit(t, p, 1, 2)
	for try := range 3 {
		h := hire(t, p, 0)
		task := h.recv(t)
		assert.Equal(t, ringtest.Task{Job: 1, Index: 1, Payload: []byte("task 1")}, task, "try %d", try)
		h.exit(-9)
		got := collect(p)
		what := "retried"
		if try == 2 {
			what = "lost"
		}
		assert.Equal(t, []string{fmt.Sprintf("%s 1.1 %d -9", what, h.pid), fmt.Sprintf("exited 0.0 %d -9 1", h.pid)}, got)
	}
	assert.EqualValues(t, 3, counters.lost.Load())
	assert.EqualValues(t, 2, counters.retries.Load())
	h := hire(t, p, 0)
	task := h.recv(t)
	assert.EqualValues(t, 2, task.Index)
	h.send(t, task, []byte("done"))
	assert.Equal(t, []string{"result 1.2 done"}, collect(p))
	assertEmpty(t, p)
}

// The completion of a lost task says how its worker ended, which task of a batch it was, for how long it ran, and what
// was submitted.
func TestLostTaskIsTold(t *testing.T) {
	p, _ := newPool(t)
	p.believe(1)
	h := hire(t, p, 0)
	require.NoError(t, p.Submit(ring.Frame{Job: 1, Index: 10, End: 3}, []byte("a\nbatch")))
	first, ok := h.Claim()
	require.True(t, ok)
	h.send(t, first, []byte("done"))
	second, ok := h.Claim()
	require.True(t, ok)
	assert.EqualValues(t, 11, second.Index)
	h.exit(-9)
	buffer := make([]byte, 64<<10)
	all := ringtest.Decode(buffer[:p.Collect(buffer)])
	require.Equal(t, []ring.Kind{ring.KindResult, ring.KindLost, ring.KindExited}, []ring.Kind{all[0].Kind, all[1].Kind, all[2].Kind})
	lost := all[1]
	assert.EqualValues(t, 11, lost.Index)
	line, payload, _ := strings.Cut(string(lost.Payload), "\n")
	assert.Equal(t, "a\nbatch", payload)
	fields := strings.Fields(line)
	require.Len(t, fields, 4)
	assert.Equal(t, []string{strconv.Itoa(h.pid), "-9", "1"}, fields[:3])
	microseconds, err := strconv.Atoi(fields[3])
	require.NoError(t, err)
	assert.GreaterOrEqual(t, microseconds, 0)
}

// The extent of a task that may be run again is the worker's to read only, and is given back with the result.
func TestRetriesWithAnExtent(t *testing.T) {
	p, _ := newPool(t)
	p.SetRetries(1)
	submitExtent(t, p, 1)
	h := hire(t, p, 0)
	task := h.recv(t)
	assert.Equal(t, ring.FlagExtent|ring.FlagKeep, task.Flags)
	h.exit(-9)
	h = hire(t, p, 0)
	assert.Equal(t, task, h.recv(t))
	h.send(t, task, []byte("done"))
	got := collect(p)
	got = append(got, collect(p)...)
	assert.Len(t, got, 4)
	assert.Equal(t, []string{"result 2.1 done", fmt.Sprintf("cancelled %d.0 %s", ring.NoJob, description)}, got[2:])
	submitExtent(t, p, 2)
	h.recv(t)
	h.exit(-9)
	h = hire(t, p, 0)
	h.recv(t)
	h.exit(-9)
	assert.Contains(t, collect(p), fmt.Sprintf("lost 2.2 %s%d -9", description, h.pid))
}

func TestNoRetryAfterALimitOrACancel(t *testing.T) {
	p, _ := newPool(t)
	p.SetRetries(5)
	for _, kind := range []ring.Kind{ring.KindTimeout, ring.KindCancelled} {
		h := hire(t, p, 0)
		limit(t, p, 1)
		h.recv(t)
		p.over(1)
		if kind == ring.KindTimeout {
			p.check()
		} else {
			p.Cancel(1)
		}
		h.exit(-15)
		assert.Len(t, collect(p), 2)
		assertEmpty(t, p)
	}
}

// A worker may say, once and before anything else, why it cannot begin.
func TestWorkerThatCannotBegin(t *testing.T) {
	p, _ := newPool(t)
	submit(t, p, 1)
	h := hire(t, p, 0)
	reason := ring.Frame{Kind: ring.KindFailure, Job: ring.NoJob, Busy: 1}
	require.NoError(t, h.TrySend(reason, []byte("the reason")))
	h.exit(1)
	assert.Equal(t, []string{
		fmt.Sprintf("failure %d.%d the reason", ring.NoJob, h.pid),
		fmt.Sprintf("exited 0.0 %d 1 0", h.pid),
	}, collect(p))
	assert.Equal(t, 1, p.Pending())

	h = hire(t, p, 0)
	require.NoError(t, h.TrySend(reason, nil))
	require.NoError(t, h.TrySend(reason, nil))
	collect(p)
	assert.EqualValues(t, 1, h.kills.Load(), "twice is nonsense")
	h.exit(-9)

	h = hire(t, p, 0)
	h.send(t, h.recv(t), nil)
	require.NoError(t, h.TrySend(reason, nil))
	collect(p)
	assert.EqualValues(t, 1, h.kills.Load(), "it has begun")
}

// Each task completes once, whatever happens to it: limits, cancels, deaths and tries again.
func TestEachTaskCompletesOnceThoughCancelledAndLimited(t *testing.T) {
	for _, retries := range []int{0, 2} {
		t.Run(fmt.Sprintf("retries=%d", retries), func(t *testing.T) { stressLimits(t, retries) })
	}
}

func stressLimits(t *testing.T, retries int) {
	p, _ := newPumpedPool(t)
	p.SetRetries(retries)
	jobs, tasks := uint64(60), uint64(40)
	if testing.Short() {
		jobs /= 6
	}
	var working, busy sync.WaitGroup
	var number, terminated atomic.Int64
	begun := sync.Map{} // taskID: *atomic.Int32
	var hireOne func()
	work := func(h *hand, random *rand.Rand) int {
		for {
			task, err := h.Recv()
			if err != nil {
				return -9
			}
			count, _ := begun.LoadOrStore(taskID{task.Job, task.Index}, &atomic.Int32{})
			count.(*atomic.Int32).Add(1)
			switch random.IntN(40) {
			case 0:
				return -11
			case 1, 2: // over any limit, and until it is told to end
				for !h.Killed() && terminated.Load() == 0 {
					time.Sleep(50 * time.Microsecond)
					if random.IntN(400) == 0 {
						break
					}
				}
			case 3:
				time.Sleep(time.Duration(random.IntN(2_000_000)))
			}
			if h.Send(resultOf(task), task.Payload) != nil {
				return -15
			}
		}
	}
	hireOne = func() {
		h, err := tryHire(p, 0)
		if err != nil {
			return // the pool has been terminated
		}
		random := rand.New(rand.NewPCG(uint64(number.Add(1)), 7))
		h.stubborn.Store(random.IntN(4) == 0)
		working.Go(func() {
			defer h.Close()
			h.exit(work(h, random))
		})
	}
	for range 4 {
		hireOne()
	}
	cancelled := make([]int, jobs)
	for producer := range uint64(2) {
		busy.Go(func() {
			random := rand.New(rand.NewPCG(producer, 3))
			for job := producer; job < jobs; job += 2 {
				for index := range tasks {
					if index%3 == 0 {
						p.Limit(job, index, time.Duration(1+random.IntN(2000))*time.Microsecond)
					}
					assert.NoError(t, p.Submit(ring.Frame{Job: job, Index: index}, payloadOf(job, index)))
				}
				if job%3 != 0 {
					time.Sleep(time.Duration(random.IntN(3_000_000)))
					cancelled[job] = p.Cancel(job)
				}
			}
		})
	}
	outcome := map[taskID]ring.Kind{}
	collector := newCollector(t, p)
	for len(outcome) < int(jobs*tasks) && !t.Failed() {
		completed := collector.Collect(p.Collect, patience)
		if !assert.NotEmpty(t, completed, "nothing completes; %d are pending", p.Pending()) {
			break
		}
		for _, c := range completed {
			if c.Kind == ring.KindExited {
				hireOne()
			}
			if c.Kind == ring.KindExited || c.Kind == ring.KindRetried {
				continue
			}
			id := taskID{c.Job, c.Index}
			before, twice := outcome[id]
			assert.False(t, twice, "task %v: %v, then %v", id, before, c.Kind)
			outcome[id] = c.Kind
			if c.Kind == ring.KindResult {
				assert.True(t, bytes.Equal(payloadOf(c.Job, c.Index), c.Payload))
			}
		}
	}
	busy.Wait()
	assert.Zero(t, p.Pending())
	assert.Zero(t, p.limited())
	terminated.Store(1)
	p.Terminate()
	working.Wait()
	kinds, perJob := map[ring.Kind]int{}, make([]int, jobs)
	for id, kind := range outcome {
		kinds[kind]++
		if kind == ring.KindCancelled {
			perJob[id.job]++
		}
		count, _ := begun.LoadOrStore(id, &atomic.Int32{})
		assert.LessOrEqual(t, int(count.(*atomic.Int32).Load()), 1+retries, "task %v", id)
	}
	assert.Equal(t, cancelled, perJob, "Cancel has said how many")
	t.Logf("%d workers; %d results, %d lost, %d over their limit, %d cancelled", number.Load(),
		kinds[ring.KindResult], kinds[ring.KindLost], kinds[ring.KindTimeout], kinds[ring.KindCancelled])
}
