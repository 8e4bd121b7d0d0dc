package ring_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/goproc/goproc/core/ring"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The two ends at the same time: they race for tasks, sleep, and wake each other.

// Every task is either begun by the worker or taken back: never both, never neither.
func TestTakeBackRacesWithTheWorker(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	const tasks = 20_000
	received := make([]bool, tasks)
	var running sync.WaitGroup
	defer running.Wait()
	defer worker.Kill()
	running.Go(func() {
		for {
			got, err := worker.Recv()
			if err != nil {
				return
			}
			if !assert.False(t, received[got.Index]) || !assert.Equal(t, fmt.Sprint(got.Index), string(got.Payload)) {
				return
			}
			received[got.Index] = true
		}
	})
	random := rand.New(rand.NewPCG(3, 4))
	back := make([]bool, tasks)
	type pushed struct {
		index    int
		position uint64
		size     int
	}
	var ours []pushed
	for next := 0; next < tasks; {
		payload := fmt.Append(nil, next)
		if position, ok := slot.Push(task(1, uint64(next)), payload); ok {
			ours = append(ours, pushed{next, position, len(payload)})
			next++
		}
		slot.Publish()
		for len(ours) > random.IntN(12) {
			at := len(ours) - 1 - random.IntN(min(3, len(ours)))
			if payload, ok := takeBack(slot, ours[at].position, ours[at].size); ok {
				require.Equal(t, fmt.Sprint(ours[at].index), string(payload))
				require.False(t, back[ours[at].index])
				back[ours[at].index] = true
			}
			ours = append(ours[:at], ours[at+1:]...)
		}
	}
	slot.Stop()
	running.Wait()
	taken := 0
	for i := range tasks {
		require.NotEqual(t, received[i], back[i], "task %d: received %v, taken back %v", i, received[i], back[i])
		if back[i] {
			taken++
		}
	}
	t.Logf("%d of %d taken back", taken, tasks)
}

// The parent and the worker sleep and wake each other, in all the ways they do.
func TestNobodySleepsForEver(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	const tasks = 30_000
	var running sync.WaitGroup
	defer running.Wait()
	defer worker.Kill()
	running.Go(func() {
		for {
			got, err := worker.Recv()
			if err != nil {
				return
			}
			// Larger than the task: this ring is the one that fills up.
			if worker.Send(result(got.Job, got.Index), make([]byte, 100+got.Index%5000)) != nil {
				return
			}
		}
	})
	random := rand.New(rand.NewPCG(5, 6))
	deadline := time.Now().Add(60 * time.Second)
	for pushed, taken := uint64(0), uint64(0); taken < tasks; {
		for range random.IntN(20) {
			if pushed == tasks {
				break
			}
			if _, ok := slot.Push(task(1, pushed), nil); !ok {
				break
			}
			pushed++
			slot.Publish()
		}
		for range random.IntN(20) {
			f, payload, ok, err := slot.Result()
			require.NoError(t, err)
			if !ok {
				break
			}
			require.Equal(t, taken, f.Index)
			require.Len(t, payload, int(100+f.Index%5000))
			slot.Release()
			taken++
		}
		require.True(t, time.Now().Before(deadline), "%d pushed, %d taken", pushed, taken)
	}
}

func TestWakingIsAskedFor(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	slot.Publish()
	slot.Wake()
	assert.Zero(t, worker.Bell(), "nobody sleeps")
	assert.False(t, slot.Sleeping())

	done := make(chan error, 1)
	go func() {
		_, err := worker.Recv()
		done <- err
	}()
	require.Eventually(t, slot.Sleeping, 20*time.Second, time.Microsecond)
	slot.Stop()
	require.Error(t, <-done)
	assert.EqualValues(t, 1, worker.Bell())
	assert.False(t, slot.Sleeping())
}

// A worker that waits for room is no worker that waits for a task, and is woken by a release.
func TestWorkerWaitsForRoom(t *testing.T) {
	slot, worker := newSlot(t, newMemory(t), 0)
	for worker.TrySend(result(1, 0), make([]byte, ring.MaxInline)) == nil {
	}
	done := make(chan error, 1)
	go func() { done <- worker.Send(result(1, 1), make([]byte, ring.MaxInline)) }()
	require.Eventually(t, worker.Sleeping, 20*time.Second, time.Microsecond)
	assert.False(t, slot.Sleeping())
	take(t, slot)
	take(t, slot)
	require.NoError(t, <-done)
}
