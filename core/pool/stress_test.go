package pool

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goproc/goproc/core/ring"
	"github.com/goproc/goproc/core/ring/ringtest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// factory is a pool under load: producers, workers, and collectors, all at once. Each task must complete exactly once,
// and be lost only by a worker that died.
type factory struct {
	t         *testing.T
	p         *Pool
	producers int
	tasks     int // of each producer
	maxTasks  int
	deadly    bool // workers die now and then
	hired     atomic.Int64
	working   sync.WaitGroup

	mu      sync.Mutex
	outcome map[[2]uint64]ring.Kind
	begun   map[[2]uint64]int // how often a task has been begun
	died    map[int]bool      // by pid
	lost    map[int]int       // tasks lost, by pid
	parts   map[[2]uint64]int // how many parts of a task have come
}

// partsOf is how many parts a task has: mostly none, rarely more than a worker may be ahead.
func partsOf(index uint64) int {
	switch {
	case index%499 == 0:
		return 3 * ring.PartsAhead
	case index%7 == 0:
		return int(index % 4)
	default:
		return 0
	}
}

// payloadOf is what a task carries, and a task's result: of any size, most of them small.
func payloadOf(job, index uint64) []byte {
	random := rand.New(rand.NewPCG(job, index))
	payload := bytes.Repeat([]byte{byte(index)}, 16+random.IntN(1<<random.IntN(15)))
	binary.LittleEndian.PutUint64(payload, job)
	binary.LittleEndian.PutUint64(payload[8:], index)
	return payload
}

func (f *factory) hire() {
	h, err := tryHire(f.p, f.maxTasks)
	if !assert.NoError(f.t, err) {
		return
	}
	number := f.hired.Add(1)
	f.working.Go(func() {
		defer h.Close()
		code := f.work(h, rand.New(rand.NewPCG(uint64(number), 0)))
		f.mu.Lock()
		f.died[h.pid] = code != 0
		f.mu.Unlock()
		h.exit(code)
	})
}

// work does tasks until the pool has no more, or the worker dies, at any of the places where this matters.
func (f *factory) work(h *hand, random *rand.Rand) (code int) {
	life := 1 << 62
	if f.deadly {
		life = 1 + random.IntN(300)
	}
	for done := 0; f.maxTasks == 0 || done < f.maxTasks; done++ {
		if done == life {
			switch random.IntN(4) {
			case 0:
				return -9 // without a task
			case 1:
				if task, ok := h.Claim(); ok {
					f.begin(task)
				}
				return -11 // having claimed one
			case 2: // it writes nonsense, and goes on until it is killed
				binary.LittleEndian.PutUint64(h.Memory[[]int{ring.OffResultTail, ring.OffTaskHead}[random.IntN(2)]:], random.Uint64())
			}
		}
		task, err := h.Recv()
		if err != nil {
			if err == ringtest.ErrKilled {
				return -9
			}
			return 0
		}
		f.begin(task)
		if done == life {
			return 1 // in a task
		}
		payload := payloadOf(task.Job, task.Index)
		if !assert.True(f.t, task.Job%2 == 1 || bytes.Equal(payload, task.Payload), "task %d.%d", task.Job, task.Index) {
			return 2
		}
		switch random.IntN(50) {
		case 0:
			time.Sleep(time.Duration(random.IntN(3_000_000)))
		case 1:
			runtime.Gosched()
		}
		for part := range partsOf(task.Index) {
			if h.SendPart(task, payloadOf(task.Job, uint64(part))) != nil {
				return -9
			}
		}
		if h.Send(resultOf(task), payload) != nil {
			return -9
		}
	}
	return 0
}

func (f *factory) begin(task ringtest.Task) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun[[2]uint64{task.Job, task.Index}]++
}

