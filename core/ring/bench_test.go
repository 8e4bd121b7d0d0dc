package ring_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/goproc/goproc/core/ring"
)

// A task goes to the worker, and its result comes back, all on one thread: what the memory's protocol costs by itself.
func BenchmarkRoundTrip(b *testing.B) {
	for _, size := range []int{64, 1024, ring.MaxInline} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			slot, worker := newSlot(b, newMemory(b), 0)
			payload := make([]byte, size)
			b.SetBytes(2 * int64(size))
			for b.Loop() {
				if _, ok := slot.Push(task(1, 1), payload); !ok {
					b.Fatal("full")
				}
				slot.Publish()
				if _, err := worker.Recv(); err != nil {
					b.Fatal(err)
				}
				if err := worker.TrySend(result(1, 1), payload); err != nil {
					b.Fatal(err)
				}
				if _, _, ok, err := slot.Result(); !ok || err != nil {
					b.Fatal(ok, err)
				}
				slot.Release()
			}
		})
	}
}

// The parent's part of handing a task over.
func BenchmarkPush(b *testing.B) {
	slot, worker := newSlot(b, newMemory(b), 0)
	payload := make([]byte, 64)
	for b.Loop() {
		if _, ok := slot.Push(task(1, 1), payload); !ok {
			// The worker has taken everything.
			copy(worker.Memory[ring.OffTaskHead:ring.OffTaskHead+8], worker.Memory[ring.OffTaskTail:])
			continue
		}
		slot.Publish()
	}
}

// The parent's part of taking a result.
func BenchmarkResult(b *testing.B) {
	slot, worker := newSlot(b, newMemory(b), 0)
	payload := make([]byte, 64)
	for b.Loop() {
		_, _, ok, err := slot.Result()
		if err != nil {
			b.Fatal(err)
		}
		if ok {
			slot.Release()
			continue
		}
		b.StopTimer()
		for worker.TrySend(result(1, 1), payload) == nil {
		}
		b.StartTimer()
	}
}

// The parent takes back a task that the worker has not begun, by compare-and-swap on the claim word.
func BenchmarkTakeBack(b *testing.B) {
	slot, worker := newSlot(b, newMemory(b), 0)
	payload := make([]byte, 64)
	for b.Loop() {
		position, ok := slot.Push(task(1, 1), payload)
		if !ok {
			b.Fatal("full")
		}
		slot.Publish()
		if _, _, ok := slot.TakeBack(position, len(payload), 1, 1); !ok {
			b.Fatal("the worker has begun it")
		}
		if _, ok := worker.Claim(); ok { // it passes over what has been taken back
			b.Fatal("a task is left")
		}
	}
}

// A task for a worker that sleeps, and its result: a futex wake, and a switch to another thread.
func BenchmarkWake(b *testing.B) {
	slot, worker := newSlot(b, newMemory(b), 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			task, err := worker.Recv()
			if err != nil || worker.TrySend(result(task.Job, task.Index), nil) != nil {
				return
			}
		}
	}()
	for b.Loop() {
		for !worker.Sleeping() {
			runtime.Gosched()
		}
		if _, ok := slot.Push(task(1, 1), nil); !ok {
			b.Fatal("full")
		}
		slot.Publish()
		for {
			_, _, ok, err := slot.Result()
			if err != nil {
				b.Fatal(err)
			}
			if ok {
				break
			}
			runtime.Gosched()
		}
		slot.Release()
	}
	slot.Stop()
	<-done
}
