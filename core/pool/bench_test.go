package pool

import (
	"fmt"
	"sync"
	"testing"

	"github.com/goproc/goproc/core/ring"
)

// A task goes in, and its result comes out. The same thread plays the worker. So this is what the engine's calls cost.
func BenchmarkSubmitCollect(b *testing.B) {
	for _, workers := range []int{1, 2, 64} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			p, _ := newPumpedPool(b)
			var hands []*hand
			for range workers {
				hands = append(hands, hire(b, p, 0))
			}
			payload, buffer := make([]byte, 64), make([]byte, 128<<10)
			for b.Loop() {
				if err := p.Submit(ring.Frame{Job: 1}, payload); err != nil {
					b.Fatal(err)
				}
				for _, h := range hands {
					task, ok := h.Claim()
					if !ok {
						continue
					}
					h.Advance()
					result := resultOf(task)
					result.Busy = 10
					if err := h.TrySend(result, payload); err != nil {
						b.Fatal(err)
					}
					break
				}
				if p.Collect(buffer) == 0 {
					b.Fatal("nothing has completed")
				}
			}
		})
	}
}

// A stream of tasks through two workers that run at the same time, and a thread that waits for the results.
func BenchmarkStream(b *testing.B) {
	for _, size := range []int{64, 4096} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			p, _ := newPumpedPool(b)
			collector := newCollector(b, p)
			var working sync.WaitGroup
			defer working.Wait()
			defer p.Terminate()
			for range 2 {
				h := hire(b, p, 0)
				working.Go(func() { echo(h) })
			}
			payload := make([]byte, size)
			submitted, collected := 0, 0
			take := func() {
				completed := collector.Collect(p.Collect, patience)
				if len(completed) == 0 {
					b.Fatal("nothing completes")
				}
				collected += len(completed)
			}
			b.SetBytes(2 * int64(size))
			for b.Loop() {
				if err := p.Submit(ring.Frame{Job: 1, Index: uint64(submitted)}, payload); err != nil {
					b.Fatal(err)
				}
				if submitted++; submitted-collected > 256 {
					take()
				}
			}
			for collected < submitted {
				take()
			}
		})
	}
}

// Tasks that are submitted before there is a worker.
func BenchmarkSubmitToTheQueue(b *testing.B) {
	p, _ := newPumpedPool(b)
	payload := make([]byte, 64)
	for b.Loop() {
		if err := p.Submit(ring.Frame{Job: 1}, payload); err != nil {
			b.Fatal(err)
		}
	}
}

// Tasks that come in one frame: what each of them costs, in and out.
func BenchmarkBatch(b *testing.B) {
	for _, size := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("tasks=%d", size), func(b *testing.B) {
			p, _ := newPumpedPool(b)
			h := hire(b, p, 0)
			p.believe(1) // so short that the worker is given a whole batch
			payload, buffer := make([]byte, 64), make([]byte, 128<<10)
			tasks := 0
			for b.Loop() {
				if tasks%size == 0 {
					f := ring.Frame{Job: 1, Index: uint64(tasks), End: uint32(size)}
					if err := p.Submit(f, payload); err != nil {
						b.Fatal(err)
					}
				}
				tasks++
				task, ok := h.Claim()
				if !ok {
					b.Fatal("no task is there")
				}
				h.Advance()
				result := resultOf(task)
				result.Busy = 1
				if err := h.TrySend(result, nil); err != nil {
					b.Fatal(err)
				}
				if p.Collect(buffer) == 0 {
					b.Fatal("nothing has completed")
				}
			}
		})
	}
}

// One of two tasks waits behind a task that does not end, until it is taken back and given to the idle worker.
func BenchmarkBalance(b *testing.B) {
	p, _ := newPumpedPool(b)
	stuck := hire(b, p, 0)
	p.believe(1)
	payload, buffer := make([]byte, 64), make([]byte, 128<<10)
	submit := func() {
		if err := p.Submit(ring.Frame{Job: 1}, payload); err != nil {
			b.Fatal(err)
		}
	}
	submit()
	if _, ok := stuck.Claim(); !ok {
		b.Fatal("no task is there")
	}
	stuck.Advance()
	other := hire(b, p, 0)
	for b.Loop() {
		submit()
		submit()
		for range 2 {
			task, ok := other.Claim()
			if !ok {
				b.Fatal("no task has come to the worker that has nothing")
			}
			other.Advance()
			result := resultOf(task)
			result.Busy = 1
			if err := other.TrySend(result, payload); err != nil {
				b.Fatal(err)
			}
			if p.Collect(buffer) == 0 {
				b.Fatal("nothing has completed")
			}
		}
	}
}