// take notes what has completed, and replaces workers.
func (f *factory) take(c ringtest.Completion) {
	if c.Kind == ring.KindExited {
		f.hire()
	}
	if c.Kind == ring.KindExited || c.Kind == ring.KindRetried {
		return
	}
	if c.Kind == ring.KindPart {
		f.p.Taken(c.Job, c.Index, c.Busy)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	task := [2]uint64{c.Job, c.Index}
	if c.Kind == ring.KindPart { // two collectors take them, so they may come here in another order
		f.parts[task]++
		return
	}
	if before, twice := f.outcome[task]; !assert.False(f.t, twice, "task %v: %v, then %v", task, before, c.Kind) {
		return
	}
	f.outcome[task] = c.Kind
	switch c.Kind {
	case ring.KindResult:
		assert.True(f.t, bytes.Equal(payloadOf(c.Job, c.Index), c.Payload), "result of %v", task)
	case ring.KindLost:
		var pid, code int
		_, err := fmt.Sscan(string(c.Payload), &pid, &code)
		assert.NoError(f.t, err)
		assert.True(f.t, f.died[pid], "worker %d has lost %v, but lives", pid, task)
		f.lost[pid]++
	default:
		assert.Fail(f.t, "what is that?", "%v: %v", task, c)
	}
}

// run runs the factory until all tasks have completed.
func (f *factory) run(workers int) {
	f.p, _ = newPumpedPool(f.t)
	f.outcome, f.begun = map[[2]uint64]ring.Kind{}, map[[2]uint64]int{}
	f.died, f.lost, f.parts = map[int]bool{}, map[int]int{}, map[[2]uint64]int{}
	collector := newCollector(f.t, f.p)
	for range workers {
		f.hire()
	}
	var busy sync.WaitGroup
	defer f.working.Wait()
	defer f.p.Terminate()
	for job := range uint64(f.producers) {
		busy.Go(func() {
			random := rand.New(rand.NewPCG(job, 1))
			for index := uint64(0); index < uint64(f.tasks); {
				if index%1000 < 20 {
					time.Sleep(time.Millisecond)
				}
				frame, payload := ring.Frame{Job: job, Index: index}, payloadOf(job, index)
				if job%2 == 1 { // batches, with a payload for all their tasks
					frame.End, payload = min(1+random.Uint32N(40), uint32(uint64(f.tasks)-index)), nil
				}
				if !assert.NoError(f.t, f.p.Submit(frame, payload)) {
					return
				}
				index += max(1, uint64(frame.End))
			}
		})
	}
	total := f.producers * f.tasks
	all := func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.outcome) == total
	}
	// One collector waits; the other only looks, now and then, as a thread does that need not wait.
	busy.Go(func() {
		buffer := make([]byte, ring.Space(ring.MaxInline))
		for !all() && !f.t.Failed() {
			for _, c := range ringtest.Decode(buffer[:f.p.Collect(buffer)]) {
				f.take(c)
			}
			time.Sleep(300 * time.Microsecond)
		}
		f.p.memory.Ring() // the last may have come here
	})
	for !all() && !f.t.Failed() {
		// The other collector may have taken the last: then none comes, and an empty header ends the wait.
		hasEnded := false
		waited := collector.Collect(func(buffer []byte) int {
			used := f.p.Collect(buffer)
			if used == 0 && all() {
				hasEnded = true
				clear(buffer[:ring.HeaderSize])
				return ring.HeaderSize
			}
			return used
		}, patience)
		if hasEnded {
			break
		}
		if !assert.NotEmpty(f.t, waited, "nothing completes; %d are pending", f.p.Pending()) {
			break
		}
		for _, c := range waited {
			f.take(c)
		}
	}
	busy.Wait()
	f.check(total)
}

func (f *factory) check(total int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	require.Equal(f.t, total, len(f.outcome), "tasks that have completed")
	kinds := map[ring.Kind]int{}
	for task, kind := range f.outcome {
		kinds[kind]++
		if !f.deadly {
			require.Equal(f.t, 1, f.begun[task], "task %v", task)
		}
		require.LessOrEqual(f.t, f.begun[task], 1, "task %v", task)
		if kind == ring.KindResult {
			require.Equal(f.t, partsOf(task[1]), f.parts[task], "parts of task %v", task)
		}
	}
	f.t.Logf("%d workers, %d results, %d tasks lost", f.hired.Load(), kinds[ring.KindResult], kinds[ring.KindLost])
}

func (f *factory) scaled() *factory {
	if testing.Short() {
		f.tasks /= 10
	}
	return f
}

func TestEachTaskCompletesOnce(t *testing.T) {
	(&factory{t: t, producers: 3, tasks: 4000}).scaled().run(4)
}

func TestEachTaskCompletesOnceWithManyWorkers(t *testing.T) {
	(&factory{t: t, producers: 2, tasks: 3000}).scaled().run(40)
}

func TestEachTaskCompletesOnceWithShortLivedWorkers(t *testing.T) {
	(&factory{t: t, producers: 2, tasks: 2000, maxTasks: 7}).scaled().run(3)
}

func TestEachTaskCompletesOnceThoughWorkersDie(t *testing.T) {
	(&factory{t: t, producers: 3, tasks: 4000, deadly: true}).scaled().run(4)
}

// Terminate under load: every task completes once, as done or as cancelled.
func TestTerminateUnderLoad(t *testing.T) {
	for round := range 20 {
		p, _ := newPumpedPool(t)
		collector := newCollector(t, p)
		var busy sync.WaitGroup
		for range 3 {
			h := hire(t, p, 0)
			busy.Go(func() {
				echo(h)
				h.exit(-15)
			})
		}
		var submitted atomic.Int64
		for job := range uint64(2) {
			busy.Go(func() {
				for index := uint64(0); p.Submit(ring.Frame{Job: job, Index: index}, nil) == nil; index++ {
					submitted.Add(1)
				}
			})
		}
		busy.Go(func() {
			time.Sleep(time.Duration(round) * 200 * time.Microsecond)
			p.Terminate()
		})
		done := make(chan bool)
		seen := map[[2]uint64]bool{}
		go func() {
			defer close(done)
			for exits := 0; exits < 3; {
				completed := collector.Collect(p.Collect, patience)
				if !assert.NotEmpty(t, completed) {
					p.Terminate()
					return
				}
				for _, c := range completed {
					if c.Kind == ring.KindExited {
						exits++
					}
					if c.Kind == ring.KindExited || c.Kind == ring.KindRetried {
						continue
					}
					task := [2]uint64{c.Job, c.Index}
					assert.False(t, seen[task], "%v", c)
					seen[task] = true
				}
			}
		}()
		busy.Wait()
		<-done
		for _, c := range collect(p) {
			t.Fatal("after the last exit:", c)
		}
		require.EqualValues(t, submitted.Load(), len(seen))
	}
}
